"""Which models can be told apart over what they share: ranks, mean ranks, and the pairs that a test separates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from cellgauge.report.charts import rank_diagram
from cellgauge.results.compare import Result
from cellgauge.results.entries import Variant
from cellgauge.results.numbers import DASH
from cellgauge.results.ranking import cliques, letters_of
from cellgauge.results.read import Tables

MANY = 4
"""So many models that stand together are named by the first of them."""


def contest(tables: Tables, task: str, dataset: str, variant: Variant, caption: str) -> dict[str, Any] | None:
    """Return the models that are ranked in one variant of a metric on one dataset, the best mean rank first.

    A row is a model with its rank and mean rank, the letters that it shares with those it is not told apart from, and whom it
    beats. `diagram` is the critical-difference diagram of these rows; `over` is what the models are compared over, "26 splits".
    None where nothing that the models share allows a test.
    """
    result = Result(tables, task, dataset, variant)
    if not result.contest:
        return None
    ranks = result.contest
    order = sorted(ranks, key=lambda model: (ranks[model]["mean_rank"], ranks[model]["rank"]))
    better = {frozenset(pair): ahead for pair in combinations(order, 2) if (ahead := result.ahead(*pair))}
    groups = cliques(order, better)
    letters = letters_of(groups)
    rows = []
    for model in order:
        beaten = [other for other in order if better.get(frozenset((model, other))) == model]
        shared = "".join(letter for letter, group in letters if model in group).strip(",")
        mean_rank = ranks[model]["mean_rank"]
        about = {"rank": result.rank(model), "mean_rank": mean_rank, "letters": shared}
        rows.append({"model": tables.models[model], **about, "ahead_of": _named(beaten, order, tables)})
    points = [(row["model"].title, row["mean_rank"]) for row in rows]
    bars = [(letter, [order.index(model) for model in group]) for letter, group in letters if len(group) > 1]
    about = {**vars(variant), "dataset": dataset}
    return {
        "caption": caption,
        "about": about,
        "rows": rows,
        "diagram": rank_diagram(points, bars),
        "over": result.over,
    }


def _named(beaten: Sequence[str], order: Sequence[str], tables: Tables) -> str:
    """Return models as text; many of them that stand together at the end of the ranks by the first of them."""
    titles = [tables.models[model].title for model in beaten]
    if 1 < len(beaten) == len(order) - 1:
        return "all others"
    if len(beaten) >= MANY and list(beaten) == list(order[-len(beaten) :]):
        return f"all {len(beaten)} from {titles[0]} down"
    return ", ".join(titles) or DASH

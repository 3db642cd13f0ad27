"""Which models can be told apart over what they share: ranks, mean ranks, and the pairs that a test separates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import combinations
from string import ascii_letters
from typing import Any

from cellgauge.report.charts import rank_diagram
from cellgauge.results.compare import Result
from cellgauge.results.entries import Entry
from cellgauge.results.numbers import DASH

MANY = 4
"""So many models that stand together are named by the first of them."""


def contest(result: Result, caption: str) -> dict[str, Any] | None:
    """Return the models that are ranked in one variant of a metric on one dataset, the best mean rank first.

    A row is a model with its rank and mean rank, the letters that it shares with those it is not told apart from, and whom it
    beats. `diagram` is the critical-difference diagram of these rows; `over` is what the models are compared over, "26 splits".
    None where nothing that the models share allows a test.
    """
    if not result.contest:
        return None
    models, ranks = result.tables.models, result.contest
    order = sorted(ranks, key=lambda model: (ranks[model]["mean_rank"], ranks[model]["rank"]))
    better = {frozenset(pair): ahead for pair in combinations(order, 2) if (ahead := result.ahead(*pair))}
    letters = letters_of(cliques(order, better))
    rows = [
        {
            "model": models[model],
            "rank": result.rank(model),
            "mean_rank": ranks[model]["mean_rank"],
            "letters": "".join(letter for letter, group in letters if model in group).strip(","),
            "ahead_of": _named(
                [other for other in order if better.get(frozenset((model, other))) == model], order, models
            ),
        }
        for model in order
    ]
    points = [(row["model"].title, row["mean_rank"]) for row in rows]
    bars = [(letter, [order.index(model) for model in group]) for letter, group in letters if len(group) > 1]
    about = {"caption": caption, "about": result.about, "over": result.over}
    return {**about, "rows": rows, "diagram": rank_diagram(points, bars)}


def _named(beaten: Sequence[str], order: Sequence[str], models: Mapping[str, Entry]) -> str:
    """Return models as text; many of them that stand together at the end of the ranks by the first of them."""
    titles = [models[model].title for model in beaten]
    if 1 < len(beaten) == len(order) - 1:
        return "all others"
    if len(beaten) >= MANY and list(beaten) == list(order[-len(beaten) :]):
        return f"all {len(beaten)} from {titles[0]} down"
    return ", ".join(titles) or DASH


def cliques(order: Sequence[str], better: Mapping[frozenset[str], str]) -> list[list[str]]:
    """Return the largest groups of models of which no test tells any two apart, those with the best ranks first.

    They are the maximal cliques of the graph that joins such pairs (Bron & Kerbosch 1973, Communications of the ACM 16,
    575-577); a model that is told apart from all others is a group of its own.

    Args:
        order: the models by mean rank.
        better: the better one of each pair that a test tells apart.
    """
    alike = {a: {b for b in order if b != a and frozenset((a, b)) not in better} for a in order}
    place = {model: n for n, model in enumerate(order)}
    groups = [sorted(group, key=place.__getitem__) for group in _cliques(set(), set(order), set(), alike)]
    return sorted(groups, key=lambda group: [place[model] for model in group])


def _cliques(
    group: set[str], candidates: Set[str], done: Set[str], alike: Mapping[str, Set[str]]
) -> Iterator[set[str]]:
    if not candidates and not done:
        yield group
        return
    pivot = max(candidates | done, key=lambda model: len(candidates & alike[model]))
    for model in candidates - alike[pivot]:
        yield from _cliques(group | {model}, candidates & alike[model], done & alike[model], alike)
        candidates, done = candidates - {model}, done | {model}


def letters_of(groups: Sequence[Sequence[str]]) -> list[tuple[str, Sequence[str]]]:
    """Return each group with its letter: a to z, A to Z, then numbers set apart by commas."""
    names = [*ascii_letters, *(f",{n}" for n in range(len(ascii_letters) + 1, len(groups) + 1))]
    return list(zip(names, groups, strict=False))

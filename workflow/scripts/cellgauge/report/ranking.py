"""Which models can be told apart over splits (of a screen: conditions): mean ranks, and the pairs that a test separates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellgauge.report.charts import rank_diagram
from cellgauge.results.entries import Entry, Variant
from cellgauge.results.numbers import DASH
from cellgauge.results.read import Tables
from cellgauge.results.uncertainty import ALPHA

if TYPE_CHECKING:
    from markupsafe import Markup
from cellgauge.results.ranking import cliques, least_p, letters_of

MANY = 4
"""So many models that stand together are named by the first of them."""


@dataclass(frozen=True)
class Contestant:
    """One model: its mean rank, the letters that it shares with those it is not told apart from, and whom it beats in words."""

    model: Entry
    rank: float
    letters: str
    ahead_of: str


@dataclass(frozen=True)
class Contest:
    """The models that have every split of a dataset, for one variant of a metric, the best mean rank first.

    `diagram` is the critical-difference diagram of these rows.
    """

    caption: str
    about: Mapping[str, str]
    rows: Sequence[Contestant]
    diagram: Markup
    n_splits: int
    p_friedman: float
    critical_difference: float
    witnesses: str = "split"

    @property
    def least_p(self) -> float:
        return least_p(len(self.rows), self.n_splits)

    @property
    def is_hopeless(self) -> bool:
        """Whether no pair could be told apart, whatever the values."""
        return self.least_p >= ALPHA and all(row.ahead_of == DASH for row in self.rows)


def contest(tables: Tables, task: str, dataset: str, variant: Variant, caption: str) -> Contest | None:
    """Return the contest of one variant of a metric, None where there are too few splits or models for one."""
    ranked = tables.contests.get((task, dataset, variant))
    if not ranked:
        return None
    better = tables.better.get((task, dataset, variant), {})
    order = sorted(ranked, key=lambda model: ranked[model]["mean_rank"])
    facts = ranked[order[0]]
    groups = cliques(order, better)
    letters = letters_of(groups)
    rows = []
    for model in order:
        rank = ranked[model]["mean_rank"]
        beaten = [other for other in order if better.get(frozenset((model, other))) == model]
        own = "".join(letter for letter, group in letters if model in group).strip(",")
        rows.append(Contestant(tables.models[model], rank, own, _named(beaten, order, tables)))
    points = [(row.model.title, row.rank) for row in rows]
    bars = [(letter, [order.index(model) for model in group]) for letter, group in letters if len(group) > 1]
    about = {**vars(variant), "dataset": dataset}
    facts_of = (int(facts["n_splits"]), facts["p_friedman"], facts["critical_difference"])
    return Contest(caption, about, rows, rank_diagram(points, bars), *facts_of, tables.tasks[task].witness)


def _named(beaten: Sequence[str], order: Sequence[str], tables: Tables) -> str:
    """Return models as text; many of them that stand together at the end of the ranks by the first of them."""
    titles = [tables.models[model].title for model in beaten]
    if 1 < len(beaten) == len(order) - 1:
        return "all others"
    if len(beaten) >= MANY and list(beaten) == list(order[-len(beaten) :]):
        return f"all {len(beaten)} from {titles[0]} down"
    return ", ".join(titles) or DASH

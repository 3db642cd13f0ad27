"""Which models can be told apart over splits (of a screen: conditions): mean ranks, and the pairs that a test separates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import TYPE_CHECKING

from cellgauge.report.charts import strip
from cellgauge.report.data import Entry, Tables, Variant

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Contestant:
    """One model: its mean rank, the letters that it shares with those it is not told apart from, and whom it beats."""

    model: Entry
    rank: float
    picture: Markup
    letters: str
    ahead_of: Sequence[str]


@dataclass(frozen=True)
class Contest:
    """The models that have every split of a dataset, for one variant of a metric, the best mean rank first."""

    caption: str
    about: Mapping[str, str]
    rows: Sequence[Contestant]
    n_splits: int
    p_friedman: float
    critical_difference: float
    witnesses: str = "split"


def contest(tables: Tables, task: str, dataset: str, variant: Variant, caption: str) -> Contest | None:
    """Return the contest of one variant of a metric, None where there are too few splits or models for one."""
    ranked = tables.contests.get((task, dataset, variant))
    if not ranked:
        return None
    better = tables.better.get((task, dataset, variant), {})
    order = sorted(ranked, key=lambda model: ranked[model]["mean_rank"])
    facts = ranked[order[0]]
    half, n = facts["critical_difference"] / 2, len(order)
    letters = letter_groups(order, better)
    rows = []
    for model in order:
        rank = ranked[model]["mean_rank"]
        said = f"mean rank {rank:.2f}, plus or minus {half:.2f}"
        picture = strip([rank], rank, 1, n, (rank - half, rank + half), said=said)
        beaten = [tables.models[other].title for other in order if better.get(frozenset((model, other))) == model]
        rows.append(Contestant(tables.models[model], rank, picture, letters[model], beaten))
    about = {**vars(variant), "dataset": dataset}
    witnesses = "condition" if tables.is_screen(dataset) else "split"
    facts_of = (int(facts["n_splits"]), facts["p_friedman"], facts["critical_difference"])
    return Contest(caption, about, rows, *facts_of, witnesses)


def letter_groups(order: Sequence[str], better: Mapping[frozenset[str], str]) -> dict[str, str]:
    """Return the letters of each model: those of one letter stand side by side and no test tells any two of them apart.

    Args:
        order: the models by mean rank.
        better: the better one of each pair that a test tells apart.
    """
    found: dict[str, str] = dict.fromkeys(order, "")
    for letter, (start, end) in zip(ascii_lowercase, _runs(order, better), strict=False):
        for model in order[start:end]:
            found[model] += letter
    return found


def _runs(order: Sequence[str], better: Mapping[frozenset[str], str]) -> Iterator[tuple[int, int]]:
    """Yield the longest runs of models without a pair that is told apart, as (first, one past the last)."""
    reached = 0
    for start in range(len(order)):
        end = start + 1
        while end < len(order) and not any(better.get(frozenset((order[end], m))) for m in order[start:end]):
            end += 1
        if end > reached:
            yield start, end
            reached = end

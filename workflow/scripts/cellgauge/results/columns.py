"""Which scores stand for a task: the columns of every overview."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cellgauge.results import words
from cellgauge.results.compare import Result
from cellgauge.results.entries import Metric, Missing, Task, Variant
from cellgauge.results.read import Tables


@dataclass(frozen=True)
class Column:
    """One column: `key` names it in permalinks, `group` is the heading that it shares with its neighbors.

    `task` is what the filter hides it by, `about` stands small below the title, `note` is its note below the table.
    """

    key: str
    title: str
    metric: Metric
    group: str = ""
    task: str = ""
    about: str = ""
    note: Missing | None = None


def columns(tables: Tables, task: Task, dataset: str, profile: str) -> Iterator[tuple[Result, Column]]:
    """Yield the result and the column of each score of a task, of the classifier that stands for the score.

    The subset is one that applies to at least half as many splits as the one that applies to most of them.
    """
    scores = [v for v in tables.scored(task.name, dataset) if v.profile == profile]
    missing = tables.missing
    missing = missing[(missing["task"] == task.name) & (missing["dataset"] == dataset)]
    if (
        not any(v.profile == profile for v in tables.variants(task.name, dataset))
        and (missing["status"] == "failed").any()
    ):
        known = [metric.name for metric in task.metrics.values() if metric.is_score]
        scores = [
            Variant(profile, name, "", "", split_set) for split_set in tables.sets(task.name, dataset) for name in known
        ]
    for split_set, name in dict.fromkeys((v.set, v.metric) for v in scores):
        fitting = [v for v in scores if (v.set, v.metric) == (split_set, name)]
        n_splits = {v: len(Result(tables, task.name, dataset, v).splits) for v in fitting}
        widespread = [v for v in fitting if 2 * n_splits[v] >= max(n_splits.values())]
        result = Result(tables, task.name, dataset, words.usual(widespread))
        key, group = f"{task.slug}.{name}", task.title
        if len(tables.sets(task.name, dataset)) > 1:
            key, group = f"{key}.{split_set}", f"{group} ({tables.datasets[dataset].described(split_set, most=4)})"
        about = words.subset_if_any(result.variant.subset)
        yield result, Column(key, result.metric.title, result.metric, group, task.name, about)


def headlines(tables: Tables, task: Task, dataset: str, profile: str) -> list[Result]:
    """Return the score that stands for a task on a dataset, of each set of splits where the task spans splits.

    It is the one that the catalogue names (`headline` in config/tasks.yaml), else the first: verdicts, warnings, figures
    and the page of costs take this one.
    """
    results = [result for result, _ in columns(tables, task, dataset, profile)]
    first: dict[str, Result] = {}
    for result in sorted(results, key=lambda result: result.variant.metric != task.headline):
        first.setdefault(result.variant.set, result)
    return [first[name] for name in dict.fromkeys(result.variant.set for result in results)]

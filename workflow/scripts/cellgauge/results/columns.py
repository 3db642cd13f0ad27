"""Which scores stand for a task: the columns of every overview."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cellgauge.results.compare import Result
from cellgauge.results.entries import Metric, Missing, Task, Variant
from cellgauge.results.read import Tables
from cellgauge.results.words import subset, usual


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


def columns(tables: Tables, task: Task, dataset: str, profile: str) -> Iterator[tuple[str, Variant, Column]]:
    """Yield a column for each score of a task, of the classifier that stands for the score."""
    variants = [v for v in tables.variants(task.name, dataset) if v.profile == profile]
    scores = [v for v in variants if tables.metric(task.name, v.metric).is_score]
    missing = tables.missing
    missing = missing[(missing["task"] == task.name) & (missing["dataset"] == dataset)]
    if not variants and (missing["status"] == "failed").any():
        known = [metric.name for metric in task.metrics.values() if metric.is_score]
        scores = [
            Variant(profile, name, "", "", split_set) for split_set in tables.sets(task.name, dataset) for name in known
        ]
    for split_set, name in dict.fromkeys((v.set, v.metric) for v in scores):
        fitting = [v for v in scores if (v.set, v.metric) == (split_set, name)]
        variant = usual(_widespread(tables, task, dataset, fitting))
        metric = tables.metric(task.name, name)
        about = subset(variant.subset) if variant.subset else ""
        key, group = f"{task.slug}.{name}", task.title
        if len(tables.sets(task.name, dataset)) > 1:
            key, group = f"{key}.{split_set}", f"{group} ({tables.datasets[dataset].described(split_set, most=4)})"
        yield task.name, variant, Column(key, metric.title, metric, group, task.name, about)


def headlines(tables: Tables, task: Task, dataset: str, profile: str) -> list[Result]:
    """Return the score that stands for a task on a dataset, of each set of splits where the task spans splits.

    It is the one that the catalogue names (`headline` in config/tasks.yaml), else the first: verdicts, warnings, figures
    and the page of costs take this one.
    """
    variants = [variant for _, variant, _ in columns(tables, task, dataset, profile)]
    first: dict[str, Variant] = {}
    for variant in sorted(variants, key=lambda variant: variant.metric != task.headline):
        first.setdefault(variant.set, variant)
    return [Result(tables, task.name, dataset, first[name]) for name in dict.fromkeys(v.set for v in variants)]


def _widespread(tables: Tables, task: Task, dataset: str, variants: Sequence[Variant]) -> list[Variant]:
    """Return the variants that apply to at least half as many splits as the one that applies to most of them."""
    counts = [len(Result(tables, task.name, dataset, variant).splits) for variant in variants]
    return [variant for variant, n in zip(variants, counts, strict=True) if 2 * n >= max(counts)]

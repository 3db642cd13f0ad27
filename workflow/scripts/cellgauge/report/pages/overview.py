"""Overview: one table per dataset and profile, models x (task, metric), means over the dataset's splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from cellgauge.report.comparisons import by_metric
from cellgauge.report.heat import HeatTable
from cellgauge.report.pages import Page
from cellgauge.results import words
from cellgauge.results.columns import columns, headlines
from cellgauge.results.entries import Metric, Task
from cellgauge.results.read import Tables
from cellgauge.results.verdicts import ControlWarning, Verdict, verdict, warnings

MANY = 8
"""With fewer splits than this in all, the page says that the run is too small to rank models."""


def pages(tables: Tables) -> Iterator[Page]:
    """Yield the overview."""
    every = [_table(tables, dataset, profile) for profile in tables.profiles for dataset in tables.datasets]
    shown = [table for table in every if table]
    context = {
        "shown": shown,
        "warnings": [one for task in tables.tasks.values() for one in warnings_of(tables, task)],
        "verdicts": list(_verdicts(tables)),
        "metrics": _metrics(tables, shown),
        "facts": facts(tables),
        "small": n_splits(tables) < MANY,
    }
    yield Page("overview", "Overview", "overview.html", context, ("profile", "dataset", "task", "model"))


def _table(tables: Tables, dataset: str, profile: str) -> HeatTable | None:
    shown = [column for task in tables.tasks.values() for column in columns(tables, task, dataset, profile)]
    n = max((len(tables.splits(name, dataset)) for name, task in tables.tasks.items() if not task.spans), default=0)
    over = f"means over {n} splits" if n > 1 else "one split"
    caption = f"{tables.datasets[dataset].title}: {over}, {words.profile(profile)} scores"
    return by_metric(tables, dataset, shown, caption, {"profile": profile})


def _verdicts(tables: Tables) -> Iterator[Verdict]:
    for profile in tables.profiles:
        for task in tables.tasks.values():
            for dataset in tables.datasets:
                for result in headlines(tables, task, dataset, profile):
                    said = verdict(result, task)
                    if said:
                        yield said


def warnings_of(tables: Tables, task: Task) -> Iterator[ControlWarning]:
    """Yield what a task's headline scores say of the controls that do not do what controls should."""
    for profile, dataset in product(tables.profiles, tables.datasets):
        for result in headlines(tables, task, dataset, profile):
            yield from warnings(result, task)


def _metrics(tables: Tables, shown: Sequence[HeatTable]) -> dict[str, list[Metric]]:
    """Return the metrics of the tables by the titles of their tasks, to be explained below them."""
    found: dict[str, dict[str, Metric]] = {}
    for column in (column for table in shown for column in table.columns):
        found.setdefault(tables.tasks[column.task].title, {})[column.metric.name] = column.metric
    return {title: list(metrics.values()) for title, metrics in found.items()}


def n_splits(tables: Tables) -> int:
    """Return the number of splits that have any value, over all datasets."""
    return sum(len(splits) for splits in _cells_of(tables).values())


def facts(tables: Tables) -> list[tuple[str, str, str]]:
    """Return what was run, in numbers: (number, what, the page that tells more or "")."""
    cells = _cells_of(tables)
    counts = [
        (len(tables.models), "model", "models", "catalogue"),
        (len(cells), "dataset", "datasets", "catalogue"),
        (sum(map(len, cells.values())), "split", "splits", ""),
        (int(sum(n for splits in cells.values() for n in splits.values())), "cell", "cells", ""),
        (_n_failed(tables), "failed score file", "failed score files", "failures"),
    ]
    return [(f"{n:,}", one if n == 1 else many, page) for n, one, many, page in counts]


def _n_failed(tables: Tables) -> int:
    rows = tables.missing[tables.missing["status"] == "failed"]
    return len(rows.drop_duplicates(["task", "model", "dataset", "split"]))


def _cells_of(tables: Tables) -> dict[str, dict[str, float]]:
    """Return how many cells each split has, by dataset: the most that any model was scored on."""
    sizes: dict[str, dict[str, float]] = {}
    spanned: dict[str, dict[str, float]] = {}
    for (_, dataset, variant), values in tables.values.items():
        own = (spanned if variant.set else sizes).setdefault(dataset, {})
        for (_, split), value in values.items():
            own[split] = max(own.get(split, 0.0), value if variant.metric == "n_cells" else 0.0)
    for dataset, own in spanned.items():
        largest = max(own, key=own.__getitem__)
        sizes.setdefault(
            dataset, {largest: own[largest]}
        )  # sets share cells: only the largest, and only without splits
    return {dataset: sizes[dataset] for dataset in tables.datasets if dataset in sizes}

"""Overview: of each dataset and profile a picture per task, and one table, models x (task, metric) and facts of the models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from cellgauge.report.answers import answers
from cellgauge.report.comparisons import by_metric
from cellgauge.report.heat import Cell, HeatTable, Row
from cellgauge.report.pages import Page
from cellgauge.report.published import published_means
from cellgauge.results import words
from cellgauge.results.columns import Column, columns
from cellgauge.results.compare import Result
from cellgauge.results.entries import Entry, Metric
from cellgauge.results.numbers import DASH, number
from cellgauge.results.read import Tables

MANY = 8
"""With fewer splits than this in all, the page says that the run is too small to rank models."""
FEW_DONORS = 10
"""Over fewer donors than this intervals are so wide that a test tells few models apart; the page says so."""
FACTS = {"n_dims": "Dimensions", "parameters": "Parameters", "licence": "License", "training": "Trained on"}


def pages(tables: Tables) -> Iterator[Page]:
    """Yield the overview."""
    pairs = list(product(tables.profiles, tables.datasets))
    heats = [table for profile, dataset in pairs if (table := _table(tables, dataset, profile))]
    context = {
        "heats": heats,
        "parts": [part for profile, dataset in pairs if (part := _part(tables, dataset, profile))["answers"]],
        "metrics": _metrics(tables, heats),
        "facts": facts(tables),
        "n_splits": n_splits(tables),
        "small": n_splits(tables) < MANY,
    }
    yield Page("overview", "Overview", "overview.html", context, ("profile", "dataset", "task", "model", "scale"))


def _part(tables: Tables, dataset: str, profile: str) -> dict[str, Any]:
    """Return the answers of one dataset in one profile; `few` says so where their intervals are over few donors."""
    of_tasks = list(answers(tables, dataset, profile))
    rows = tables.summary[(tables.summary["dataset"] == dataset) & (tables.summary["profile"] == profile)]
    n_donors = rows.loc[rows["resampled"] == "donors", "n_resampled"].max()
    few = f"{n_donors:.0f} donors" if n_donors < FEW_DONORS else ""
    return {"dataset": tables.datasets[dataset], "profile": profile, "answers": of_tasks, "few": few}


def _table(tables: Tables, dataset: str, profile: str) -> HeatTable | None:
    chosen = [column for task in tables.tasks.values() for column in columns(tables, task, dataset, profile)]
    n = max((len(tables.splits(name, dataset)) for name, task in tables.tasks.items() if not task.spans), default=0)
    over = f"means over {n} splits" if n > 1 else "one split"
    caption = f"{tables.datasets[dataset].title}: {over}, {words.profile(profile)} scores"
    table = by_metric(chosen, caption, {"profile": profile})
    return _with_facts(_with_published(table, [result for result, _ in chosen])) if table else None


def _with_published(table: HeatTable, results: Sequence[Result]) -> HeatTable:
    """Return the table with a row below each model for what others published of it; those not run here stand last."""
    added: dict[tuple[str, str], Row] = {}
    for place, result in enumerate(results):
        for model, source, mean in published_means(result):
            row = added.setdefault((model.name, source), Row(model, [Cell(DASH)] * len(results)))
            cell = Cell(number(mean, result.metric), scaled=result.scaled(mean))
            added[model.name, source] = replace(row, cells=[*row.cells[:place], cell, *row.cells[place + 1 :]])
    rows = []
    for row in table.rows:
        rows += [row, *(added.pop(key) for key in [*added] if key[0] == row.model.name)]
    return replace(table, rows=[*rows, *added.values()])


def _with_facts(table: HeatTable) -> HeatTable:
    """Return the table with what the catalogue says of each model in further columns, those that say anything."""
    columns = [(key, title) for key, title in FACTS.items() if any(row.model.facts.get(key) for row in table.visible)]
    added = [Column(f"about.{key}", title, Metric(key, title), "About the model") for key, title in columns]
    facts = {row.model.name: [Cell(_fact(row.model, key), is_text=True) for key, _ in columns] for row in table.visible}
    rows = [replace(row, cells=[*row.cells, *facts.get(row.model.name, ())]) for row in table.rows]
    return replace(table, columns=[*table.columns, *added], rows=rows)


def _fact(model: Entry, key: str) -> str:
    text = model.facts.get(key) or DASH
    return f"{int(text):,}" if text.isdecimal() else text


def _metrics(tables: Tables, heats: Sequence[HeatTable]) -> dict[str, list[Metric]]:
    """Return the metrics of the tables by the titles of their tasks, to be explained below them."""
    metrics_of: dict[str, dict[str, Metric]] = {}
    for column in (column for table in heats for column in table.columns if column.metric.is_score):
        metrics_of.setdefault(tables.tasks[column.task].title, {})[column.metric.name] = column.metric
    return {title: list(metrics.values()) for title, metrics in metrics_of.items()}


def n_splits(tables: Tables) -> int:
    """Return the number of splits that have any value, over all datasets."""
    return sum(len(splits) for splits in _cells_of(tables).values())


def facts(tables: Tables) -> list[tuple[str, str, str]]:
    """Return what was run, in numbers: (number, what, the page that tells more or "")."""
    cells, failed = _cells_of(tables), tables.missing[tables.missing["status"] == "failed"]
    counts = [
        (len(tables.models), "model", "models", "catalogue"),
        (len(cells), "dataset", "datasets", "catalogue"),
        (sum(map(len, cells.values())), "split", "splits", ""),
        (int(sum(n for splits in cells.values() for n in splits.values())), "cell", "cells", ""),
        (len(failed.drop_duplicates(["task", "model", "dataset", "split"])), "failed job", "failed jobs", "gaps"),
    ]
    return [(f"{n:,}", one if n == 1 else many, page) for n, one, many, page in counts]


def _cells_of(tables: Tables) -> dict[str, dict[str, float]]:
    """Return how many cells each split has, by dataset: the most that any model was scored on."""
    sizes = {}
    n_cells = tables.best["value"].where(tables.best["metric"] == "n_cells", 0.0)
    for dataset, rows in tables.best.assign(value=n_cells).groupby("dataset", sort=False):
        whole = rows[rows["set"] == ""].groupby("split")["value"].max()
        if whole.empty:  # sets share cells: only the largest, and only without splits
            whole = rows.groupby("split")["value"].max().nlargest(1)
        sizes[dataset] = whole.to_dict()
    return {dataset: sizes[dataset] for dataset in tables.datasets if dataset in sizes}

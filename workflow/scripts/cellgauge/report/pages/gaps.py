"""What failed and what does not apply, with the reason of each, and what the readers of files left out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from cellgauge.report.pages import Page
from cellgauge.results import words
from cellgauge.results.entries import Entry
from cellgauge.results.numbers import readable
from cellgauge.results.read import Tables

MOST_NAMES = 4
"""So many of the parts that a reason concerns are named; the score files name all of them."""


NUMBERS = re.compile(r"(?<![\w.])\d[\d,.]*(?![\w])")
"""Numbers in a reason, but for those that belong to a name."""
MOST_ROWS = 30
"""Scores that do not apply are folded by task where they take more rows than this."""


def pages(tables: Tables) -> Iterator[Page]:
    """Yield the page, also when nothing is missing: that is worth saying."""
    gaps = list(_gaps(tables))
    notes = [(entry, split, "", text) for entry in tables.datasets.values() for split, text in entry.notes.items()]
    for model in tables.models.values():
        for place, text in model.notes.items():
            dataset, _, split = place.partition("/")
            notes.append((tables.datasets.get(dataset) or Entry(dataset, dataset), split, model.title, text))
    context = {
        "failed": [gap for gap in gaps if gap["status"] == "failed"],
        "notes": notes,
        "not_applicable": by_task([gap for gap in gaps if gap["status"] != "failed"]),
    }
    yield Page("gaps", "Gaps", "gaps.html", context, ("task", "dataset", "model"))


def by_task(gaps: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the gaps by task where there are many, else all of them under ""."""
    if len(gaps) <= MOST_ROWS:
        return {"": list(gaps)} if gaps else {}
    tasks = dict.fromkeys(gap["task"] for gap in gaps)
    return {task: [gap for gap in gaps if gap["task"] == task] for task in tasks}


def _gaps(tables: Tables) -> Iterator[dict[str, Any]]:
    """Put rows with the same reason together, first over metrics, then over splits, then over models.

    Reasons that differ in numbers alone are one, with N in their place.
    """
    reasons: dict[str, set[str]] = {}
    for reason in tables.missing["reason"].unique():
        reasons.setdefault(NUMBERS.sub("N", str(reason)), set()).add(reason)
    shown = {reason: text if len(alike) > 1 else reason for text, alike in reasons.items() for reason in alike}
    cells: dict[tuple, dict[str, dict[str, None]]] = {}
    for row in tables.missing.to_dict("records"):
        key = (row["status"], row["task"], row["dataset"], shown[row["reason"]], row["model"], row["split"])
        parts = cells.setdefault(key, {})
        for column in ("profile", "metric", "classifier", "subset", "condition", "fold"):
            if row[column] == row[column] and row[column] != "":
                parts.setdefault(column, {})[_named(tables, row["task"], column, row[column])] = None
    over_splits: dict[tuple, list[str]] = {}
    for (status, task, dataset, reason, model, split), parts in cells.items():
        what = " \N{MIDDLE DOT} ".join(_few(list(names)) for names in parts.values())
        over_splits.setdefault((status, task, dataset, reason, what, model), []).append(split)
    over_models: dict[tuple, list[str]] = {}
    for (status, task, dataset, reason, what, model), splits in over_splits.items():
        over_models.setdefault((status, task, dataset, reason, what, tuple(splits)), []).append(model)
    for (status, task, dataset, reason, what, splits), models in over_models.items():
        every = len(splits) > 1 and set(splits) == set(tables.splits(task, dataset))
        names = "all" if every else ", ".join(map(readable, splits))
        place = {"task": task, "dataset": dataset, "models": models, "splits": names}
        yield {**place, "status": status, "what": what, "reason": reason}


def _few(names: Sequence[str]) -> str:
    """Return names as text, of many the first ones."""
    rest = [f"and {len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES + 1 else names[MOST_NAMES:]
    return "; ".join([*names[:MOST_NAMES], *rest])


def _named(tables: Tables, task: str, column: str, value: object) -> str:
    if column == "fold":
        return f"fold {int(value)}"
    as_words = {"profile": lambda name: f"{words.profile(name)} scores", "classifier": words.classifier}
    as_words |= {"subset": words.subset, "metric": lambda name: tables.metric(task, name).title}
    return as_words.get(column, str)(value)

"""Split by split: cells and labels, how well each label is found, which are mistaken, and a picture of each embedding."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cellgauge.report.matrices import LabelTable, label_table
from cellgauge.report.pages import Page
from cellgauge.results.entries import Metric, Variant
from cellgauge.results.numbers import readable
from cellgauge.results.read import Tables
from cellgauge.results.words import subset, usual

if TYPE_CHECKING:
    import pandas as pd

PICTURES_BYTES = 550_000
"""What the pictures of all embeddings may add to the page; the more there are, the fewer cells each shows."""
BYTES_PER_CELL = 8 / 3
"""Two coordinates of one byte each, as base64."""
LEAST_SHARE = 0.005
"""Mistakes of a smaller share of a label's cells are left out of the table of mistakes."""
ABSENT = 255
LabelValues = Mapping[tuple[str, Variant], Mapping[tuple[str, str], float]]
"""The values of single labels of a split, by task and variant, then by model and label."""


def pages(tables: Tables) -> Iterator[Page]:
    """Yield the page, unless nothing is known of any split."""
    splits = [facts for facts in _splits(tables) if facts["labels"] or facts["pictures"]]
    if splits:
        options = [(each["key"], f"{each['dataset'].title}: {readable(each['split'])}") for each in splits]
        context = {"splits": splits, "choices": [{"key": "split", "title": "Split", "options": options}]}
        yield Page("splits", "Splits", "splits.html", context, ("dataset", "model"))


def _splits(tables: Tables) -> Iterator[dict[str, Any]]:
    """Yield each split as its part of the page shows it; `pictures` and `mistakes` are JSON for its script, "" for none."""
    layouts = dict(list(tables.layouts.groupby(["dataset", "split"], observed=True)))
    n_pictures = len(tables.layouts.drop_duplicates(["model", "dataset", "split"]))
    n_cells = int(PICTURES_BYTES / BYTES_PER_CELL / max(n_pictures, 1))
    for name, dataset in tables.datasets.items():
        of_splits = [task for task, entry in tables.tasks.items() if not entry.spans]
        for split in dict.fromkeys(split for task in of_splits for split in tables.splits(task, name)):
            of_labels = {
                (task, v): rows for (task, *place, v), rows in tables.conditions.items() if place == [name, split]
            }
            sizes = _sizes(of_labels)
            pictures, n_pictured = _pictures(tables, layouts.get((name, split)), n_cells)
            yield {
                "dataset": dataset,
                "split": split,
                "key": f"{name}/{split}",  # names it in permalinks
                "organism": readable(dataset.organisms.get(split, "")),
                "facts": _facts(tables, name, split),
                "labels": _label_table(tables, of_labels, sizes, split),
                "pictures": pictures,
                "mistakes": _mistakes(tables, of_labels, sizes),
                "n_drawn": n_pictured,
            }


def _facts(tables: Tables, dataset: str, split: str) -> list[tuple[str, str]]:
    """Return the counts of a split: (number, what), the most that any model was scored on."""
    rows = tables.best[(tables.best["dataset"] == dataset) & (tables.best["split"] == split)]
    most = rows.groupby("metric")["value"].max()
    counts = [
        ("n_cells", "cell", "cells"),
        ("n_donors", "donor", "donors"),
        ("n_batches", "batch", "batches"),
        ("n_classes", "label predicted", "labels predicted"),
        ("n_classes_dropped", "label with too few cells to predict", "labels with too few cells to predict"),
        ("n_cells_dropped", "cell of such labels", "cells of such labels"),
    ]
    return [(f"{most[name]:,.0f}", one if most[name] == 1 else many) for name, one, many in counts if name in most]


def _sizes(of_labels: LabelValues) -> dict[str, float]:
    """Return how many cells carry each label: the most that any model was scored on."""
    sizes: dict[str, float] = {}
    for (_, variant), values in of_labels.items():
        if variant.metric == "n_cells":
            for (_, label), n in values.items():
                sizes[label] = max(n, sizes.get(label, 0))
    return sizes


def _usual(tables: Tables, of_labels: LabelValues, fits: Callable[[Metric, str], bool]) -> tuple[str, Variant] | None:
    """Return of the tasks and variants that fit, by metric and subset, the usual one: held-out donors first."""
    fitting = [
        (task, variant) for task, variant in of_labels if fits(tables.metric(task, variant.metric), variant.subset)
    ]
    variants = [variant for _, variant in fitting]
    return fitting[variants.index(usual(variants))] if fitting else None


def _label_table(tables: Tables, of_labels: LabelValues, sizes: Mapping[str, float], split: str) -> LabelTable | None:
    """Return the cells of each label, and the score of each model on it."""
    key = _usual(tables, of_labels, lambda metric, subset: metric.is_score and subset in metric.in_full)
    if key is None:
        return None
    task, variant = key
    metric = tables.metric(task, variant.metric)
    title = f"{metric.title} of each model ({subset(variant.subset)})"
    caption = f"Labels of {readable(split)}: cells, and {title}"
    return label_table(caption, tables.models, of_labels[key], metric, sizes, {}, "left out")


def _mistakes(tables: Tables, of_labels: LabelValues, sizes: Mapping[str, float]) -> str:
    """Return the shares of each label's cells that were given each label, as JSON: [true, predicted, share] by model."""
    key = _usual(tables, of_labels, lambda metric, subset: metric.of_pairs == "labels")
    if key is None:
        return ""
    pairs = {(model, *json.loads(pair)): n for (model, pair), n in of_labels[key].items()}
    labels = {label for _, *both in pairs for label in both}
    labels = sorted(labels, key=lambda label: (-sizes.get(label, 0), label))
    place = {label: n for n, label in enumerate(labels)}
    totals: dict[tuple[str, str], float] = {}
    for (model, true, _), n in pairs.items():
        totals[model, true] = totals.get((model, true), 0) + n
    models = []
    for name, entry in tables.models.items():
        shares = [
            [place[true], place[predicted], round(n / totals[name, true], 3)]
            for (model, true, predicted), n in pairs.items()
            if model == name and n > 0 and n >= LEAST_SHARE * totals[name, true]
        ]
        if shares:
            models.append([name, entry.title, shares])
    return _json({"labels": labels, "models": models, "scheme": subset(key[1].subset)}) if models else ""


def _pictures(tables: Tables, rows: pd.DataFrame | None, n_cells: int) -> tuple[str, int]:
    """Return as JSON labels, batches, their code per cell, and per model the places of the cells; and how many cells."""
    if rows is None or rows.empty:
        return "", 0
    cells = rows.drop_duplicates("cell").sort_values("cell")[["cell", "label", "batch"]]
    if len(cells) > n_cells:
        chosen = np.sort(np.random.default_rng(0).choice(len(cells), n_cells, replace=False))
        cells = cells.iloc[chosen]
    about: dict[str, Any] = {"models": []}
    for column in ("label", "batch"):
        values = cells[column].astype(str)
        names = list(values.value_counts(sort=True).index)[:ABSENT]
        code = {name: n for n, name in enumerate(sorted(names, key=lambda name: (-(values == name).sum(), name)))}
        about[column] = list(code) if list(code) != [""] else []
        about[f"{column}_of"] = _packed([code.get(value, ABSENT) for value in values])
    for name, entry in tables.models.items():
        of_model = rows[rows["model"] == name].drop_duplicates("cell")  # of several sets that a model joins the first
        of_model = of_model.set_index("cell")[["x", "y"]].reindex(cells["cell"])
        if of_model["x"].notna().any():
            places = np.where(np.isnan(of_model), ABSENT, np.round(of_model.to_numpy() * (ABSENT - 1)))
            about["models"].append([name, entry.title, _packed(places.ravel())])
    return _json(about), len(cells)


def _packed(codes: Any) -> str:
    return base64.b64encode(np.asarray(codes).astype(np.uint8).tobytes()).decode()


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

"""Predicted responses: one metric over the strata of a screen, every model on one axis with baselines and ceiling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from cellgauge.report import words
from cellgauge.report.charts import strip
from cellgauge.report.compare import Result, ends
from cellgauge.report.data import Metric, Tables, Task, Variant
from cellgauge.report.formats import number
from cellgauge.report.heat import Cell, Column, HeatTable, Row
from cellgauge.report.matrices import LabelTable, label_table
from cellgauge.report.scales import Scale

TASK = "perturbation"
IN_FULL = (("pearson_delta", "all"), ("mse", "top20_de"))
"""The metrics and genes of which every condition is shown."""


def strata_tables(tables: Tables, task: Task) -> Iterator[HeatTable]:
    """Yield models x strata for each score over one set of genes, with the conditions' values as a picture."""
    for dataset, entry in tables.datasets.items():
        variants = tables.variants(task.name, dataset)
        for variant in variants:
            metric = tables.metric(task.name, variant.metric)
            if "/" in variant.subset or not metric.is_score:
                continue
            strata = [v for v in variants if v.subset.startswith(f"{variant.subset}/") and _alike(v, variant)]
            what = f"{entry.title}: {metric.title}, {words.subset(variant.subset)}, profile {variant.profile}"
            yield _table(tables, dataset, variant, strata, metric, what)


def _alike(one: Variant, other: Variant) -> bool:
    return (one.profile, one.metric) == (other.profile, other.metric)


def _table(
    tables: Tables, dataset: str, variant: Variant, strata: list[Variant], metric: Metric, caption: str
) -> HeatTable:
    whole = Result(tables, TASK, dataset, variant)
    parts = [Result(tables, TASK, dataset, stratum) for stratum in strata]
    means = {model: mean for model, (mean, _) in whole.means.items()}
    scale = _scale([*means.values(), *(m for part in parts for m, _ in part.means.values())], metric)
    marks = [means[name] for name in tables.models if name in means and tables.models[name].kind == "control"]
    columns = [_column(part, stratum, metric) for part, stratum in zip(parts, strata, strict=True)]
    rows = []
    for model, entry in tables.models.items():
        cells = [_cell(part, model, metric, scale) for part in parts]
        if model not in means:
            rows.append(Row(entry, cells))
            continue
        values = [v for (m, _), v in tables.single_conditions.get((dataset, variant), {}).items() if m == model]
        interval = whole.interval(model)
        said = f"mean {number(means[model], metric)} of {len(values)} conditions"
        reach = (interval.low, interval.high) if interval else None
        picture = strip(values, means[model], scale.low, scale.high, reach, marks, said=said)
        covered = "" if len(values) == _n_conditions(tables, dataset, variant) else f"{len(values)} conditions"
        mean_cell = Cell(number(means[model], metric), extra=covered, interval=ends(interval, metric))
        rows.append(Row(entry, cells, mean_cell, picture))
    about = {**vars(variant), "dataset": dataset}
    return HeatTable(caption, columns, rows, about, scale.ends(metric), drawn=whole.drawn, marked=bool(marks))


def _cell(part: Result, model: str, metric: Metric, scale: Scale) -> Cell:
    mean, n = part.means.get(model, (0.0, 0))
    if not n:
        return Cell.gap(part.gap(model))
    return Cell(number(mean, metric), scale.level(mean), interval=ends(part.interval(model), metric))


def _column(part: Result, stratum: Variant, metric: Metric) -> Column:
    name = stratum.subset.partition("/")[2]
    return Column(name, words.STRATA.get(name, name), metric)


def _scale(values: list[float], metric: Metric) -> Scale:
    """Return the axis of the pictures: of all means, without those that are ten times as far out as most."""
    finite = np.array(values)
    if not metric.is_closed and len(finite) > 3:
        middle = np.median(finite)
        reach = 10 * max(np.median(np.abs(finite - middle)), 1e-9)
        finite = finite[np.abs(finite - middle) <= reach]
    return Scale.of(finite.tolist(), metric)


def _n_conditions(tables: Tables, dataset: str, variant: Variant) -> int:
    """Return how many conditions any model has a value of."""
    return len({condition for _, condition in tables.single_conditions.get((dataset, variant), {})})


def condition_tables(tables: Tables, task: Task) -> Iterator[LabelTable]:
    """Yield conditions x models for the metrics of IN_FULL."""
    for (dataset, variant), values in tables.single_conditions.items():
        if (variant.metric, variant.subset) in IN_FULL:
            metric = tables.metric(task.name, variant.metric)
            entry = tables.datasets[dataset]
            what = f"{metric.title} of each condition, {words.subset(variant.subset)}"
            caption = f"{entry.title}: {what}, profile {variant.profile}"
            about: Mapping[str, str] = {"profile": variant.profile, "dataset": dataset}
            table = label_table(caption, tables.models, values, metric, {}, about, heading="Condition")
            if table:
                yield table

"""The two comparisons of models: one metric over splits, and several metrics, each a mean over splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cellgauge.report.charts import strip
from cellgauge.report.heat import Cell, HeatTable, Row
from cellgauge.results.columns import Column
from cellgauge.results.compare import Result
from cellgauge.results.entries import Entry, Interval, Metric, Variant
from cellgauge.results.numbers import number, readable
from cellgauge.results.read import Tables
from cellgauge.results.scales import Scale

FEWEST_IN_A_PICTURE = 4
"""With fewer splits than this the numbers show their spread as well as a picture does."""


def by_split(tables: Tables, task: str, dataset: str, variant: Variant, caption: str) -> HeatTable | None:
    """Return models x splits for one variant of a metric; None when no model has a value."""
    result = Result(tables, task, dataset, variant)
    if not result.values:
        return None
    scale = Scale.of(result.values.values(), result.metric)
    species = _species(tables.datasets[dataset].organisms)
    splits = result.all_splits
    columns = [Column(split, readable(split), result.metric, about=species.get(split, "")) for split in splits]
    order = best_first(tables, result.means, result.metric)
    rows = [_row_of_splits(result, tables.models[model], scale) for model in order]
    spreads = [result.spread_title] if result.spread_title else []
    about = {**vars(variant), "dataset": dataset}
    return HeatTable(caption, columns, rows, about, scale.ends(result.metric), spreads, result.units)


def best_first(tables: Tables, means: Mapping[str, tuple[float, int]], metric: Metric | None) -> list[str]:
    """Return all models, the best mean first, those without one after them, controls at the end."""
    sign = 1 if metric and metric.higher_is_better is False else -1

    def place(model: str) -> tuple[bool, bool, float]:
        return tables.models[model].is_control, model not in means, sign * means.get(model, (0.0, 0))[0]

    return sorted(tables.models, key=place)


def _row_of_splits(result: Result, model: Entry, scale: Scale) -> Row:
    metric, splits = result.metric, result.all_splits
    cells = []
    for split in splits:
        value = result.values.get((model.name, split))
        if value is None:
            cells.append(Cell.gap(result.why(model.name, split)))
            continue
        remark, spread = result.remark(model.name, [split]), result.spread(model.name, split)
        short = result.split_shortfall(model.name, split)
        beside = "; ".join(filter(None, (spread, short)))
        cells.append(Cell(number(value, metric), None if short else scale.level(value), note=remark, extra=beside))
    values = [result.values[model.name, split] for split in splits if (model.name, split) in result.values]
    if len(values) < 2:
        return Row(model, cells)
    if len(splits) < FEWEST_IN_A_PICTURE:
        return Row(model, cells, mean_cell(result, model.name))
    alt = f"splits {number(min(values), metric)} to {number(max(values), metric)}"
    return Row(model, cells, mean_cell(result, model.name), picture(result, model.name, values, scale, alt=alt))


def mean_cell(result: Result, model: str) -> Cell:
    """Return a model's mean, its interval and what it lacks."""
    interval = ends(result.interval(model), result.metric)
    return Cell(number(result.means[model][0], result.metric), extra=result.shortfall(model), interval=interval)


def picture(result: Result, model: str, values: Sequence[float], scale: Scale, **about: Any) -> Any:
    """Return a picture of the values that a model's mean is of; `about` holds further arguments of `charts.strip`."""
    interval = result.interval(model)
    reach = (interval.low, interval.high) if interval else None
    return strip(values, result.means[model][0], scale.low, scale.high, reach, **about)


def ends(interval: Interval | None, metric: Metric) -> str:
    """Return the ends of an interval as text, "" for none."""
    return interval.text(metric) if interval else ""


def by_metric(
    tables: Tables, dataset: str, columns: Sequence[tuple[str, Variant, Column]], caption: str, about: Mapping[str, str]
) -> HeatTable | None:
    """Return models x metrics, each the mean over the splits of a dataset; None when no model has a value or failed.

    A model whose mean lacks splits, folds, cells, conditions or genes is neither ranked nor colored: it is of other cells than
    those of the others. Controls are not ranked; they bracket the others.

    Args:
        columns: (task, variant, column) of each.
    """
    results = [Result(tables, task, dataset, variant) for task, variant, _ in columns]
    of_columns = [_column_of_means(result) for result in results]
    order = best_first(tables, results[0].means if results else {}, results[0].metric if results else None)
    rows = [Row(tables.models[name], [cells[name] for cells in of_columns]) for name in order]
    if not any(row.applies for row in rows):
        return None
    headed = [replace(column, note=result.without()) for (_, _, column), result in zip(columns, results, strict=True)]
    spreads = dict.fromkeys(r.spread_title for r in results if r.spread_title and len(r.all_splits) == 1)
    units = dict.fromkeys(unit for r in results if r.metric.is_score for unit in r.units)
    return HeatTable(caption, headed, rows, {**about, "dataset": dataset}, spreads=list(spreads), units=list(units))


def _column_of_means(result: Result) -> dict[str, Cell]:
    """Return the cell of every model."""
    metric = result.metric
    scale = Scale.of(result.comparable.values(), metric) if result.comparable and metric.is_score else None
    cells = {}
    for model in result.tables.models:
        mean, n = result.means.get(model, (0.0, 0))
        short = result.shortfall(model)
        if not n:
            cells[model] = Cell.gap(result.gap(model))
        elif short and metric.is_score:
            lacks_splits = n < len(result.splits)
            note = result.gap(model) if lacks_splits else result.remark(model, result.splits)
            cells[model] = Cell(number(mean, metric), note=note, extra=short, scaled=result.scaled(mean))
        else:
            spread = result.spread(model, result.splits[0]) if len(result.all_splits) == 1 else ""
            level = scale.level(mean) if scale and model in result.comparable else None
            remark = result.remark(model, result.splits)
            interval = ends(result.interval(model), metric) if metric.is_score else ""
            rank = result.rank(model) if metric.is_score else None
            scaled = result.scaled(mean) if metric.is_score else ""
            cells[model] = Cell(number(mean, metric), level, rank, remark, spread, interval, scaled)
    return cells


def _species(organisms: Mapping[str, str]) -> dict[str, str]:
    """Return the species of each split, where the splits' own names do not tell it."""
    if len(set(organisms.values())) < 2:
        return {}
    return {split: readable(organism) for split, organism in organisms.items() if organism != split}

"""The two comparisons of models: one metric over splits, and several metrics, each a mean over splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cellgauge.report.charts import strip
from cellgauge.report.heat import Cell, HeatTable, Row
from cellgauge.results.columns import Column
from cellgauge.results.compare import Result
from cellgauge.results.numbers import number, readable
from cellgauge.results.scales import Scale

FEWEST_IN_A_PICTURE = 4
"""With fewer splits than this the numbers show their spread as well as a picture does."""


def by_split(result: Result, caption: str) -> HeatTable | None:
    """Return models x splits for one variant of a metric; None when no model has a value."""
    if not result.values:
        return None
    metric, organisms = result.metric, result.tables.datasets[result.dataset].organisms
    scale = Scale.of(result.values.values(), metric)
    # the species, where the splits' own names do not tell it
    named = len(set(organisms.values())) > 1
    species = {s: readable(organism) for s, organism in organisms.items() if named and organism != s}
    columns = [Column(split, readable(split), metric, about=species.get(split, "")) for split in result.all_splits]
    rows = [_row_of_splits(result, model, scale) for model in best_first(result)]
    spreads = [result.spread_title] if result.spread_title else []
    return HeatTable(caption, columns, rows, result.about, scale.ends(metric), spreads, result.units)


def best_first(result: Result) -> list[str]:
    """Return all models, the best mean first, those without one after them, controls at the end."""
    models, means, sign = result.tables.models, result.means, -1 if result.metric.rises else 1

    def place(model: str) -> tuple[bool, bool, float]:
        return models[model].is_control, model not in means, sign * means.get(model, (0.0, 0))[0]

    return sorted(models, key=place)


def _row_of_splits(result: Result, model: str, scale: Scale) -> Row:
    metric, splits, entry = result.metric, result.all_splits, result.tables.models[model]
    cells = []
    for split in splits:
        value = result.values.get((model, split))
        if value is None:
            cells.append(Cell.gap(result.why(model, split)))
            continue
        short = result.split_shortfall(model, split)
        beside = "; ".join(filter(None, (result.spread(model, split), short)))
        level = None if short else scale.level(value)
        cells.append(Cell(number(value, metric), level, note=result.remark(model, [split]), extra=beside))
    values = [result.values[model, split] for split in splits if (model, split) in result.values]
    if len(values) < 2:
        return Row(entry, cells)
    if len(splits) < FEWEST_IN_A_PICTURE:
        return Row(entry, cells, mean_cell(result, model))
    alt = f"splits {number(min(values), metric)} to {number(max(values), metric)}"
    return Row(entry, cells, mean_cell(result, model), picture(result, model, values, scale, alt=alt))


def mean_cell(result: Result, model: str) -> Cell:
    """Return a model's mean, its interval and what it lacks."""
    mean = number(result.means[model][0], result.metric)
    return Cell(mean, extra=result.shortfall(model), interval=result.interval_text(model))


def picture(result: Result, model: str, values: Sequence[float], scale: Scale, **about: Any) -> Any:
    """Return a picture of the values that a model's mean is of; `about` holds further arguments of `charts.strip`."""
    interval = result.interval(model)
    reach = (interval.low, interval.high) if interval else None
    return strip(values, result.means[model][0], scale.low, scale.high, reach, **about)


def by_metric(columns: Sequence[tuple[Result, Column]], caption: str, about: Mapping[str, str]) -> HeatTable | None:
    """Return models x metrics, each the mean over the splits of a dataset; None when no model has a value or failed.

    A model whose mean lacks splits, folds, cells, conditions or genes is neither ranked nor colored: it is of other cells than
    those of the others. Controls are not ranked; they bracket the others.
    """
    if not columns:
        return None
    results = [result for result, _ in columns]
    of_columns = [_column_of_means(result) for result in results]
    models = results[0].tables.models
    rows = [Row(models[name], [cells[name] for cells in of_columns]) for name in best_first(results[0])]
    if not any(row.applies for row in rows):
        return None
    headed = [replace(column, note=result.without()) for result, column in columns]
    spreads = dict.fromkeys(r.spread_title for r in results if r.spread_title and len(r.all_splits) == 1)
    units = dict.fromkeys(unit for r in results if r.metric.is_score for unit in r.units)
    about = {**about, "dataset": results[0].dataset}
    return HeatTable(caption, headed, rows, about, spreads=list(spreads), units=list(units))


def _column_of_means(result: Result) -> dict[str, Cell]:
    """Return the cell of every model."""
    metric = result.metric
    scale = Scale.of(result.comparable.values(), metric) if result.comparable and metric.is_score else None
    cells = {}
    for model in result.tables.models:
        mean, n = result.means.get(model, (0.0, 0))
        text, remark = number(mean, metric), result.remark(model, result.splits)
        if not n:
            cells[model] = Cell.gap(result.gap(model))
        elif not metric.is_score:
            cells[model] = Cell(text, note=remark, extra=_spread(result, model))
        elif short := result.shortfall(model):
            note = result.gap(model) if n < len(result.splits) else remark
            cells[model] = Cell(text, note=note, extra=short, scaled=result.scaled(mean))
        else:
            level, rank, interval = scale.level(mean), result.rank(model), result.interval_text(model)
            cells[model] = Cell(text, level, rank, remark, _spread(result, model), interval, result.scaled(mean))
    return cells


def _spread(result: Result, model: str) -> str:
    return result.spread(model, result.splits[0]) if len(result.all_splits) == 1 else ""

"""Predicted responses: one metric over the strata of a screen, every model on one axis with baselines and ceiling.

The tables are those of any task that scores screens (`Task.of_screens`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cellgauge.report.comparisons import best_first, mean_cell, picture
from cellgauge.report.heat import Cell, HeatTable, Row
from cellgauge.report.matrices import LabelTable, label_table
from cellgauge.results import words
from cellgauge.results.columns import Column
from cellgauge.results.compare import Result
from cellgauge.results.entries import Task
from cellgauge.results.numbers import number
from cellgauge.results.read import Tables
from cellgauge.results.scales import Scale


def strata_tables(tables: Tables, task: Task) -> Iterator[HeatTable]:
    """Yield models x strata for each score over one set of genes, with the conditions' values as a picture.

    A screen of one stratum has a single column, all conditions, unless no condition has an effect: then that is a column too.
    """
    for dataset, entry in tables.datasets.items():
        variants = tables.variants(task.name, dataset)
        for variant in variants:
            whole = Result(tables, task.name, dataset, variant)
            if "/" in variant.subset or not whole.metric.is_score:
                continue
            strata = [
                replace(whole, variant=v)
                for v in variants
                if v.subset.startswith(f"{variant.subset}/")
                and (v.profile, v.metric) == (variant.profile, variant.metric)
            ]
            about = f"{words.subset(variant.subset)}, {words.profile(variant.profile)} scores"
            yield _table(whole, strata, f"{entry.title}: {whole.metric.title}, {about}")


def _table(whole: Result, strata: Sequence[Result], caption: str) -> HeatTable:
    tables, metric, parts = whole.tables, whole.metric, strata or [whole]
    means = {model: mean for model, (mean, _) in whole.means.items()}
    scale = Scale.of_most([*means.values(), *(m for part in parts for m, _ in part.means.values())], metric)
    marks = [means[name] for name in tables.models if name in means and tables.models[name].is_control]
    values = tables.single_conditions.get((whole.task, whole.dataset, whole.variant), {})
    names = [part.variant.subset.partition("/")[2] for part in parts]
    columns = [Column(name or "all", words.STRATA.get(name, name), metric) for name in names]
    rows = []
    for model in best_first(whole):
        entry = tables.models[model]
        cells = [_cell(part, model, scale) for part in parts]
        if model not in means:
            rows.append(Row(entry, cells))
            continue
        of_model = [value for (name, _), value in values.items() if name == model]
        alt = f"mean {number(means[model], metric)} of {len(of_model)} conditions"
        drawing = picture(whole, model, of_model, scale, marks=marks, alt=alt)
        if strata:
            rows.append(Row(entry, cells, mean_cell(whole, model), drawing))
        else:  # the only column is the mean
            rows.append(Row(entry, [replace(cells[0], extra=whole.shortfall(model))], None, drawing))
    return HeatTable(caption, columns, rows, whole.about, scale.ends(metric), units=whole.units, marked=bool(marks))


def _cell(part: Result, model: str, scale: Scale) -> Cell:
    if model not in part.means:
        return Cell.gap(part.gap(model))
    mean = part.means[model][0]
    return Cell(number(mean, part.metric), scale.level(mean), interval=part.interval_text(model))


def condition_tables(tables: Tables, task: Task) -> Iterator[LabelTable]:
    """Yield conditions x models for the metrics and genes of which the catalogue wants every condition shown."""
    for (name, dataset, variant), values in tables.single_conditions.items():
        metric = tables.metric(task.name, variant.metric)
        if name == task.name and variant.subset in metric.in_full:
            entry = tables.datasets[dataset]
            what = f"{metric.title} of each condition, {words.subset(variant.subset)}"
            caption = f"{entry.title}: {what}, {words.profile(variant.profile)} scores"
            about = {"profile": variant.profile, "dataset": dataset}
            table = label_table(caption, tables.models, values, metric, {}, about, heading="Condition")
            if table:
                yield table

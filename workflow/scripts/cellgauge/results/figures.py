"""Figures for papers, as SVG and PNG: dot plots with intervals, a table of means as scIB draws it, heatmaps over splits.

Drawn from the tables alone, with plottable and matplotlib. Names enter as plain text: matplotlib's own
mark-up is escaped.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellgauge.results import words
from cellgauge.results.colors import LIGHT, text_on
from cellgauge.results.columns import columns, headlines
from cellgauge.results.compare import Result
from cellgauge.results.numbers import alternatives, number, readable
from cellgauge.results.read import Tables
from cellgauge.results.scales import Scale

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

WIDEST = 34
"""Letters of a name before it is broken into lines."""


def draw_figures(tables_dir: str | Path, output: str | Path) -> list[Path]:
    """Write every figure that the tables allow into the folder `output`, as NAME.svg and NAME.png; return what was written.

    Raises:
        CellgaugeError: a table is missing or lacks a column.
    """
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    # the same tables give the same SVG: no random ids, no date
    plt.rcParams |= {"svg.hashsalt": "cellgauge", "svg.fonttype": "none", "figure.dpi": 150, "savefig.bbox": "tight"}
    tables, output, written = Tables.read(tables_dir), Path(output), []
    output.mkdir(parents=True, exist_ok=True)
    for name, figure in _figures(tables):
        for kind in ("svg", "png"):
            path = output / f"{name}.{kind}"
            figure.savefig(path, metadata={"Date": None} if kind == "svg" else None)
            written.append(path)
        plt.close(figure)
    return written


def _figures(tables: Tables) -> Iterator[tuple[str, Figure]]:
    for dataset in tables.datasets:
        for profile in tables.profiles:
            name = f"{dataset}.{profile}"
            summary = summary_table(tables, dataset, profile)
            if summary:
                yield f"summary.{name}", summary
            headed = [(task, headlines(tables, task, dataset, profile)) for task in tables.tasks.values()]
            results = [result for _, of_task in headed for result in of_task if result.means]
            if results:
                yield f"scores.{name}", dot_plots(results)
            for task, of_task in headed:
                for result in of_task[:1]:
                    if len(result.splits) > 1 and result.values:
                        yield f"heatmap.{task.slug}.{name}", heatmap(result)


def summary_table(tables: Tables, dataset: str, profile: str) -> Figure | None:
    """Return models x (task, metric) as a table of colored circles, the means over splits; None where there are none."""
    import matplotlib.pyplot as plt
    import pandas as pd
    from matplotlib.colors import to_hex
    from plottable import ColumnDefinition, Table

    chosen = [
        (task, result, column)
        for task in tables.tasks.values()
        for result, column in columns(tables, task, dataset, profile)
        if result.comparable
    ]
    models = [m for m in tables.models if any(m in result.comparable for _, result, _ in chosen)]
    if not models:
        return None
    means = {column.key: [result.comparable.get(m) for m in models] for _, result, column in chosen}
    data = pd.DataFrame({"model": [_plain(tables.models[m].title) for m in models], **means}, index=models)
    definitions = [ColumnDefinition("model", title="", width=2.6, textprops={"ha": "left"})]
    for task, result, column in chosen:
        about = ", ".join(filter(None, (column.about, "" if result.metric.rises else "lower is better")))
        paint = _painter(Scale.of(result.comparable.values(), result.metric))
        definition = ColumnDefinition(
            column.key,
            title=textwrap.fill(f"{column.title} ({about})" if about else column.title, 12, break_long_words=False),
            group=task.title if column.group == task.title else f"{task.title} ({result.variant.set})",
            formatter=lambda value, metric=result.metric: "n/a" if value != value else number(value, metric),
            cmap=paint,
            text_cmap=lambda value, paint=paint: text_on(to_hex(paint(value))),
            textprops={"ha": "center", "fontsize": 9, "bbox": {"boxstyle": "circle", "pad": 0.28}},
        )
        definitions.append(definition)
    figure, axes = plt.subplots(figsize=(3.2 + 1.1 * len(means), 2 + 0.52 * len(models)))
    Table(
        data,
        index_col="model",
        column_definitions=definitions,
        ax=axes,
        row_dividers=True,
        footer_divider=True,
        textprops={"fontsize": 10},
        col_label_cell_kw={"height": 2.4},
        row_divider_kw={"linewidth": 0.6, "color": "#d9dfe6"},
        col_label_divider_kw={"linewidth": 1},
        column_border_kw={"linewidth": 1},
    )
    _title(axes, f"{tables.datasets[dataset].title}, {words.profile(profile)} scores", 11)
    return figure


KINDS = {
    "foundation": ("#1d5f94", "o"),
    "precomputed": ("#b0127b", "D"),
    "baseline": ("#b3590a", "s"),
    "control": ("#566374", "^"),
}
"""The color and the mark of a model of each kind, as in the report."""


def dot_plots(results: Sequence[Result]) -> Figure:
    """Return a panel per headline score: a row a model, the best first, with its 95 % interval, between the controls."""
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    rows = [_order_of(result) for result in results]
    figure, panels = plt.subplots(
        len(results), 1, figsize=(7, sum(0.9 + 0.24 * len(names) for names in rows)), squeeze=False,
        height_ratios=[1 + len(names) for names in rows], constrained_layout=True,
    )  # fmt: skip
    for axes, result, names in zip(panels[:, 0], results, rows, strict=True):
        models, metric = result.tables.models, result.metric
        scale = Scale.of_most([result.means[name][0] for name in names], metric)
        room = 0.04 * (scale.high - scale.low)
        axes.set_xlim(*sorted((scale.low - room, scale.high + room), reverse=not scale.rising))
        if result.bounds:
            axes.axvspan(*result.bounds, color="#d9dfe6", alpha=0.55, linewidth=0)
        if result.best_baseline:
            axes.axvline(result.ranked[result.best_baseline], color=KINDS["baseline"][0], linestyle="--", linewidth=1)
        for row, name in enumerate(names):
            color, mark = KINDS.get(models[name].kind, ("#3d7a3a", "v"))
            mean, interval = min(max(result.means[name][0], scale.low), scale.high), result.interval(name)
            if interval:
                axes.plot([interval.low, interval.high], [row, row], color="#16202c", linewidth=1, alpha=0.65)
            fill = "white" if result.shortfall(name) else color
            axes.plot(mean, row, mark, color=color, markerfacecolor=fill, markersize=5)
        titles = [models[name].title + (f" ({short})" if (short := result.shortfall(name)) else "") for name in names]
        axes.set_yticks(range(len(names)), [_plain(title) for title in titles], fontsize=8)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="x", labelsize=8)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        about = [
            f"{result.tables.tasks[result.task].title}: {metric.title}",
            words.subset_if_any(result.variant.subset),
            result.variant.set,
            f"intervals over {alternatives(result.units)}" if result.units else "",
            "" if metric.rises else "lower is better",
        ]
        _title(axes, ", ".join(filter(None, about)), 9)
    result = results[0]
    title = f"{result.tables.datasets[result.dataset].title}, {words.profile(result.variant.profile)} scores"
    figure.suptitle(_plain(title), x=0.01, ha="left", fontsize=10)
    kinds = {result.tables.models[name].kind for names in rows for name in names}
    legend: list[Any] = [
        Line2D([], [], color=c, marker=m, linestyle="", label=kind) for kind, (c, m) in KINDS.items() if kind in kinds
    ]
    legend += [
        Line2D([], [], color=KINDS["baseline"][0], linestyle="--", label="best baseline"),
        Line2D([], [], color="#16202c", label="95 % confidence interval"),
        Patch(color="#d9dfe6", label="negative to positive control"),
    ]
    figure.legend(handles=legend, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _order_of(result: Result) -> list[str]:
    """Return the models that have a mean: the ranked ones, the best first, then those that lack something, then controls."""
    models, sign = result.tables.models, -1 if result.metric.rises else 1

    def place(name: str) -> tuple[bool, bool, float]:
        return models[name].is_control, bool(result.shortfall(name)), sign * result.means[name][0]

    return sorted(result.means, key=place)


def heatmap(result: Result) -> Figure:
    """Return models x splits of one metric, with all values; those of part of a split have a star and no color."""
    import matplotlib.pyplot as plt
    import numpy as np
    from matplotlib.colors import to_hex

    tables, metric = result.tables, result.metric
    models = [m for m in tables.models if any((m, split) in result.values for split in result.splits)]
    partial = {key for key in result.values if result.split_shortfall(*key)}
    whole = [value for key, value in result.values.items() if key not in partial]
    scale, colors = Scale.of(whole or result.values.values(), metric), _colors()
    keys = [[(m, split) for split in result.splits] for m in models]
    cells = [[result.values.get(key) for key in row] for row in keys]
    parts = {key: scale.part(value) for key, value in result.values.items() if key not in partial}
    goodness = np.array([[parts.get(key, np.nan) for key in row] for row in keys])
    figure, axes = plt.subplots(figsize=(3 + 0.5 * len(result.splits), 1.4 + 0.36 * len(models)))
    axes.imshow(goodness, cmap=colors, vmin=0, vmax=1, aspect="auto")
    for row, values in enumerate(cells):
        for column, value in enumerate(values):
            is_partial = keys[row][column] in partial
            ink = "#566374" if value is None or is_partial else text_on(to_hex(colors(goodness[row, column])))
            text = "n/a" if value is None else number(value, metric) + "*" * is_partial
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=ink)
    axes.set_xticks(range(len(result.splits)), [_plain(readable(s)) for s in result.splits], rotation=90)
    axes.set_yticks(range(len(models)), [textwrap.fill(_plain(tables.models[m].title), WIDEST) for m in models])
    axes.tick_params(length=0, labelsize=8)
    if partial:
        axes.set_xlabel("* of part of the cells, conditions, genes or folds", fontsize=7, loc="left")
    axes.spines[:].set_visible(False)
    data, subset = tables.datasets[result.dataset].title, words.subset_if_any(result.variant.subset)
    about = ", ".join(
        filter(None, (f"{data}: {metric.title}", subset, f"{words.profile(result.variant.profile)} scores"))
    )
    _title(axes, about, 10)
    return figure


def _title(axes: Any, text: str, size: int) -> None:
    axes.set_title(_plain(text), loc="left", fontsize=size)


def _colors() -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("cellgauge", LIGHT)


def _painter(scale: Scale) -> Any:
    colors = _colors()
    return lambda value: "#ffffff" if value != value else colors(scale.part(value))


def _plain(text: str) -> str:
    """Return text that matplotlib draws as it is: a dollar sign would begin a formula."""
    return text.replace("$", r"\$")

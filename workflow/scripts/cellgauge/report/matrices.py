"""Tables of labels x models: one value per label and model, such as the F1 of each cell type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cellgauge.report.charts import bar
from cellgauge.report.heat import Cell
from cellgauge.results.entries import Entry, Metric
from cellgauge.results.numbers import DASH, number
from cellgauge.results.scales import Scale

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class LabelRow:
    """One label: how many cells carry it, as a bar too, and a cell per column."""

    label: str
    n_cells: str
    picture: Markup | str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class LabelTable:
    """Labels x columns (models, or species); `ends` are the worst and the best value of the colors."""

    caption: str
    columns: Sequence[Entry]
    rows: Sequence[LabelRow]
    about: Mapping[str, str] = field(default_factory=dict)
    ends: tuple[str, str] | None = None
    of_models: bool = True
    heading: str = "Label"


def label_table(
    caption: str,
    models: Mapping[str, Entry],
    values: Mapping[tuple[str, str], float],
    metric: Metric,
    sizes: Mapping[str, float],
    about: Mapping[str, str],
    missing: str = DASH,
    heading: str = "Label",
) -> LabelTable | None:
    """Return labels x models, the most frequent label first; None when no model has a value.

    Args:
        values: by model and label.
        sizes: how many cells carry each label.
        heading: what a row is.
        missing: what stands where no model has a value of a label.
    """
    valued = {model for model, _ in values}
    columns = [entry for name, entry in models.items() if name in valued]
    if not columns:
        return None
    scale = Scale.of(values.values(), metric)
    labels = sorted({*sizes, *(label for _, label in values)}, key=lambda label: (-sizes.get(label, 0), label))
    most = max(sizes.values(), default=0)
    known = {label for _, label in values}
    rows = []
    for label in labels:
        cells = []
        for entry in columns:
            value = values.get((entry.name, label))
            text = DASH if label in known else missing
            cells.append(Cell(text) if value is None else Cell(number(value, metric), scale.level(value)))
        n = sizes.get(label)
        picture = bar(n, most, alt=f"{n:,.0f} cells") if n is not None else ""
        rows.append(LabelRow(label, DASH if n is None else f"{n:,.0f}", picture, cells))
    return LabelTable(caption, columns, rows, about, scale.ends(metric), heading=heading)

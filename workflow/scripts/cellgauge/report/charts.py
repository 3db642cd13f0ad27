"""Small pictures inside a table's row, as SVG: drawn from numbers alone, no name ever enters them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH, MARGIN, MIDDLE = 120, 5, 9
"""Pixels; report.css gives the pictures their size and draws the axis."""


def strip(values: Sequence[float], mean: float, low: float, high: float, *, said: str) -> Markup:
    """Return one dot per value and a tick at their mean on an axis from `low` to `high`.

    Args:
        said: the picture in words.
    """
    dots = "".join(f"M{_place(value, low, high):g} {MIDDLE}h0" for value in values)
    return _svg(f'<path d="{dots}"/><path d="M{_place(mean, low, high):g} 3v12"/>', said)


def bar(value: float, highest: float, *, said: str) -> Markup:
    """Return a bar from zero to `value` on an axis that ends at `highest`."""
    end = _place(value, 0.0, highest) if highest > 0 else MARGIN
    return _svg(f'<path class="bar" d="M{MARGIN} {MIDDLE}H{end:g}"/>', said)


def _place(value: float, low: float, high: float) -> float:
    part = (value - low) / (high - low) if high > low else 0.5
    return round(MARGIN + (WIDTH - 2 * MARGIN) * min(max(part, 0.0), 1.0), 1)


def _svg(inside: str, said: str) -> Markup:
    from markupsafe import Markup

    return Markup('<svg role="img" aria-label="{}">{}</svg>').format(said, Markup(inside))

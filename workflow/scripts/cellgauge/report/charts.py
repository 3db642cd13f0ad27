"""Pictures as SVG. They are drawn from numbers; the few words that enter them are escaped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import ceil, floor, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH, MARGIN, MIDDLE = 120, 5, 9
"""Pixels; report.css gives the pictures their size and draws the axis."""


def strip(
    values: Sequence[float],
    mean: float,
    low: float,
    high: float,
    interval: tuple[float, float] | None = None,
    marks: Sequence[float] = (),
    *,
    said: str,
) -> Markup:
    """Return one dot per value, a tick at their mean and a line over its interval, on an axis from `low` to `high`.

    Args:
        marks: values that every picture of a table shows, such as those of the controls.
        said: the picture in words.
    """
    dots = "".join(f"M{_place(value, low, high):g} {MIDDLE}h0" for value in values)
    line = ""
    if interval:
        start, end = (_place(value, low, high) for value in interval)
        line = f"M{start:g} {MIDDLE}H{end:g}"
    bounds = "".join(f"M{_place(value, low, high):g} 0v18" for value in marks)
    lines = f'<path class="bound" d="{bounds}"/>' if bounds else ""
    return _svg(
        f'{lines}<path class="dots" d="{dots}"/><path class="tick" d="M{_place(mean, low, high):g} 3v12{line}"/>', said
    )


def bar(value: float, highest: float, *, said: str) -> Markup:
    """Return a bar from zero to `value` on an axis that ends at `highest`."""
    end = _place(value, 0.0, highest) if highest > 0 else MARGIN
    return _svg(f'<path class="bar" d="M{MARGIN} {MIDDLE}H{end:g}"/>', said)


def scatter(points: Sequence[tuple[int, float, float]], marked: Collection[int], title: str, *, said: str) -> Markup:
    """Return numbered dots of y against x > 0, x on a logarithmic axis.

    Args:
        points: (number, x, y) of each.
        marked: the numbers of the dots that are filled.
        title: of the y axis; it is escaped.
        said: the picture in words.
    """
    from markupsafe import Markup

    width, height, left, bottom, top, right = 420, 300, 52, 42, 14, 26
    exponents = [log10(x) for _, x, _ in points]
    low, high = floor(min(exponents)), max(ceil(max(exponents)), floor(min(exponents)) + 1)
    ticks = _ticks(min(y for *_, y in points), max(y for *_, y in points))

    def across(x: float) -> float:
        return left + (log10(x) - low) / (high - low) * (width - left - right)

    def up(y: float) -> float:
        return height - bottom - (y - ticks[0]) / (ticks[-1] - ticks[0]) * (height - bottom - top)

    lines = [f'<path class="grid" d="M{left} {up(y):.1f}H{width - right}"/>' for y in ticks]
    lines += [f'<path class="grid" d="M{across(10**n):.1f} {top}V{height - bottom}"/>' for n in range(low, high + 1)]
    lines += [f'<text x="{left - 6}" y="{up(y) + 4:.1f}" class="end">{y:g}</text>' for y in ticks]
    lines += [
        f'<text x="{across(10**n):.1f}" y="{height - bottom + 16}" class="mid">{10.0**n:,g}</text>'
        for n in range(low, high + 1)
    ]
    for place, x, y in sorted(points, key=lambda point: point[0] in marked):
        kind = "dot best" if place in marked else "dot"
        lines.append(
            f'<circle class="{kind}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="9"/>'
            f'<text x="{across(x):.1f}" y="{up(y) + 4:.1f}" class="mid {kind}">{place}</text>'
        )
    axes = Markup(
        '<text x="{}" y="{}" class="mid">cells per second</text>'
        '<text transform="translate(12 {}) rotate(-90)" class="mid">{}</text>'
    ).format((left + width - right) // 2, height - 6, (top + height - bottom) // 2, title)
    return Markup('<svg class="scatter" role="img" viewBox="0 0 {} {}" aria-label="{}">{}{}</svg>').format(
        width, height, said, Markup("".join(lines)), axes
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round numbers that enclose both ends."""
    span = max(high - low, 1e-6)
    step = 10 ** floor(log10(span))
    step = next(part * step for part in (0.2, 0.5, 1, 2) if span / (part * step) <= 5)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(n * step, 9) for n in range(first, max(last, first + 1) + 1)]


def _place(value: float, low: float, high: float) -> float:
    part = (value - low) / (high - low) if high > low else 0.5
    return round(MARGIN + (WIDTH - 2 * MARGIN) * min(max(part, 0.0), 1.0), 1)


def _svg(inside: str, said: str) -> Markup:
    from markupsafe import Markup

    return Markup('<svg role="img" aria-label="{}">{}</svg>').format(said, Markup(inside))

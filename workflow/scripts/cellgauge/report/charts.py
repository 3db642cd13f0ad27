"""Pictures as SVG. They are drawn from numbers; the few words that enter them are escaped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import ceil, floor, log10
from typing import TYPE_CHECKING

from cellgauge.results.numbers import short

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
    """Return numbered dots of y against x > 0, x on a logarithmic axis; numbers stand where they hide no other.

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
    lines += [f'<text x="{left - 6}" y="{up(y) + 4:.1f}" class="end">{short(y)}</text>' for y in ticks]
    lines += [
        f'<text x="{across(10**n):.1f}" y="{height - bottom + 16}" class="mid">{10.0**n:,g}</text>'
        for n in range(low, high + 1)
    ]
    dots = [(across(x), up(y)) for _, x, y in points]
    for (place, _, _), (x, y), (at, over) in zip(points, dots, _label_places(dots), strict=True):
        kind = "dot best" if place in marked else "dot"
        lines.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        lines.append(f'<text x="{at:.1f}" y="{over + 4:.1f}" class="mid {kind}">{place}</text>')
    axes = Markup(
        '<text x="{}" y="{}" class="mid">cells per second</text>'
        '<text transform="translate(12 {}) rotate(-90)" class="mid">{}</text>'
    ).format((left + width - right) // 2, height - 6, (top + height - bottom) // 2, title)
    return Markup('<svg class="scatter" role="img" viewBox="0 0 {} {}" aria-label="{}">{}{}</svg>').format(
        width, height, said, Markup("".join(lines)), axes
    )


def _label_places(
    dots: Sequence[tuple[float, float]], size: tuple[float, float] = (15, 11)
) -> list[tuple[float, float]]:
    """Return the middle of each dot's label: the nearest place around it where it covers no dot and no other label."""
    width, height = size
    around = [(1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1)]
    found: list[tuple[float, float]] = []

    def covers(place: tuple[float, float]) -> int:
        on_dots = sum(abs(place[0] - x) < width / 2 + 4 and abs(place[1] - y) < height / 2 + 4 for x, y in dots)
        return on_dots + sum(abs(place[0] - x) < width and abs(place[1] - y) < height for x, y in found)

    for x, y in dots:
        places = [(x + dx * 12 * far, y + dy * 11 * far) for far in (1, 1.6, 2.2) for dx, dy in around]
        found.append(min(places, key=covers))
    return found


def rank_diagram(points: Sequence[tuple[str, float]], bars: Sequence[tuple[str, Sequence[int]]]) -> Markup:
    """Return a critical-difference diagram (Demsar 2006): an axis of mean ranks, a name at the end of a line for each.

    Args:
        points: (name, mean rank), the best first; names are escaped.
        bars: (letter, places in `points`) of those that a bar joins; a dot marks each of them.
    """
    from markupsafe import Markup

    n, reach, top, row, apart = len(points), 300, 30, 18, 12
    left = (n + 1) // 2
    begin, after = (
        60 + 7.5 * max((len(_elided(name)) for name, _ in part), default=0) for part in (points[:left], points[left:])
    )
    width = begin + reach + after

    def across(rank: float) -> float:
        return round(begin + (rank - 1) / max(n - 1, 1) * reach, 1)

    ends = [(across(points[places[0]][1]), across(points[places[-1]][1])) for _, places in bars]
    levels = _levels([(start - 18, end + 5) for start, end in ends])
    below = top + 14 + apart * (max(levels, default=-1) + 1)
    parts = [f'<path class="axis" d="M{begin:g} {top}H{begin + reach:g}{_axis_ticks(n, across, top)}"/>']
    parts += [f'<text x="{across(rank):g}" y="{top - 11}" class="mid">{rank}</text>' for rank in _axis_labels(n)]
    lines, names = "", Markup("")
    for place, (name, rank) in enumerate(points):
        at_left = place < left
        y = below + row * (place if at_left else n - 1 - place)
        edge = begin - 14 if at_left else begin + reach + 14
        lines += f"M{across(rank):g} {top}V{y}H{edge:g}"
        said = (_elided(name), f"{rank:.2f}") if at_left else (f"{rank:.2f}", _elided(name))
        whole = Markup("<title>{}</title>").format(name) if name not in said else ""
        names += Markup('<text x="{:g}" y="{}"{}>{} {}{}</text>').format(
            edge - 5 if at_left else edge + 5, y + 4, Markup(' class="end"') if at_left else "", *said, whole
        )
    parts.append(f'<path class="leader" d="{lines}"/>')
    for (letter, places), (start, end), level in zip(bars, ends, levels, strict=True):
        y = top + 12 + apart * level
        dots = "".join(f"M{across(points[place][1]):g} {y}h0" for place in places)  # it may pass over others
        parts.append(f'<path class="join" d="M{start:g} {y}H{end:g}"/><path class="joined" d="{dots}"/>')
        parts.append(f'<text x="{start - 7:g}" y="{y + 4}" class="end group">{letter.strip(",")}</text>')
    return Markup('<svg class="ranks" role="img" width="{:g}" height="{}" aria-label="{}">{}{}</svg>').format(
        width, below + row * (left - 1) + 12, _ranks_in_words(points, bars), Markup("".join(parts)), names
    )


def _ranks_in_words(points: Sequence[tuple[str, float]], bars: Sequence[tuple[str, Sequence[int]]]) -> str:
    ranks = ", ".join(f"{name} {rank:.2f}" for name, rank in points)
    groups = "; ".join(", ".join(points[place][0] for place in places) for _, places in bars)
    joined = f"Bars join those that no test tells apart: {groups}." if groups else "All can be told apart."
    return f"Critical-difference diagram. Mean ranks, the best first: {ranks}. {joined}"


def _axis_labels(n: int) -> range:
    """Return the ranks that are written at the axis: at most 13 of them."""
    return range(1, n + 1, max(ceil((n - 1) / 12), 1))


def _axis_ticks(n: int, across: Callable[[float], float], top: int) -> str:
    labelled = _axis_labels(n)
    return "".join(f"M{across(rank):g} {top}v-{8 if rank in labelled else 4}" for rank in range(1, n + 1))


def _levels(spans: Sequence[tuple[float, float]]) -> list[int]:
    """Return for each span, in the order of their starts, the first level on which it touches no other."""
    ends: list[float] = []
    levels = []
    for start, end in spans:
        level = next((n for n, taken in enumerate(ends) if taken < start), len(ends))
        ends[level : level + 1] = [end]
        levels.append(level)
    return levels


def _elided(name: str, most: int = 28) -> str:
    """Return a name of at most `most` letters: of a longer one the beginning and the end."""
    half = most // 2
    return name if len(name) <= most else f"{name[:half].rstrip()}\N{HORIZONTAL ELLIPSIS}{name[1 - half :].lstrip()}"


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

"""Pictures as SVG. They are drawn from numbers; the few words that enter them are escaped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import TYPE_CHECKING
from urllib.parse import quote

from cellgauge.results.numbers import short
from cellgauge.results.scales import Scale

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
    alt: str,
) -> Markup:
    """Return a dot for each value, a tick at their mean and a line over its interval, on an axis from `low` to `high`.

    Args:
        marks: values that every picture of a table shows, such as those of the controls.
        alt: the picture in words.
    """
    places = dict.fromkeys(round(_place(value, low, high)) for value in values)
    dots = "".join(f"M{place} {MIDDLE}h0" for place in places)  # those of one pixel are one
    line = ""
    if interval:
        start, end = (_place(value, low, high) for value in interval)
        line = f"M{start:g} {MIDDLE}H{end:g}"
    bounds = "".join(f"M{_place(value, low, high):g} 0v18" for value in marks)
    lines = f'<path class="bound" d="{bounds}"/>' if bounds else ""
    return _svg(
        f'{lines}<path class="dots" d="{dots}"/><path class="tick" d="M{_place(mean, low, high):g} 3v12{line}"/>', alt
    )


def bar(value: float, highest: float, *, alt: str) -> Markup:
    """Return a bar from zero to `value` on an axis that ends at `highest`."""
    end = _place(value, 0.0, highest) if highest > 0 else MARGIN
    return _svg(f'<path class="bar" d="M{MARGIN} {MIDDLE}H{end:g}"/>', alt)


SHAPES = {
    "foundation": "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z",
    "precomputed": "m0-6l6 6l-6 6l-6-6z",
    "baseline": "m-4.5-4.5h9v9h-9z",
}
"""What marks a model of each kind, around its place: a disc, a diamond, a square; of every other kind a triangle."""


def marker(kind: str, x: float, y: float, css: str = "") -> str:
    """Return the mark of a model of a kind."""
    name = kind if kind in SHAPES else "control" if kind == "control" else "other"
    return f'<path class="mark {name}{css}" d="M{x:.1f} {y:.1f}{SHAPES.get(kind, "m0-6l5.5 10h-11z")}"/>'


@dataclass(frozen=True)
class Dot:
    """One row of a dot plot.

    Attributes:
        name, title, kind: of the model; one without a name is in no catalogue of this run.
        value, ends: its mean, and the ends of its interval where it has one.
        text, scaled: the mean as text, and its place between the controls.
        remark: stands small below the name.
        full: whether the mark is filled: it is where the value may be compared with the others.
    """

    name: str
    title: str
    kind: str
    value: float
    text: str
    scaled: str
    ends: tuple[float, float] | None = None
    remark: str = ""
    full: bool = True


LONGEST_NAME = 27
"""Letters of a name that fit beside a dot plot."""


def _name_and_remark(dot: Dot) -> tuple[str, str]:
    """Return what stands beside a dot and small below it: of a long name, what it has in brackets."""
    name = _without_brackets(dot.title, LONGEST_NAME)
    return name, "; ".join(filter(None, (dot.title[len(name) + 2 : -1], dot.remark)))


def dot_plot(
    dots: Sequence[Dot], scale: Scale, bounds: tuple[float, float] | None, line: float | None, *, alt: str
) -> Markup:
    """Return models as rows, each with a mark at its mean and a line over its interval; better is further right.

    Two axes lie over each other, of which the page shows one: raw values, and 0 to 1 between the controls.

    Args:
        scale: of the axis; what lies beyond stands at its ends.
        bounds: the negative and the positive control, between which a band is drawn.
        line: where a line is drawn through all rows.
    """
    from markupsafe import Markup

    left, width, top, step = 210, 500, 6, 22
    right = width - 58
    ticks = _ticks(scale.low, scale.high)
    low, high = (ticks[0], ticks[-1]) if scale.rising else (ticks[-1], ticks[0])

    def across(value: float) -> float:
        return left + min(max((value - low) / (high - low), 0.0), 1.0) * (right - left)

    names = [_name_and_remark(dot) for dot in dots]
    heights = [step + 11 * bool(remark) for _, remark in names]
    bottom = top + sum(heights)
    parts = [f'<path class="grid" d="M{across(tick):.1f} {top}V{bottom}"/>' for tick in ticks]
    if bounds:
        start, end = map(across, bounds)
        parts.insert(
            0, f'<rect class="band" x="{start:.1f}" y="{top}" width="{end - start:.1f}" height="{bottom - top}"/>'
        )
    if line is not None:
        parts.append(f'<path class="best-baseline" d="M{across(line):.1f} {top}V{bottom}"/>')
    parts.append('<g class="raw">')
    parts += [f'<text class="mid" x="{across(tick):.1f}" y="{bottom + 14}">{short(tick)}</text>' for tick in ticks]
    parts.append('</g><g class="scaled">')
    for n in (0, 0.5, 1) if bounds else ():
        value = bounds[0] + n * (bounds[1] - bounds[0])
        if min(low, high) - 1e-9 <= value <= max(low, high) + 1e-9:
            parts.append(f'<text class="mid" x="{across(value):.1f}" y="{bottom + 14}">{short(n)}</text>')
    parts.append("</g>")
    rows, y = [], top
    for dot, (name, remark), height in zip(dots, names, heights, strict=True):
        middle = y + step / 2
        label = Markup('<text class="end" x="{}" y="{:g}">{}</text>')
        text = label.format(left - 10, middle + 4, _titled(name, LONGEST_NAME))
        if dot.name:
            text = Markup('<a href="#catalogue?model={}">{}</a>').format(quote(dot.name), text)
        if remark:
            small = Markup('<text class="end small" x="{}" y="{:g}">{}</text>')
            text += small.format(left - 10, middle + 15, remark)
        marks = ""
        if dot.ends:
            ends = sorted(map(across, dot.ends))
            marks = f'<path class="interval" d="M{ends[0]:.1f} {middle:g}H{ends[1]:.1f}"/>'
        marks += marker(dot.kind, across(dot.value), middle, "" if dot.full else " open")
        numbers = Markup(
            '<text class="raw" x="{0}" y="{1:g}">{2}</text><text class="scaled" x="{0}" y="{1:g}">{3}</text>'
        )
        values = numbers.format(right + 12, middle + 4, dot.text, dot.scaled)
        about = f"{dot.name} {dot.title}"
        rows.append(Markup('<g data-row="{}">{}{}{}</g>').format(about, text, Markup(marks), values))
        y += height
    return Markup('<svg class="dots" role="img" viewBox="0 0 {} {}" aria-label="{}">{}{}</svg>').format(
        width, bottom + 20, alt, Markup("".join(parts)), Markup("").join(rows)
    )


def scatter(
    points: Sequence[tuple[str, str, float, float]], marked: Collection[int], title: str, *, alt: str
) -> Markup:
    """Return named marks of y against x > 0, x on a logarithmic axis.

    A name stands where it hides nothing; it is the mark's title too.

    Args:
        points: (name, kind, x, y) of each; names are escaped.
        marked: the places in `points` of those that are filled.
        title: of the y axis; it is escaped.
        alt: the picture in words.
    """
    from markupsafe import Markup

    width, height, left, bottom, top, right = 560, 360, 56, 42, 14, 26
    exponents = [log10(x) for _, _, x, _ in points]
    room = max(0.25 * (max(exponents) - min(exponents)), 0.2)  # for the names
    low, high = min(exponents) - room, max(exponents) + room
    parts = (1, 2, 5) if high - low < 2 else (1,)
    speeds = [part * 10.0**n for n in range(floor(low), ceil(high) + 1) for part in parts]
    speeds = [x for x in speeds if low <= log10(x) <= high]
    ticks = _ticks(min(y for *_, y in points), max(y for *_, y in points))

    def across(x: float) -> float:
        return left + (log10(x) - low) / (high - low) * (width - left - right)

    def up(y: float) -> float:
        return height - bottom - (y - ticks[0]) / (ticks[-1] - ticks[0]) * (height - bottom - top)

    lines = [f'<path class="grid" d="M{left} {up(y):.1f}H{width - right}"/>' for y in ticks]
    lines += [f'<path class="grid" d="M{across(x):.1f} {top}V{height - bottom}"/>' for x in speeds]
    lines += [f'<text x="{left - 6}" y="{up(y) + 4:.1f}" class="end">{short(y)}</text>' for y in ticks]
    lines += [f'<text x="{across(x):.1f}" y="{height - bottom + 16}" class="mid">{x:,g}</text>' for x in speeds]
    dots = [(across(x), up(y)) for _, _, x, y in points]
    names = [_without_brackets(name, 24) for name, *_ in points]
    places = _label_places(dots, [6.8 * len(_elided(name, 24)) + 6 for name in names], width)
    labels = Markup("")
    for n, ((whole, kind, _, _), name, (x, y), place) in enumerate(zip(points, names, dots, places, strict=True)):
        mark = Markup(marker(kind, x, y, "" if n in marked else " open"))
        labels += Markup("<g><title>{}</title>{}</g>").format(whole, mark)
        if place:
            text = Markup('<text x="{:.1f}" y="{:.1f}" class="mid name">{}</text>')
            labels += text.format(place[0], place[1] + 4, _titled(name, 24))
    axes = Markup(
        '<text x="{}" y="{}" class="mid">cells per second</text>'
        '<text transform="translate(12 {}) rotate(-90)" class="mid">{}</text>'
    ).format((left + width - right) // 2, height - 6, (top + height - bottom) // 2, title)
    return Markup('<svg class="scatter" role="img" viewBox="0 0 {} {}" aria-label="{}">{}{}{}</svg>').format(
        width, height, alt, Markup("".join(lines)), labels, axes
    )


def _label_places(
    dots: Sequence[tuple[float, float]], widths: Sequence[float], edge: float
) -> list[tuple[float, float] | None]:
    """Return the middle of each dot's label: the first place around it where it covers nothing; None where there is none."""
    places: list[tuple[float, float] | None] = []
    height = 12

    def is_free(x: float, y: float, width: float) -> bool:
        taken = [(*place, other) for place, other in zip(places, widths, strict=False) if place]
        return (
            x - width / 2 >= 0
            and x + width / 2 <= edge
            and not any(abs(x - a) < width / 2 + 6 and abs(y - b) < height / 2 + 5 for a, b in dots)
            and not any(abs(x - a) < (width + other) / 2 + 3 and abs(y - b) < height for a, b, other in taken)
        )

    for (x, y), width in zip(dots, widths, strict=True):
        beside = width / 2 + 9
        around = [(beside, 0), (-beside, 0), (0, -13), (0, 14), *((s * beside, dy) for dy in (-9, 9) for s in (1, -1))]
        places.append(next(((x + dx, y + dy) for dx, dy in around if is_free(x + dx, y + dy, width)), None))
    return places


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
    labels = range(1, n + 1, max(ceil((n - 1) / 12), 1))  # at most 13 of the ranks
    ticks = "".join(f"M{across(rank):g} {top}v-{8 if rank in labels else 4}" for rank in range(1, n + 1))
    parts = [f'<path class="axis" d="M{begin:g} {top}H{begin + reach:g}{ticks}"/>']
    parts += [f'<text x="{across(rank):g}" y="{top - 11}" class="mid">{rank}</text>' for rank in labels]
    lines, names = "", Markup("")
    for place, (name, rank) in enumerate(points):
        at_left = place < left
        y = below + row * (place if at_left else n - 1 - place)
        edge = begin - 14 if at_left else begin + reach + 14
        lines += f"M{across(rank):g} {top}V{y}H{edge:g}"
        words = (_elided(name), f"{rank:.2f}") if at_left else (f"{rank:.2f}", _elided(name))
        whole = Markup("<title>{}</title>").format(name) if name not in words else ""
        names += Markup('<text x="{:g}" y="{}"{}>{} {}{}</text>').format(
            edge - 5 if at_left else edge + 5, y + 4, Markup(' class="end"') if at_left else "", *words, whole
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
    joined = f"Bars join models that do not differ significantly: {groups}." if groups else "All differ significantly."
    return f"Critical-difference diagram. Mean ranks, best first: {ranks}. {joined}"


def _levels(spans: Sequence[tuple[float, float]]) -> list[int]:
    """Return for each span, in the order of their starts, the first level on which it touches no other."""
    ends: list[float] = []
    levels = []
    for start, end in spans:
        level = next((n for n, taken in enumerate(ends) if taken < start), len(ends))
        ends[level : level + 1] = [end]
        levels.append(level)
    return levels


def _without_brackets(name: str, most: int) -> str:
    """Return a name, one of more than `most` letters without what it ends with in brackets."""
    return name.rpartition(" (")[0] or name if len(name) > most and name.endswith(")") else name


def _elided(name: str, most: int = 44) -> str:
    """Return a name of at most `most` letters: of a longer one the beginning and the end."""
    half = most // 2
    return name if len(name) <= most else f"{name[:half].rstrip()}\N{HORIZONTAL ELLIPSIS}{name[1 - half :].lstrip()}"


def _titled(name: str, most: int) -> Markup:
    """Return a name of at most `most` letters, escaped; of a longer one the whole is its title."""
    from markupsafe import Markup

    whole = Markup("<title>{}</title>").format(name) if len(name) > most else Markup("")
    return whole + Markup.escape(_elided(name, most))


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


def _svg(inside: str, alt: str) -> Markup:
    from markupsafe import Markup

    return Markup('<svg role="img" aria-label="{}">{}</svg>').format(alt, Markup(inside))

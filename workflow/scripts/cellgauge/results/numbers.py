"""Numbers and keys as the page prints them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cellgauge.results.entries import Metric

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


def number(value: float, metric: Metric) -> str:
    """Return a value as text: counts whole where they are, else three decimals, or three digits where the range is open and the
    value small or large.
    """
    if not metric.is_score and value == int(value):
        text = f"{int(value):,}"
    elif metric.is_closed or value == 0 or 0.1 <= abs(value) < (10 if metric.is_score else 1):
        text = f"{value:.3f}"
    else:
        text = f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:#.3g}".rstrip(".")
    return text.replace("-", MINUS) if text.strip("-0.") else text.lstrip("-")


def as_printed(value: float, metric: Metric) -> float:
    """Return a value with no more digits than `number` prints."""
    return float(number(value, metric).replace(MINUS, "-").replace(",", ""))


def short(value: float) -> str:
    """Return the end of a range: as few digits as it takes."""
    return f"{value:g}".replace("-", MINUS)


def seconds(value: float) -> str:
    """Return seconds as text: one decimal below a hundred."""
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def size(value: float) -> str:
    """Return bytes as text, in steps of a thousand."""
    power = min((len(str(int(value))) - 1) // 3, 3)
    value /= 1000**power
    digits = 0 if power == 0 or value >= 100 else 1
    return f"{value:.{digits}f} {('B', 'kB', 'MB', 'GB')[power]}"


def mebibytes(value: float | None) -> str:
    """Return MiB as text, a dash for none."""
    return DASH if value is None else f"{value:,.0f}"


def alternatives(lists: Iterable[str]) -> str:
    """Return lists such as "donors, seeds" as one, each entry once: "donors, seeds or folds"."""
    *first, last = dict.fromkeys(name for names in lists for name in names.split(", "))
    return f"{', '.join(first)} or {last}" if first else last


def readable(name: str) -> str:
    """Return a key as words: bone_marrow becomes "bone marrow"."""
    return name.replace("_", " ").strip() or name

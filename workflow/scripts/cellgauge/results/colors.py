"""The colors of the heat tables: steps of one scale, safe for color-blind readers, legible in light, dark and print.

Lightness alone tells the steps apart: it falls (or, on a dark page, rises) from step to step, and the hue goes from yellow
over green to blue as in viridis. The stronger a cell stands out from the page, the better its value.
"""

from __future__ import annotations

from collections.abc import Sequence

LIGHT = ("#fbfbe6", "#d6edc3", "#8fd3b6", "#41a8b5", "#2a74a6", "#2b3f87")
DARK = ("#1d2740", "#204b74", "#23748c", "#3fa08f", "#8cc97e", "#eef0a0")
STEPS = 13
LABELS = (
    *("#016caf", "#e7d023", "#285614", "#dd0c3e", "#2ce4ee", "#fca2d8", "#7c5012", "#7006d8"),
    *("#1eab6c", "#237370", "#8e893a", "#3cadfd", "#f1c7a4", "#887dfe", "#fb5509", "#713c40"),
    *("#c28781", "#635b84", "#bf1b8f", "#dc8c07", "#b7d8af", "#1ee531", "#cdcaf9", "#fe38f3"),
)
"""The colors of labels, the first of them the most unlike: of any two the CIEDE2000 distance is 19 or more, of each and the
page's ground (light or dark) 18. They were spread over hue and lightness by farthest points and exchange."""
INK, PAPER = "#000000", "#ffffff"
"""The only pair of which one is legible (4.5 to 1) on any color."""


def ramp(anchors: Sequence[str]) -> list[str]:
    """Return STEPS colors (#rrggbb) evenly spaced on the line through the anchors, in sRGB."""
    points = [_rgb(anchor) for anchor in anchors]
    colors = []
    for step in range(STEPS):
        place = step * (len(points) - 1) / (STEPS - 1)
        first = min(int(place), len(points) - 2)
        part = place - first
        pairs = zip(points[first], points[first + 1], strict=True)
        colors.append("#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in pairs))
    return colors


def text_on(color: str) -> str:
    """Return the text color, dark or white, that is easier to read on `color`."""
    return max((INK, PAPER), key=lambda text: contrast(text, color))


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colors, 1 to 21, as WCAG 2.2 defines it."""
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    """Return the relative luminance of #rrggbb, 0 to 1 (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in _rgb(color))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def stylesheet() -> str:
    """Return the rules of the classes v0 (worst) to v12 (best) and of .ramp, all of them; paper is always light."""
    return f"{_rules(ramp(LIGHT))}\n@media screen and (prefers-color-scheme:dark){{{_rules(ramp(DARK))}}}\n"


def _rules(colors: Sequence[str]) -> str:
    cells = "".join(f".v{n}{{background:{color};color:{text_on(color)}}}" for n, color in enumerate(colors))
    return f"{cells}.ramp{{background:linear-gradient(90deg,{','.join(colors)})}}"


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue

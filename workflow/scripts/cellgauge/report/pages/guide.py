"""How to read the report: profiles, controls, gaps, colors."""

from __future__ import annotations

from collections.abc import Iterator

from cellgauge.report.pages import Page
from cellgauge.report.pages.overview import MANY, n_splits
from cellgauge.results.read import Tables


def pages(tables: Tables) -> Iterator[Page]:
    """Yield the guide."""
    yield Page("guide", "Guide", "guide.html", {"small": n_splits(tables) < MANY, "n": n_splits(tables)})

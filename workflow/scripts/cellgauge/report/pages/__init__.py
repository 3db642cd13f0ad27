"""The pages of the report, one module each: `pages(tables)` yields what its template in report/templates shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Page:
    """One page."""

    id: str  # its permalink, #id; lower-case letters, digits and "-"
    title: str  # as the navigation and its heading show it
    template: str  # a file of report/templates, rendered with `context` and the `tables`
    context: Mapping[str, Any] = field(default_factory=dict)
    # which of the filters task, dataset, profile, model and search change something on it
    filters: tuple[str, ...] = ()

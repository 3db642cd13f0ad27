"""The pages of the report, one module each: `pages(tables)` yields what its template in report/templates shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        id: its permalink, #id; lower-case letters, digits and "-".
        title: as the navigation and its heading show it.
        template: a file of report/templates, rendered with `context` and the `tables`.
        filters: which of the filters task, dataset, profile, model and search change something on it.
    """

    id: str
    title: str
    template: str
    context: Mapping[str, Any] = field(default_factory=dict)
    filters: tuple[str, ...] = ()

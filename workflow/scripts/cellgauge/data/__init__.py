"""Files as people have them, read at the boundary: what comes out is right, or one sentence says what is wrong.

Every reader raises CellgaugeError for what it cannot read right, and returns notes on what it read in another way than it is
written. `attempt` gives both at once, for those who check many files before a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cellgauge.core.errors import CellgaugeError


@dataclass(frozen=True)
class Reading:
    """What a reader made of a file: `value` (None with a fault), the `faults`, and `notes`, where the value has them."""

    value: Any = None
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def attempt(reader: Callable[..., Any], *arguments: Any, **options: Any) -> Reading:
    """Call a reader of this package, of `splits`, `models.precomputed` or `predictors.precomputed_responses`."""
    try:
        value = reader(*arguments, **options)
    except CellgaugeError as error:
        return Reading(faults=[str(error)])
    return Reading(value, notes=list(getattr(value, "notes", ())))

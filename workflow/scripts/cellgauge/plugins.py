"""Adapters and tasks are modules of a package, found by their names: a file more is all that adding one takes."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from cellgauge.errors import CellgaugeError


@cache  # the grid asks for every cell
def module_names(package: ModuleType) -> tuple[str, ...]:
    """Return the names of the modules of a package but `base`, which holds what they share; none is imported."""
    return tuple(sorted(module.name for module in iter_modules(package.__path__) if module.name != "base"))


def load_module(package: ModuleType, name: str, kind: str) -> ModuleType:
    """Import a module of a package; raise CellgaugeError naming the nearest `kind` ("adapter", "task") there is."""
    known = module_names(package)
    if name not in known:
        near = get_close_matches(name, known, 1)
        hint = f", did you mean '{near[0]}'?" if near else f"; there are {', '.join(known)}"
        raise CellgaugeError(f"unknown {kind} '{name}'{hint}")
    return import_module(f"{package.__name__}.{name}")

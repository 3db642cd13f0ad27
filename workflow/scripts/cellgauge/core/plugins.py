"""Adapters and tasks are modules of a package, found by their names: a file more is all that adding one takes."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from cellgauge.core.errors import CellgaugeError, did_you_mean


@cache  # the grid asks for every cell
def module_names(package: ModuleType) -> tuple[str, ...]:
    """Return the names of the plug-ins of a package: its modules but those that they share (`SHARED`); none is imported."""
    shared = getattr(package, "SHARED", ("base",))
    return tuple(sorted(module.name for module in iter_modules(package.__path__) if module.name not in shared))


def check_name(package: ModuleType, name: str, kind: str) -> None:
    """Raise CellgaugeError, naming the nearest `kind` ("adapter", "task") there is, where a package has no such module."""
    known = module_names(package)
    if name not in known:
        raise CellgaugeError(f"unknown {kind} '{name}'{did_you_mean(name, known)}")


def load_module(package: ModuleType, name: str, kind: str) -> ModuleType:
    """Import a module of a package; see `check_name`."""
    check_name(package, name, kind)
    return import_module(f"{package.__name__}.{name}")

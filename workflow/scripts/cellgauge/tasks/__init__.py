"""Tasks, one file each: how an embedding is scored. `load(name)` imports one; `base` holds what they share."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def load(name: str) -> ModuleType:
    """Return the module of task `name`; its constants and `score` are described in `cellgauge.tasks.base`."""
    return import_module(f"{__name__}.{name}")

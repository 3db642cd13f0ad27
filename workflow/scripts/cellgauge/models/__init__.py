"""Adapters, one file per model family. `load(name)` imports one; `base` holds the contract and what they share."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def load(name: str) -> ModuleType:
    """Return the module of adapter `name`; its constants and `embed` are described in `cellgauge.models.base`."""
    return import_module(f"{__name__}.{name}")

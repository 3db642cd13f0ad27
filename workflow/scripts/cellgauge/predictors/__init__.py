"""Adapters of models that predict responses to perturbations, one file each. `base` holds the contract and what they share."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def load(name: str) -> ModuleType:
    """Return the module of adapter `name`; its constants and `predict` are described in `cellgauge.predictors.base`."""
    return import_module(f"{__name__}.{name}")

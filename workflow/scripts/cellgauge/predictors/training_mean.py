"""Baseline: every perturbation does what the training perturbations do on average."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellgauge.core.errors import CellgaugeError
from cellgauge.predictors.base import Predicted, Response

if TYPE_CHECKING:
    from cellgauge.screens.screen import Screen


def predict(screen: Screen, weights: None, *, device: str, seed: int) -> Predicted:
    """Return the mean over the training conditions' means, each condition with the same weight, for every condition.

    Raises:
        CellgaugeError: the screen has no training condition.
    """
    if not screen.training_conditions:
        raise CellgaugeError(f"{screen.where}: no condition is there to be trained on")
    mean = screen.means(screen.training_conditions).mean(axis=0)
    return Predicted(screen.genes, (Response(c, mean=mean) for c in screen.test_conditions))

"""Baseline: every perturbation has the average effect of the training perturbations."""

from cellgauge.core.errors import CellgaugeError
from cellgauge.predictors.base import Predicted, Response
from cellgauge.screens.screen import Screen

USES_CONTROLS = False


def predict(screen: Screen, weights: None, *, device: str, seed: int) -> Predicted:
    """Return for every condition the mean of the training conditions' means, each with the same weight.

    Raises:
        CellgaugeError: the screen has no training condition.
    """
    if not screen.training_conditions:
        raise CellgaugeError(f"{screen.where}: no training condition")
    mean = screen.means(screen.training_conditions).mean(axis=0)
    return Predicted(screen.genes, (Response(c, mean=mean) for c in screen.test_conditions))

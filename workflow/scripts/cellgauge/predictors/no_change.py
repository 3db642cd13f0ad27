"""Baseline: the perturbation has no effect."""

import numpy as np

from cellgauge.core.errors import CellgaugeError
from cellgauge.predictors.base import Predicted, Response
from cellgauge.screens.screen import Screen, mean_of

UNINFORMED = True


def predict(screen: Screen, weights: None, *, device: str, seed: int, statistic: str = "mean") -> Predicted:
    """Return the mean expression of the control cells for every condition.

    Args:
        statistic: "mean", or "median" of each gene, the default of cz-benchmarks' `compute_baseline`.

    Raises:
        CellgaugeError: `statistic` is neither.
    """
    controls = screen.controls()
    if statistic == "mean":
        expression = mean_of(controls)
    elif statistic == "median":
        expression = np.concatenate(
            [
                np.median(controls[:, start : start + 256].toarray(), axis=0)
                for start in range(0, controls.shape[1], 256)
            ]
        )
    else:
        raise CellgaugeError(f"no_change: statistic must be mean or median, not '{statistic}'")
    return Predicted(screen.genes, (Response(c, mean=expression) for c in screen.test_conditions))

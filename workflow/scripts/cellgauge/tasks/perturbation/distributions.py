"""Whether the predicted cells are distributed as the measured ones."""

from __future__ import annotations

import numpy as np

from cellgauge.metrics import perturbation as metrics
from cellgauge.tasks.perturbation.responses import Responses, Value


def energy(responses: Responses, row: int) -> Value:
    """Return the energy distance of predicted and measured cells; a mean stands for the controls seen, moved to it."""
    truth = responses.truth
    prediction = responses.prediction_of(truth.condition[row])
    if responses.has_cells[prediction] and responses.cells is not None:
        predicted = _present(responses.cells[prediction])
    else:
        moved = responses.predicted_change(row) @ truth.components
        predicted = _present(truth.cells[truth.predicted_from]) + moved
    value = metrics.energy_distance(predicted.astype(np.float64), _present(truth.cells[row]).astype(np.float64))
    if not np.isfinite(value):
        return Value("e_distance", "all", None, "fewer than two cells")
    return Value("e_distance", "all", value)


def _present(cells: np.ndarray) -> np.ndarray:
    return cells[np.isfinite(cells).all(axis=1)]

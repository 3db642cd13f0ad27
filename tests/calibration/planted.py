"""A predictor whose checkpoint is its answers: the change that it predicts for each condition, or what it copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cellgauge.predictors.base import Predicted, Response
from cellgauge.screens.screen import Screen, mean_of


def predict(screen: Screen, weights: Path, *, device: str, seed: int) -> Predicted:
    """Return the controls that a predictor sees, moved by the change that `weights`, an npz file, holds of each condition."""
    with np.load(weights) as file:
        if "copied" in file:
            means = zip(file["conditions"], screen.means(list(map(str, file["copied"]))), strict=True)
            return Predicted(screen.genes, [Response(str(condition), mean=mean) for condition, mean in means])
        conditions, genes, changes, cells = (file[name] for name in ("conditions", "genes", "changes", "cells"))
    controls = screen.controls()[:, genes]
    mean = mean_of(controls)

    def respond(condition: str, change: np.ndarray) -> Response:
        if cells == "moved":
            return Response(condition, cells=(controls.toarray() + change).astype(np.float32))
        if cells == "equal":
            return Response(condition, cells=np.tile(mean + change, (controls.shape[0], 1)))
        return Response(condition, mean=mean + change)

    responses = (respond(str(condition), change) for condition, change in zip(conditions, changes, strict=True))
    return Predicted(screen.genes[genes], responses)

"""Harmony (Korsunsky et al. 2019) on the principal components of one split, correcting for its technical batches."""

import numpy as np
import pandas as pd

from cellgauge.data.expression import components_of
from cellgauge.files.split import Split
from cellgauge.models.base import Embedded, NotApplicable

SHARED_SPACE = False
STOCHASTIC = True
FITTED_ON_SPLIT = True
PACKAGES = ("scikit-learn", "harmonypy")


def correct(
    components: np.ndarray,
    groups: np.ndarray,
    seed: int,
    theta: float,
    ridge: float,
    max_iterations: int,
    tolerance: float,
) -> np.ndarray:
    """Return components corrected for the groups of cells, shape (n_cells, n_components).

    `theta` (diversity) and `ridge` (lambda) are the paper's. harmonypy 2 estimates lambda and stops at a change of 1 %,
    after two or three rounds, with hardly any groups mixed; here it runs on until the objective settles.

    Args:
        components: float32, shape (n_cells, n_components).
        groups: the batch or species of each cell, str, shape (n_cells,).
    """
    from harmonypy import run_harmony

    settings = {"theta": theta, "lamb": ridge, "max_iter_harmony": max_iterations, "epsilon_harmony": tolerance}
    settings |= {"random_state": seed, "ncores": 1, "verbose": False}
    return np.asarray(run_harmony(components, pd.DataFrame({"group": groups}), ["group"], **settings).Z_corr)


def embed(
    cells: Split,
    weights: None,
    *,
    device: str,
    seed: int,
    batch_key: str = "batch",
    n_top_genes: int = 3000,
    n_components: int = 50,
    theta: float = 2.0,
    ridge: float = 1.0,
    max_iterations: int = 30,
    tolerance: float = 1e-4,
) -> Embedded:
    """Return the linear baseline's principal components, corrected for the batches in the column `batch_key`.

    Raises:
        NotApplicable: the split has no such column, or one batch alone: Harmony would be PCA under another name.
    """
    if batch_key not in cells.columns:
        raise NotApplicable(f"Harmony needs the column '{batch_key}', which the split does not have")
    batches = cells.column(batch_key)
    n_batches = len(np.unique(batches))
    if n_batches < 2:
        raise NotApplicable(f"Harmony needs several batches, and the column '{batch_key}' has one value")
    n_genes, components = components_of([cells], n_top_genes, n_components, seed)
    corrected = correct(components, batches, seed, theta, ridge, max_iterations, tolerance)
    return Embedded(corrected, cells.cells, {"matched_genes": n_genes, "batches": n_batches})

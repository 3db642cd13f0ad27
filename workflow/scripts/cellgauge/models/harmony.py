"""Harmony (Korsunsky et al. 2019) on the joint principal components, correcting for the split (the species)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cellgauge.models.base import Embedded

if TYPE_CHECKING:
    from cellgauge.contracts import Split

SCOPE = "dataset"
SHARED_SPACE = True
STOCHASTIC = True
PACKAGES = ("scikit-learn", "harmonypy")


def embed(
    cells: Sequence[Split],
    weights: None,
    *,
    device: str,
    seed: int,
    n_top_genes: int = 3000,
    n_components: int = 50,
    theta: float = 2.0,
    ridge: float = 1.0,
    max_iterations: int = 30,
    tolerance: float = 1e-4,
) -> Embedded:
    """Return the corrected components of the cells of all splits, in the order of the splits.

    `theta` (diversity) and `ridge` (lambda) are the paper's. harmonypy 2 estimates lambda and stops at a change of 1 %,
    after two or three rounds, with hardly any species mixed; here it runs on until the objective settles.
    """
    import numpy as np
    import pandas as pd
    from harmonypy import run_harmony

    from cellgauge.models.pca_joint import joint_components

    n_genes, components = joint_components(cells, n_top_genes, n_components, seed)
    settings = {
        "theta": theta,
        "lamb": ridge,
        "max_iter_harmony": max_iterations,
        "epsilon_harmony": tolerance,
        "random_state": seed,
        "ncores": 1,
        "verbose": False,
    }
    split = pd.DataFrame({"split": np.repeat([split.name for split in cells], [len(split.cells) for split in cells])})
    corrected = np.asarray(run_harmony(components, split, ["split"], **settings).Z_corr)
    ids = np.concatenate([split.cells for split in cells])
    return Embedded(corrected, ids, {"matched_genes": n_genes})

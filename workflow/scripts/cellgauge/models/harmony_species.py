"""Harmony (Korsunsky et al. 2019) on the joint principal components of the splits of a set, correcting for their species."""

from collections.abc import Sequence

import numpy as np

from cellgauge.data.expression import components_of
from cellgauge.files.split import Split
from cellgauge.models.base import Embedded
from cellgauge.models.harmony import correct

SCOPE = "dataset"
STOCHASTIC = True
FITTED_ON_SPLIT = True
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
    """Return the corrected components of the cells of all splits, in the order of the splits (see `harmony.correct`)."""
    n_genes, components = components_of(cells, n_top_genes, n_components, seed)
    species = np.repeat([split.organism for split in cells], [len(split.cells) for split in cells])
    corrected = correct(components, species, seed, theta, ridge, max_iterations, tolerance)
    return Embedded(corrected, np.concatenate([split.cells for split in cells]), {"matched_genes": n_genes})

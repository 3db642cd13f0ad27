"""Negative control: the linear baseline's embedding with its rows shuffled."""

import numpy as np

from cellgauge.data.expression import components_of
from cellgauge.files.split import Split
from cellgauge.models.base import Embedded

SHARED_SPACE = False
STOCHASTIC = True
UNINFORMED = True
FITTED_ON_SPLIT = True
PACKAGES = ("scikit-learn",)


def embed(
    cells: Split, weights: None, *, device: str, seed: int, n_top_genes: int = 3000, n_components: int = 50
) -> Embedded:
    """Return the principal components of `linear` with rows in random order: same geometry, wrong cells."""
    _, components = components_of([cells], n_top_genes, n_components, seed)
    return Embedded(np.random.default_rng(seed).permutation(components), cells.cells)

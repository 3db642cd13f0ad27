"""Negative control: the linear baseline's embedding with its rows dealt to the wrong cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellgauge.models.base import Embedded

if TYPE_CHECKING:
    from cellgauge.contracts import Split

SCOPE = "split"
SHARED_SPACE = False
STOCHASTIC = True
PACKAGES = ("scanpy", "scikit-learn")


def embed(
    cells: Split, weights: None, *, device: str, seed: int, n_top_genes: int = 3000, n_components: int = 50
) -> Embedded:
    """Return the principal components of `linear` in random order: their geometry is real, their cells are not."""
    import numpy as np

    from cellgauge.expression import principal_components, variable_genes

    components = principal_components(variable_genes(cells.to_anndata(), n_top_genes), n_components, seed)
    return Embedded(np.random.default_rng(seed).permutation(components), cells.cells)

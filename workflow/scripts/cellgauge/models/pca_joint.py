"""Principal components of the splits of a set, on the genes that they share (one-to-one orthologues across species)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellgauge.data.expression import join_species, principal_components
from cellgauge.data.variable_genes import variable_expression
from cellgauge.files.split import Split
from cellgauge.models.base import Embedded

SCOPE = "dataset"
SHARED_SPACE = True
STOCHASTIC = False
FITTED_ON_SPLIT = True
PACKAGES = ("scikit-learn",)


def joint_components(cells: Sequence[Split], n_top_genes: int, n_components: int, seed: int) -> tuple[int, np.ndarray]:
    """Return the number of variable genes, and the components of the joined splits, float32, (n_cells, <= n_components).

    Genes are ranked by their dispersion within each split and chosen by how many splits they vary in: genes that only
    tell the species apart are not preferred.
    """
    counts, names = join_species(cells)
    genes, expression = variable_expression(counts, n_top_genes, names)
    return len(genes), principal_components(expression, n_components, seed)


def embed(
    cells: Sequence[Split], weights: None, *, device: str, seed: int, n_top_genes: int = 3000, n_components: int = 50
) -> Embedded:
    """Return the joint principal components of the cells of all splits, in the order of the splits."""
    n_genes, components = joint_components(cells, n_top_genes, n_components, seed)
    return Embedded(components, _ids(cells), {"matched_genes": n_genes})


def _ids(cells: Sequence[Split]) -> np.ndarray:
    return np.concatenate([split.cells for split in cells])

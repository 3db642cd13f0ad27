"""Principal components of all splits together, on the genes that they share (one-to-one orthologues across species)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cellgauge.models.base import Embedded

if TYPE_CHECKING:
    import anndata
    import numpy as np

    from cellgauge.contracts import Split

SCOPE = "dataset"
SHARED_SPACE = True
STOCHASTIC = False
PACKAGES = ("scanpy", "scikit-learn")


def joint_components(
    cells: Sequence[Split], n_top_genes: int, n_components: int, seed: int
) -> tuple[anndata.AnnData, np.ndarray]:
    """Return the joined splits (variable genes only) and their components, float32, shape (n_cells, <= n_components).

    Genes are ranked by their dispersion within each split and chosen by how many splits they vary in: genes that only
    tell the species apart are not preferred.
    """
    from cellgauge.expression import join_species, principal_components, variable_genes

    data = variable_genes(join_species(cells), n_top_genes, batch_key="split" if len(cells) > 1 else None)
    return data, principal_components(data, n_components, seed)


def embed(
    cells: Sequence[Split], weights: None, *, device: str, seed: int, n_top_genes: int = 3000, n_components: int = 50
) -> Embedded:
    """Return the joint principal components of the cells of all splits, in the order of the splits."""
    data, components = joint_components(cells, n_top_genes, n_components, seed)
    return Embedded(components, _ids(cells), {"matched_genes": data.n_vars})


def _ids(cells: Sequence[Split]) -> np.ndarray:
    import numpy as np

    return np.concatenate([split.cells for split in cells])

"""Principal components of the splits of a set, on the genes that they share (one-to-one orthologues across species)."""

from collections.abc import Sequence

import numpy as np

from cellgauge.data.expression import components_of
from cellgauge.files.split import Split
from cellgauge.models.base import Embedded

SCOPE = "dataset"
FITTED_ON_SPLIT = True
PACKAGES = ("scikit-learn",)


def embed(
    cells: Sequence[Split], weights: None, *, device: str, seed: int, n_top_genes: int = 3000, n_components: int = 50
) -> Embedded:
    """Return the joint principal components of the cells of all splits, in the order of the splits."""
    n_genes, components = components_of(cells, n_top_genes, n_components, seed)
    return Embedded(components, np.concatenate([split.cells for split in cells]), {"matched_genes": n_genes})

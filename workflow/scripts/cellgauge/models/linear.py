"""The reference's linear baseline: PCA where an embedding is clustered, expression where labels are predicted.

cz-benchmarks 0.10.2: `run_standard_scrna_workflow` (HVG-3000, PCA-50) for clustering and silhouette, the raw count matrix
itself for label prediction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellgauge.models.base import Embedded

if TYPE_CHECKING:
    from cellgauge.contracts import Split

SCOPE = "split"
SHARED_SPACE = False
STOCHASTIC = False
EXPRESSION_TASKS = ("label_prediction",)
PACKAGES = ("scanpy", "scikit-learn")


def embed(
    cells: Split, weights: None, *, device: str, seed: int, n_top_genes: int = 3000, n_components: int = 50
) -> Embedded:
    """Return the first `n_components` principal components of the `n_top_genes` most variable genes."""
    from cellgauge.expression import principal_components, variable_genes

    data = variable_genes(cells.to_anndata(), n_top_genes)
    return Embedded(principal_components(data, n_components, seed), cells.cells, {"matched_genes": data.n_vars})

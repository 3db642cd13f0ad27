"""The linear baseline: principal components of log-normalized expression of variable genes.

cz-benchmarks 0.10.2: `run_standard_scrna_workflow` (HVG-3000, PCA-50) for clustering and silhouette. For label prediction it
takes the raw count matrix, which is no fair rival: profile reference alone follows it there.
"""

from cellgauge.data.expression import components_of
from cellgauge.files.split import Split
from cellgauge.models.base import Embedded

SHARED_SPACE = False
FITTED_ON_SPLIT = True
REFERENCE_ON_COUNTS = True
PACKAGES = ("scikit-learn",)


def embed(
    cells: Split, weights: None, *, device: str, seed: int, n_top_genes: int = 3000, n_components: int = 50
) -> Embedded:
    """Return the first `n_components` principal components of the `n_top_genes` most variable genes."""
    n_genes, components = components_of([cells], n_top_genes, n_components, seed)
    return Embedded(components, cells.cells, {"matched_genes": n_genes})

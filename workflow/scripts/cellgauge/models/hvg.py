"""Log-normalized expression of the highly variable genes: what any embedding has to improve on."""

from cellgauge.data.expression import counts_of
from cellgauge.data.variable_genes import variable_expression
from cellgauge.files.split import Split
from cellgauge.models.base import Embedded

SHARED_SPACE = False
FITTED_ON_SPLIT = True
COMMON_UNITS = True
PACKAGES = ("scipy",)


def embed(cells: Split, weights: None, *, device: str, seed: int, n_top_genes: int = 2000) -> Embedded:
    """Return log(1 + normalized counts) of the `n_top_genes` most variable genes, one column per gene."""
    genes, expression = variable_expression([counts_of(cells)], n_top_genes)
    return Embedded(expression.toarray(), cells.cells, {"matched_genes": len(genes)})

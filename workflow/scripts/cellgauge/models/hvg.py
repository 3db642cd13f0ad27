"""Log-normalised expression of the highly variable genes: what any embedding has to improve on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellgauge.models.base import Embedded

if TYPE_CHECKING:
    from cellgauge.contracts import Split

SCOPE = "split"
SHARED_SPACE = False
STOCHASTIC = False
PACKAGES = ("scanpy",)


def embed(cells: Split, weights: None, *, device: str, seed: int, n_top_genes: int = 2000) -> Embedded:
    """Return log(1 + normalised counts) of the `n_top_genes` most variable genes, one column per gene."""
    from cellgauge.expression import variable_genes

    data = variable_genes(cells.to_anndata(), n_top_genes)
    return Embedded(data.X.toarray(), cells.cells, {"matched_genes": data.n_vars})

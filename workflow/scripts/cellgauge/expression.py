"""Expression baselines that several adapters start from: log-normalised counts, HVGs, principal components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cellgauge.errors import CellgaugeError

if TYPE_CHECKING:
    import anndata
    import numpy as np

    from cellgauge.contracts import Split


def variable_genes(data: anndata.AnnData, n_top_genes: int, batch_key: str | None = None) -> anndata.AnnData:
    """Return log-normalised expression of the highly variable genes, CSR float32, shape (n_cells, <= n_top_genes).

    Library sizes are scaled to their median, then log(1 + x); genes are ranked by Seurat's normalised dispersion (Satija
    et al. 2015) as scanpy computes it. These are the steps of cz-benchmarks' PCA baseline (`run_standard_scrna_workflow`).
    """
    import scanpy

    scanpy.pp.normalize_total(data)
    scanpy.pp.log1p(data)
    scanpy.pp.highly_variable_genes(data, n_top_genes=min(n_top_genes, data.n_vars), batch_key=batch_key)
    return data[:, data.var["highly_variable"]].copy()


def principal_components(data: anndata.AnnData, n_components: int, seed: int) -> np.ndarray:
    """Return the leading principal components of centred, unscaled expression, shape (n_cells, <= n_components)."""
    import scanpy

    most = min(data.shape) - 1
    if most < 1:
        raise CellgaugeError(f"PCA needs at least two cells and two variable genes, not {data.n_obs} x {data.n_vars}")
    scanpy.pp.pca(data, n_comps=min(n_components, most), random_state=seed)
    return data.obsm["X_pca"]


def join_species(splits: Sequence[Split]) -> anndata.AnnData:
    """Return the raw counts of several splits over the genes that all of them share, one split after the other.

    Splits of several organisms share one-to-one orthologues (var["orthologue"]), those of one organism its gene ids.
    obs has "split" and "organism"; its index is "<split>/<cell>", since two data sets may use one barcode.

    Raises:
        CellgaugeError: a split has no orthologues, or no gene is shared.
    """
    import anndata

    several = len({split.organism for split in splits}) > 1
    parts = []
    for split in splits:
        data = split.to_anndata()
        if several:
            if "orthologue" not in data.var:
                raise CellgaugeError(f"split {split.name} of {split.dataset} has no column 'orthologue' in var")
            data = data[:, data.var["orthologue"].astype(str) != ""].copy()
            data.var_names = data.var["orthologue"].astype(str).to_numpy()
        data.obs["split"], data.obs["organism"] = split.name, split.organism
        data.obs_names = [f"{split.name}/{cell}" for cell in data.obs_names]
        parts.append(data)
    joined = anndata.concat(parts, join="inner")
    if not joined.n_vars:
        raise CellgaugeError(f"splits {', '.join(split.name for split in splits)} share no gene")
    return joined

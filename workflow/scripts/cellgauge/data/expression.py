"""Expression baselines that several adapters start from: counts in blocks, genes that species share, principal components."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.core.errors import CellgaugeError
from cellgauge.core.optional_imports import without_optional
from cellgauge.data.variable_genes import Counts

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from cellgauge.files.split import Split


def counts_of(split: Split, genes: np.ndarray | None = None) -> Counts:
    """Return a split's raw counts, of all genes or of those at the positions `genes`, to be passed over."""
    if genes is None:
        return Counts(lambda: (block for _, block in split.count_blocks()), split.library_sizes)
    return Counts(lambda: (block[:, genes] for _, block in split.count_blocks()))


def principal_components(expression: csr_matrix, n_components: int, seed: int) -> np.ndarray:
    """Return the leading principal components of centred, unscaled expression, float32, shape (n_cells, <= n_components).

    Equal to scanpy's `pp.pca`, which calls scikit-learn's PCA of a sparse matrix (ARPACK) in the same way.

    Raises:
        CellgaugeError: fewer than two cells or genes.
    """
    n_cells, n_genes = expression.shape
    most = min(n_cells, n_genes) - 1
    if most < 1:
        raise CellgaugeError(f"PCA needs at least two cells and two variable genes, not {n_cells} x {n_genes}")
    with without_optional("pandas"):
        from sklearn.decomposition import PCA

    pca = PCA(n_components=min(n_components, most), svd_solver="arpack", random_state=seed)
    return pca.fit_transform(expression).astype(np.float32, copy=False)


def join_species(splits: Sequence[Split]) -> tuple[list[Counts], np.ndarray]:
    """Return the raw counts of each split over the genes that all of them share, and the names of these genes.

    Splits of several organisms share one-to-one orthologues (var["orthologue"]), those of one organism its gene ids.
    Genes are in the order of the first split.

    Raises:
        CellgaugeError: a split has no orthologues, a name stands for two genes of a split, or no gene is shared.
    """
    for split in splits:
        if len({other.organism for other in splits}) > 1 and not (split.orthologues != "").any():
            raise CellgaugeError(
                f"the orthologue table knows none of the {len(split.genes)} genes of split {split.name} of {split.dataset},"
                f" such as {', '.join(split.genes[:3])}; check `key` and `columns` of `orthologues` in the dataset's entry"
            )
    several = len({split.organism for split in splits}) > 1
    positions = [_positions(split, split.orthologues if several else split.genes) for split in splits]
    shared = reduce(lambda names, other: [name for name in names if name in other], positions)
    if not shared:
        raise CellgaugeError(f"splits {', '.join(split.name for split in splits)} share no gene")
    counts = [
        counts_of(split, np.asarray([own[name] for name in shared]))
        for split, own in zip(splits, positions, strict=True)
    ]
    return counts, np.asarray(shared, dtype=object)


def _positions(split: Split, names: np.ndarray) -> dict[str, int]:
    """Return the position of each gene that has a name."""
    found: dict[str, int] = {}
    for position, name in enumerate(names):
        if name and found.setdefault(name, position) != position:
            raise CellgaugeError(
                f"split {split.name} of {split.dataset} has two genes '{name}', joined they must be unique"
            )
    return found

"""Steps that the expression baselines share: counts in blocks, genes common to species, principal components."""

from collections.abc import Sequence
from functools import reduce

import numpy as np
from scipy.sparse import csr_matrix

from cellgauge.core.errors import CellgaugeError
from cellgauge.core.optional_imports import without_optional
from cellgauge.data.variable_genes import Counts, variable_expression
from cellgauge.files.split import Split


def counts_of(split: Split, genes: np.ndarray | None = None) -> Counts:
    """Return a split's raw counts, of all genes or of those at the positions `genes`."""
    if genes is None:
        return Counts(lambda: (block for _, block in split.count_blocks()), split.library_sizes)
    return Counts(lambda: (block[:, genes] for _, block in split.count_blocks()))


def principal_components(expression: csr_matrix, n_components: int, seed: int) -> np.ndarray:
    """Return the leading principal components of centered, unscaled expression, float32, shape (n_cells, <= n_components).

    They equal those of scanpy's `pp.pca`, which calls scikit-learn's sparse PCA (ARPACK) in the same way.

    Raises:
        CellgaugeError: fewer than two cells or genes.
    """
    n_cells, n_genes = expression.shape
    max_components = min(n_cells, n_genes) - 1
    if max_components < 1:
        raise CellgaugeError(f"PCA needs at least two cells and two variable genes, not {n_cells} x {n_genes}")
    with without_optional("pandas"):
        from sklearn.decomposition import PCA

    pca = PCA(n_components=min(n_components, max_components), svd_solver="arpack", random_state=seed)
    return pca.fit_transform(expression).astype(np.float32, copy=False)


def components_of(splits: Sequence[Split], n_top_genes: int, n_components: int, seed: int) -> tuple[int, np.ndarray]:
    """Return the number of variable genes of splits, and their `principal_components`, in the order of the splits.

    Of several splits, genes are ranked by their dispersion within each and chosen by how many splits they vary in: genes
    that only tell the species apart are not preferred.
    """
    counts, names = join_species(splits) if len(splits) > 1 else ([counts_of(splits[0])], None)
    genes, expression = variable_expression(counts, n_top_genes, names)
    return len(genes), principal_components(expression, n_components, seed)


def join_species(splits: Sequence[Split]) -> tuple[list[Counts], np.ndarray]:
    """Return the raw counts of each split for the genes that all splits share, and the names of these genes.

    Splits of several organisms are matched by one-to-one orthologs (var["orthologue"]), those of one organism by gene id.
    Genes are in the order of the first split.

    Raises:
        CellgaugeError: a split has no orthologs, two genes of a split have the same name, or no gene is shared.
    """
    several = len({split.organism for split in splits}) > 1
    for split in splits if several else ():
        if not (split.orthologues != "").any():
            raise CellgaugeError(
                f"the orthologue table knows none of the {len(split.genes)} genes of split {split.name} of {split.dataset},"
                f" such as {', '.join(split.genes[:3])}; check `key` and `columns` of `orthologues` in the dataset's entry"
            )
    positions = [_positions(split, split.orthologues if several else split.genes) for split in splits]
    shared = reduce(lambda names, other: [name for name in names if name in other], positions)
    if not shared:
        raise CellgaugeError(f"splits {', '.join(split.name for split in splits)} have no gene in common")
    counts = [
        counts_of(split, np.asarray([position[name] for name in shared]))
        for split, position in zip(splits, positions, strict=True)
    ]
    return counts, np.asarray(shared, dtype=object)


def _positions(split: Split, names: np.ndarray) -> dict[str, int]:
    """Return the position of each gene that has a name."""
    positions: dict[str, int] = {}
    for position, name in enumerate(names):
        if name and positions.setdefault(name, position) != position:
            raise CellgaugeError(
                f"split {split.name} of {split.dataset} has two genes '{name}'; names must be unique to join splits"
            )
    return positions

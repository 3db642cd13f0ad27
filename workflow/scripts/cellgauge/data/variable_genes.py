"""Which genes vary most between cells, and their log-normalised expression, from counts read a block of cells at a time.

Library sizes are scaled to their median, then log(1 + x); genes are ranked by Seurat's dispersion (Satija et al. 2015),
normalised among genes of similar mean. These are the first steps of cz-benchmarks' PCA baseline
(`run_standard_scrna_workflow`), and the results are scanpy 1.11's (`normalize_total`, `log1p`, `highly_variable_genes`),
to the last bit where scanpy runs on one thread: with more, it adds in another order. scanpy holds the matrix three times;
here three passes over the counts hold a block of it and the chosen genes' expression (docs/adr/0018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.core.errors import CellgaugeError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

N_BINS = 20
"""Seurat's and scanpy's number of bins, by their mean, that genes are compared within."""


@dataclass(frozen=True)
class Counts:
    """Raw counts of some cells, to be passed over several times.

    Attributes:
        blocks: begins a pass: blocks of rows, CSR float32, shape (cells of the block, n_genes), no zero stored.
        sizes: returns the library size of each cell, shape (n_cells,), where that is cheaper than a pass.
    """

    blocks: Callable[[], Iterable[csr_matrix]]
    sizes: Callable[[], np.ndarray] | None = None

    def library_sizes(self) -> np.ndarray:
        """Return the sum of each cell's counts, float32, shape (n_cells,); as in scanpy, added up in float64."""
        sizes = self.sizes() if self.sizes else np.concatenate([_row_sums(block) for block in self.blocks()])
        return sizes.astype(np.float32)


def variable_genes(parts: Sequence[Counts], n_top_genes: int, names: Sequence[str] | None = None) -> np.ndarray:
    """Return the positions of the `n_top_genes` most variable genes, ascending; all those that tie for the last place.

    Args:
        parts: counts over the same genes. Where there are several (such as species), genes are ranked within each and
            chosen by how many parts they are variable in, then by their mean rank value: what only tells the parts apart
            is not preferred. No more than `n_top_genes` are returned then.
        names: of the genes; for several parts, whose ties they decide.

    Raises:
        CellgaugeError: no cell has a count, or no gene varies.
    """
    return _chosen(parts, _scales(parts), n_top_genes, names)


def variable_expression(
    parts: Sequence[Counts], n_top_genes: int, names: Sequence[str] | None = None
) -> tuple[np.ndarray, csr_matrix]:
    """Return `variable_genes` and their log-normalised expression, CSR float32, shape (cells of all parts, n_chosen)."""
    from scipy.sparse import vstack

    scales = _scales(parts)
    genes = _chosen(parts, scales, n_top_genes, names)
    blocks = [block for part, own in zip(parts, scales, strict=True) for block in _expression(part, own, genes)]
    return genes, vstack(blocks, format="csr")


def _scales(parts: Sequence[Counts]) -> list[np.ndarray]:
    """Return each cell's library size relative to the median one of all parts, float32; 1 for a cell without counts."""
    sizes = [part.library_sizes() for part in parts]
    together = np.concatenate(sizes)
    if not together.any():
        raise CellgaugeError("no variable genes can be chosen: no cell has a count")
    # Of all cells, as scanpy takes it of a CSR matrix; of those with counts where most have none, and scanpy divides by 0.
    median = np.median(together) or np.median(together[together > 0])
    return [np.where(own > 0, own / median, np.float32(1)) for own in sizes]


def _row_sums(block: csr_matrix) -> np.ndarray:
    return np.asarray(block.astype(np.float64).sum(axis=1)).ravel()


def _expression(counts: Counts, scales: np.ndarray, genes: np.ndarray | None = None) -> Iterator[csr_matrix]:
    """Yield log(1 + scaled counts) of one block of cells after the other, of all genes or of `genes`."""
    from scipy.sparse import csr_matrix

    first = 0
    for block in counts.blocks():
        own = scales[first : first + block.shape[0]]
        first += block.shape[0]
        block = block if genes is None else block[:, genes]
        values = block.data / np.repeat(own, np.diff(block.indptr))
        yield csr_matrix((np.log1p(values, out=values), block.indices, block.indptr), block.shape)


def _chosen(
    parts: Sequence[Counts], scales: Sequence[np.ndarray], n_top_genes: int, names: Sequence[str] | None
) -> np.ndarray:
    values, chosen = [], []
    for part, own in zip(parts, scales, strict=True):
        means, variances = _moments(_expression(part, own))
        # Genes of a single data set are compared with all others; in each of several, with those that it expresses.
        among = means > 0 if len(parts) > 1 else np.ones(len(means), dtype=bool)
        values.append(np.zeros(len(means)))
        chosen.append(np.zeros(len(means), dtype=bool))
        if among.any():
            values[-1][among] = _normalised_dispersions(means[among], variances[among])
            chosen[-1][among] = _highest(values[-1][among], n_top_genes)
    if not np.any(chosen):
        raise CellgaugeError("no variable genes can be chosen: no gene varies between the cells")
    if len(parts) == 1:
        return np.flatnonzero(chosen[0])
    return np.sort(_by_agreement(np.sum(chosen, axis=0), np.stack(values), np.asarray(names, dtype=str))[:n_top_genes])


def _moments(blocks: Iterable[csr_matrix]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance (of n - 1) of each gene's scaled counts, float64, from log-normalised expression.

    Seurat's dispersion is of expm1 of the logarithms. Values and their squares are float32, their sums float64, added
    cell by cell: with any other order or precision, genes that nearly tie would change places.
    """
    n_cells, sums, squares = 0, np.zeros(0), np.zeros(0)
    for block in blocks:
        if not n_cells:
            sums, squares = np.zeros(block.shape[1]), np.zeros(block.shape[1])
        n_cells += block.shape[0]
        genes, values = block.indices.astype(np.intp), np.expm1(block.data)
        np.add.at(sums, genes, values.astype(np.float64))
        np.add.at(squares, genes, (values * values).astype(np.float64))
    means = sums / n_cells
    variances = squares / n_cells - means**2
    return means, variances * (n_cells / (n_cells - 1)) if n_cells > 1 else variances


def _normalised_dispersions(means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Return how many standard deviations the log dispersion of a gene lies above that of genes of similar mean.

    Dispersion is variance / mean. Genes are put into bins of equal width by log(1 + mean); a gene alone in its bin (or
    alone with a dispersion) has 1. NaN where the gene does not vary.
    """
    means = np.where(means == 0, 1e-12, means)
    with np.errstate(invalid="ignore"):
        dispersions = np.log(np.where(variances == 0, np.nan, variances / means))
    bins = _bins(np.log1p(means))
    values = np.full(len(means), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        for place in np.unique(bins):
            own = bins == place
            mean, deviation = _mean_and_deviation(dispersions[own & ~np.isnan(dispersions)])
            values[own] = (dispersions[own] - mean) / deviation
    return values


def _bins(means: np.ndarray) -> np.ndarray:
    """Return the bin of each mean, of N_BINS from the lowest to the highest, closed above, as `pandas.cut` makes them."""
    edges = np.linspace(means.min(), means.max(), N_BINS + 1)
    return np.searchsorted(edges[1:-1], means, side="left")


def _mean_and_deviation(values: np.ndarray) -> tuple[np.float64, np.float64]:
    """Return mean and standard deviation (of n - 1) of dispersions; of a single one those that make it 1.

    They are added one by one (Kahan's sum, Welford's squares), as pandas does for scanpy: genes of different bins may tie,
    such as those of bins that hold two, and numpy's sums would decide otherwise which of them is the higher.
    """
    if len(values) < 2:
        return np.float64(0), np.float64(values[0] if len(values) else np.nan)
    total = lost = mean = squares = 0.0
    for count, value in enumerate(values.tolist(), 1):
        added = value - lost
        lost = (total + added) - total - added
        total += added
        off = value - mean
        mean += off / count
        squares += off * (value - mean)
    return np.float64(total / len(values)), np.sqrt(squares / (len(values) - 1))


def _highest(values: np.ndarray, n: int) -> np.ndarray:
    """Return for each gene whether it is among the `n` highest, with all that tie for the last place."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return np.zeros(len(values), dtype=bool)
    return np.where(np.isnan(values), -np.inf, values) >= known[-min(n, len(known))]


def _by_agreement(votes: np.ndarray, values: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Return the order of genes by the number of parts that chose them, then by their mean value, then by name.

    Args:
        votes: shape (n_genes,).
        values: shape (n_parts, n_genes); NaN is left out of means.
    """
    with np.errstate(invalid="ignore"):  # the longer type stands for pandas' compensated sum
        means = np.nansum(values.astype(np.longdouble), axis=0) / (~np.isnan(values)).sum(axis=0)
    return np.lexsort((names, -means.astype(np.float64), -votes))

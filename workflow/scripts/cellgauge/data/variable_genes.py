"""Highly variable genes and their log-normalized expression, from counts that are read in blocks of cells.

Counts are scaled to the median library size, then log(1 + x). Genes are ranked by Seurat's dispersion (Satija et al. 2015),
normalized among genes of similar mean. These are the first steps of cz-benchmarks' PCA baseline
(`run_standard_scrna_workflow`). The results are bit-identical to scanpy 1.11's (`normalize_total`, `log1p`,
`highly_variable_genes`) on one thread; on several threads scanpy adds in another order. scanpy holds the matrix three
times in memory; this module reads it three times and holds one block and the chosen genes' expression (docs/adr/0018).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, vstack

from cellgauge.core.errors import CellgaugeError

N_BINS = 20
"""Number of bins of mean expression within which dispersions are normalized, as in Seurat and scanpy."""


@dataclass(frozen=True)
class Counts:
    """Raw counts of some cells, which can be read several times.

    Attributes:
        blocks: starts a pass and returns blocks of rows, CSR float32, shape (cells of the block, n_genes), without stored
            zeros.
        sizes: returns the library size of each cell, shape (n_cells,), if that is cheaper than a pass.
    """

    blocks: Callable[[], Iterable[csr_matrix]]
    sizes: Callable[[], np.ndarray] | None = None

    def library_sizes(self) -> np.ndarray:
        """Return the sum of each cell's counts, float32, shape (n_cells,); as in scanpy, added up in float64."""
        if self.sizes:
            return self.sizes().astype(np.float32)
        sums = [np.asarray(block.astype(np.float64).sum(axis=1)).ravel() for block in self.blocks()]
        return np.concatenate(sums).astype(np.float32)


def variable_genes(parts: Sequence[Counts], n_top_genes: int, names: Sequence[str] | None = None) -> np.ndarray:
    """Return the positions of the `n_top_genes` most variable genes, ascending, with all ties for the last rank.

    Args:
        parts: counts over the same genes. With several parts (such as species), genes are ranked within each and chosen by
            the number of parts in which they are variable, then by their mean normalized dispersion, so that genes that
            differ only between the parts are not preferred. At most `n_top_genes` are returned then.
        names: the genes' names, which break ties; required for several parts.

    Raises:
        CellgaugeError: no cell has a count, or no gene varies.
    """
    return _highly_variable(parts, _scales(parts), n_top_genes, names)


def variable_expression(
    parts: Sequence[Counts], n_top_genes: int, names: Sequence[str] | None = None
) -> tuple[np.ndarray, csr_matrix]:
    """Return `variable_genes` and their log-normalized expression, CSR float32, shape (cells of all parts, n_chosen)."""
    scales = _scales(parts)
    genes = _highly_variable(parts, scales, n_top_genes, names)
    blocks = [block for part, scale in zip(parts, scales, strict=True) for block in _expression(part, scale, genes)]
    return genes, vstack(blocks, format="csr")


def _scales(parts: Sequence[Counts]) -> list[np.ndarray]:
    """Return each cell's library size divided by the median of all parts, float32; 1 for a cell without counts."""
    sizes = [part.library_sizes() for part in parts]
    all_sizes = np.concatenate(sizes)
    if not all_sizes.any():
        raise CellgaugeError("no variable genes can be chosen: no cell has a count")
    # The median of all cells, as scanpy computes it for a CSR matrix; if that is 0 (where scanpy divides by 0), the median of
    # the cells with counts.
    median = np.median(all_sizes) or np.median(all_sizes[all_sizes > 0])
    return [np.where(size > 0, size / median, np.float32(1)) for size in sizes]


def _expression(counts: Counts, scales: np.ndarray, genes: np.ndarray | None = None) -> Iterator[csr_matrix]:
    """Yield log(1 + scaled counts) of each block of cells, for all genes or for `genes`."""
    first = 0
    for block in counts.blocks():
        scale = scales[first : first + block.shape[0]]
        first += block.shape[0]
        block = block if genes is None else block[:, genes]
        values = block.data / np.repeat(scale, np.diff(block.indptr))
        yield csr_matrix((np.log1p(values, out=values), block.indices, block.indptr), block.shape)


def _highly_variable(
    parts: Sequence[Counts], scales: Sequence[np.ndarray], n_top_genes: int, names: Sequence[str] | None
) -> np.ndarray:
    values, chosen = [], []
    for part, scale in zip(parts, scales, strict=True):
        means, variances = _moments(_expression(part, scale))
        # For a single part all genes are compared; for several, in each part only the genes that it expresses.
        compared = means > 0 if len(parts) > 1 else np.ones(len(means), dtype=bool)
        values.append(np.zeros(len(means)))
        chosen.append(np.zeros(len(means), dtype=bool))
        if compared.any():
            values[-1][compared] = _normalized_dispersions(means[compared], variances[compared])
            chosen[-1][compared] = _highest(values[-1][compared], n_top_genes)
    if not np.any(chosen):
        raise CellgaugeError("no variable genes can be chosen: no gene varies between the cells")
    if len(parts) == 1:
        return np.flatnonzero(chosen[0])
    return np.sort(_by_agreement(np.sum(chosen, axis=0), np.stack(values), np.asarray(names, dtype=str))[:n_top_genes])


def _moments(blocks: Iterable[csr_matrix]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance (denominator n - 1) of each gene's scaled counts, float64, from log-normalized expression.

    Seurat computes dispersions from expm1 of the logarithms. Values and squares are float32, sums are float64 and added
    cell by cell: any other order or precision would swap genes that nearly tie.
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


def _normalized_dispersions(means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Return each gene's log dispersion, standardized among genes of similar mean.

    Dispersion is variance / mean. Genes are put into bins of equal width by log(1 + mean). The value is 1 for the only gene
    with a dispersion in its bin, and NaN for a gene that does not vary.
    """
    means = np.where(means == 0, 1e-12, means)
    with np.errstate(invalid="ignore"):
        dispersions = np.log(np.where(variances == 0, np.nan, variances / means))
    logs = np.log1p(means)
    edges = np.linspace(logs.min(), logs.max(), N_BINS + 1)
    bins = np.searchsorted(edges[1:-1], logs, side="left")  # closed above, as in `pandas.cut`
    values = np.full(len(means), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        for number in np.unique(bins):
            in_bin = bins == number
            mean, deviation = _mean_and_deviation(dispersions[in_bin & ~np.isnan(dispersions)])
            values[in_bin] = (dispersions[in_bin] - mean) / deviation
    return values


def _mean_and_deviation(values: np.ndarray) -> tuple[np.float64, np.float64]:
    """Return mean and standard deviation (denominator n - 1) of dispersions; for a single one, values that standardize it to 1.

    Values are added one by one (Kahan's sum, Welford's squares), as pandas does for scanpy. Genes of different bins may tie,
    such as those of bins with two genes, and numpy's sums would rank them differently.
    """
    if len(values) < 2:
        return np.float64(0), np.float64(values[0] if len(values) else np.nan)
    total = lost = mean = squares = 0.0
    for count, value in enumerate(values.tolist(), 1):
        added = value - lost
        lost = (total + added) - total - added
        total += added
        difference = value - mean
        mean += difference / count
        squares += difference * (value - mean)
    return np.float64(total / len(values)), np.sqrt(squares / (len(values) - 1))


def _highest(values: np.ndarray, n: int) -> np.ndarray:
    """Return whether each gene is among the `n` highest, ties for the last rank included; bool, shape (n_genes,)."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return np.zeros(len(values), dtype=bool)
    return np.where(np.isnan(values), -np.inf, values) >= known[-min(n, len(known))]


def _by_agreement(votes: np.ndarray, values: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Return the order of genes by number of parts that chose them, then by mean value, both descending, then by name.

    Args:
        votes: number of parts that chose each gene, shape (n_genes,).
        values: normalized dispersions, shape (n_parts, n_genes); means ignore NaN.
    """
    with np.errstate(invalid="ignore"):  # long double reproduces pandas' compensated sum
        means = np.nansum(values.astype(np.longdouble), axis=0) / (~np.isnan(values)).sum(axis=0)
    return np.lexsort((names, -means.astype(np.float64), -votes))

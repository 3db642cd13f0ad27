"""Wilcoxon rank-sum scores of many groups of cells against one control, gene by gene.

The statistic of a group needs, of each of its values, only how many control values lie below and how many equal it (the
Mann-Whitney form: the ranks within the group add up to n (n + 1) / 2 whatever they are). So the control is sorted once, and
a group is only looked up in it; zeros, most of the values, are counted and not looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ROWS_AT_ONCE = 2048
"""A larger group is looked up by blocks of genes, with as many values as so many cells have of all: a key takes 8 bytes."""

ROUNDING = 1e-12
"""A variance below this part of that without ties is 0, but for rounding."""


class ControlRanks:
    """The values of the control cells, sorted gene by gene, that groups are ranked against.

    Args:
        controls: expression of the control cells, CSR float32, shape (n_controls, n_genes), n_controls >= 1.
    """

    def __init__(self, controls: csr_matrix) -> None:
        self.n_controls, self.n_genes = controls.shape
        keys = _sorted_keys(controls)
        first = np.flatnonzero(np.diff(keys, prepend=keys[:1] ^ np.uint64(1)))
        self._keys = keys[first]  # each value once, with how many controls of any gene stand before it, and equal it
        self._before = np.append(first, len(keys)).astype(np.float64)
        genes = _genes_of(self._keys)
        times = np.diff(self._before)
        stored = np.bincount(genes, weights=times, minlength=self.n_genes)
        negative = (self._keys & np.uint64(0xFFFFFFFF)) < np.uint64(1 << 31)
        self._starts = np.cumsum(stored) - stored
        self._zeros = self.n_controls - stored
        self._negative = np.bincount(genes[negative], weights=times[negative], minlength=self.n_genes)
        self._tied = np.bincount(genes, weights=times**3 - times, minlength=self.n_genes).astype(np.float64)

    def scores(self, group: csr_matrix | np.ndarray, *, tie_correct: bool = False) -> np.ndarray:
        """Return the z score of each gene of a group of cells, float64, shape (n_genes,); positive is higher than control.

        Scores have no correction for continuity, as scanpy's `rank_genes_groups(method="wilcoxon")` (1.11.1) has them; its
        ranks are the same to the last half, its scores are float32.

        Args:
            group: expression, CSR or dense, shape (n_cells, n_genes), n_cells >= 1.
            tie_correct: whether ties lower the variance, as in `scipy.stats.mannwhitneyu(method="asymptotic")` and scanpy's
                `tie_correct=True`. Of a gene whose values are all equal the score is 0.
        """
        n_cells = group.shape[0]
        below = np.zeros(self.n_genes)  # pairs (cell, control) in which the control is lower; half a pair where equal
        stored = np.zeros(self.n_genes)
        ties = self._tied.copy()
        width = max(1, self.n_genes * ROWS_AT_ONCE // max(n_cells, 1))
        for start in range(0, self.n_genes, width):
            keys = _sorted_keys(group if width >= self.n_genes else group[:, start : start + width], start)
            genes = _genes_of(keys)
            lower, equal = self._below(keys, genes)
            below += np.bincount(genes, weights=lower, minlength=self.n_genes)
            stored += np.bincount(genes, minlength=self.n_genes)
            if tie_correct:
                first = np.flatnonzero(np.diff(keys, prepend=keys[:1] ^ np.uint64(1)))
                known = equal[first]
                both = known + np.diff(first, append=len(keys))
                weights = both**3 - both - (known**3 - known)
                ties += np.bincount(genes[first], weights=weights, minlength=self.n_genes)
        below += (n_cells - stored) * (self._negative + self._zeros / 2)
        if not tie_correct:
            return self._standardized(below, n_cells)
        zeros, total = n_cells - stored + self._zeros, float(n_cells + self.n_controls)
        varied = 1 - (ties + zeros**3 - zeros) / (total**3 - total)
        scores = self._standardized(below, n_cells)
        return np.divide(scores, np.sqrt(np.maximum(varied, 0)), out=np.zeros_like(scores), where=varied > ROUNDING)

    def scores_of_constant(self, values: np.ndarray, n_cells: int) -> np.ndarray:
        """Return the z scores of a group of `n_cells` equal cells with the expression `values`, shape (n_genes,)."""
        values = np.asarray(values, dtype=np.float32)
        genes = np.arange(self.n_genes)
        below = np.where(values == 0, self._negative + self._zeros / 2, self._below(_keys(genes, values), genes)[0])
        return self._standardized(below * n_cells, n_cells)

    def _below(self, keys: np.ndarray, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how many controls are below each value (not 0) of a gene, equal ones as halves; and how many are equal."""
        place = np.searchsorted(self._keys, keys)
        last = len(self._keys) - 1
        known = self._keys[np.minimum(place, last)] == keys if last >= 0 else np.zeros(len(keys), bool)
        before, equal = self._before[place], np.zeros(len(keys))
        equal[known] = self._before[place[known] + 1] - before[known]
        before += equal / 2 - self._starts[genes]
        positive = (keys & np.uint64(1 << 31)) != 0
        return before + np.where(positive, self._zeros[genes], 0.0), equal

    def _standardized(self, below: np.ndarray, n_cells: int) -> np.ndarray:
        pairs = float(n_cells) * self.n_controls
        return (below - pairs / 2) / np.sqrt(pairs * (n_cells + self.n_controls + 1) / 12)


def _sorted_keys(matrix: csr_matrix | np.ndarray, first_gene: int = 0) -> np.ndarray:
    """Return the keys of everything in `matrix` that is not 0, ascending; its first column is the gene `first_gene`."""
    if isinstance(matrix, np.ndarray):
        rows, genes = np.nonzero(matrix)
        keys = _keys(genes, matrix[rows, genes])
    else:
        stored = slice(None) if matrix.data.all() else matrix.data != 0
        keys = _keys(matrix.indices[stored], matrix.data[stored])
    keys.sort()
    keys += np.uint64(first_gene << 32)
    return keys


def _keys(genes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return integers that sort by gene, then by value: the order of float32 is that of its bits once signs are folded."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (genes.astype(np.uint64) << np.uint64(32)) | ordered.astype(np.uint64)


def _genes_of(keys: np.ndarray) -> np.ndarray:
    return (keys >> np.uint64(32)).astype(np.intp)

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
"""How many cells of a group are looked up at a time: their keys take 8 bytes per stored value."""


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

    def scores(self, group: csr_matrix | np.ndarray) -> np.ndarray:
        """Return the z score of each gene of a group of cells, float64, shape (n_genes,); positive is higher than control.

        Scores have no correction for ties and none for continuity, as scanpy's `rank_genes_groups(method="wilcoxon")`
        (1.11.1) has them; its ranks are the same to the last half, its scores are float32.

        Args:
            group: expression, CSR or dense, shape (n_cells, n_genes), n_cells >= 1.
        """
        n_cells = group.shape[0]
        below = np.zeros(self.n_genes)  # pairs (cell, control) in which the control is lower; half a pair where equal
        stored = np.zeros(self.n_genes)
        for start in range(0, n_cells, ROWS_AT_ONCE):
            keys = _sorted_keys(group[start : start + ROWS_AT_ONCE])
            genes = _genes_of(keys)
            below += np.bincount(genes, weights=self._below(keys, genes), minlength=self.n_genes)
            stored += np.bincount(genes, minlength=self.n_genes)
        below += (n_cells - stored) * (self._negative + self._zeros / 2)
        return self._standardised(below, n_cells)

    def scores_of_constant(self, values: np.ndarray, n_cells: int) -> np.ndarray:
        """Return the z scores of a group of `n_cells` equal cells with the expression `values`, shape (n_genes,)."""
        values = np.asarray(values, dtype=np.float32)
        genes = np.arange(self.n_genes)
        below = np.where(values == 0, self._negative + self._zeros / 2, self._below(_keys(genes, values), genes))
        return self._standardised(below * n_cells, n_cells)

    def _below(self, keys: np.ndarray, genes: np.ndarray) -> np.ndarray:
        """Return how many controls are lower than each value (not 0) of a gene, those equal to it as halves."""
        place = np.searchsorted(self._keys, keys)
        equal = (
            self._keys[np.minimum(place, len(self._keys) - 1)] == keys if len(self._keys) else np.zeros(len(keys), bool)
        )
        before = self._before[place]
        if equal.any():
            before[equal] += (self._before[place[equal] + 1] - before[equal]) / 2
        before -= self._starts[genes]
        positive = (keys & np.uint64(1 << 31)) != 0
        return before + np.where(positive, self._zeros[genes], 0.0)

    def _standardised(self, below: np.ndarray, n_cells: int) -> np.ndarray:
        pairs = float(n_cells) * self.n_controls
        return (below - pairs / 2) / np.sqrt(pairs * (n_cells + self.n_controls + 1) / 12)


def _sorted_keys(matrix: csr_matrix | np.ndarray) -> np.ndarray:
    """Return the keys of everything in `matrix` that is not 0, ascending."""
    if isinstance(matrix, np.ndarray):
        rows, genes = np.nonzero(matrix)
        keys = _keys(genes, matrix[rows, genes])
    else:
        there = matrix.data != 0
        whole = there.all()
        keys = _keys(matrix.indices if whole else matrix.indices[there], matrix.data if whole else matrix.data[there])
    keys.sort()
    return keys


def _keys(genes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return integers that sort by gene, then by value: the order of float32 is that of its bits once signs are folded."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (genes.astype(np.uint64) << np.uint64(32)) | ordered.astype(np.uint64)


def _genes_of(keys: np.ndarray) -> np.ndarray:
    return (keys >> np.uint64(32)).astype(np.intp)

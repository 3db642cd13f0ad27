"""How well groups of cells (species, batches) mix: the entropy of groups in each cell's neighborhood."""

from __future__ import annotations

from math import lgamma, log

import numpy as np


def neighbor_counts(neighbors: np.ndarray, codes: np.ndarray, n_groups: int) -> np.ndarray:
    """Count each cell's neighbors by group, int64, shape (n_cells, n_groups).

    Args:
        neighbors: row indices, shape (n_cells, k).
        codes: the group of each cell, 0 to n_groups - 1, shape (n_cells,).
    """
    counts = np.empty((len(neighbors), n_groups), dtype=np.int64)
    for code in range(n_groups):
        counts[:, code] = (codes == code)[neighbors].sum(axis=1)
    return counts


def entropy_of_counts(counts: np.ndarray) -> np.ndarray:
    """Return the entropy of each row of counts, divided by log(number of groups), float64 in [0, 1], shape (n_cells,).

    Source: `compute_entropy_per_cell` of cz-benchmarks (natural logarithm; the cell counts as its own neighbor).

    Args:
        counts: int, shape (n_cells, n_groups), at least two groups; all rows have the same sum, at least 1.
    """
    if counts.shape[1] < 2:
        raise ValueError("an entropy of groups needs at least two groups")
    k = int(counts[0].sum())
    shares = np.arange(k + 1) / k
    terms = -shares * np.log(shares, out=np.zeros(k + 1), where=shares > 0)
    return terms[counts].sum(axis=1) / log(counts.shape[1])


def expected_entropy(sizes: np.ndarray, k: int) -> float:
    """Return the mean entropy of neighborhoods of k cells when groups are spread at random over the cells.

    Exact, by the hypergeometric distribution: a neighborhood is then a random draw of k of the n cells without
    replacement (the cell itself included, as it is a random cell too). It lies below the entropy of the overall
    proportions, by about (groups - 1) (1 - k / n) / (2 k) nats: few neighbors look purer than the whole.

    Args:
        sizes: how many cells each group has, at least two groups.
        k: number of neighbors, at most all cells.

    Returns:
        in [0, 1], divided by log(number of groups) as `entropy_of_counts`.
    """
    n = int(np.sum(sizes))
    total = 0.0
    for size in map(int, sizes):
        for count in range(max(1, k - (n - size)), min(size, k) + 1):
            probability = np.exp(_log_choose(size, count) + _log_choose(n - size, k - count) - _log_choose(n, k))
            total -= probability * count / k * log(count / k)
    return float(total / log(len(sizes)))


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)

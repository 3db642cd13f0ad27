"""How well groups of cells (species, batches) mix: the entropy of groups in each cell's neighborhood."""

from __future__ import annotations

from math import lgamma, log

import numpy as np


def neighborhood_entropy(neighbors: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Compute the entropy of the groups among each cell's neighbors, divided by log(number of groups).

    Source: `compute_entropy_per_cell` of cz-benchmarks (natural logarithm; the cell counts as its own neighbor).

    Args:
        neighbors: row indices, shape (n_cells, k).
        groups: shape (n_cells,), at least two different values.

    Returns:
        float64, shape (n_cells,), in [0, 1].
    """
    names, codes = np.unique(groups, return_inverse=True)
    n_cells, k = neighbors.shape
    if len(names) < 2:
        raise ValueError("an entropy of groups needs at least two groups")
    counts = np.empty((n_cells, len(names)), dtype=np.int64)
    for code in range(len(names)):
        counts[:, code] = (codes == code)[neighbors].sum(axis=1)
    shares = np.arange(k + 1) / k
    terms = -shares * np.log(shares, out=np.zeros(k + 1), where=shares > 0)
    return terms[counts].sum(axis=1) / log(len(names))


def expected_entropy(sizes: np.ndarray, k: int) -> float:
    """Return the mean entropy of neighborhoods of k cells when groups are spread at random over the cells.

    Exact, by the hypergeometric distribution: a neighborhood is then a random draw of k of the n cells without
    replacement (the cell itself included, as it is a random cell too). It lies below the entropy of the overall
    proportions, by about (groups - 1) (1 - k / n) / (2 k) nats: few neighbors look purer than the whole.

    Args:
        sizes: how many cells each group has, at least two groups.
        k: number of neighbors, at most all cells.

    Returns:
        in [0, 1], divided by log(number of groups) as `neighborhood_entropy`.
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


def balanced_subsample(groups: np.ndarray, seed: int) -> np.ndarray:
    """Draw as many cells of every group as the smallest has, without replacement.

    Returns:
        rows, int64, ascending.
    """
    generator = np.random.default_rng(seed)
    codes = np.unique(groups, return_inverse=True)[1]
    size = np.bincount(codes).min()
    drawn = [generator.choice(np.flatnonzero(codes == code), size, replace=False) for code in range(codes.max() + 1)]
    return np.sort(np.concatenate(drawn))

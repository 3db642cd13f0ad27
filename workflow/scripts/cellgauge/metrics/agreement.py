"""Agreement of two partitions, from their contingency table (equal to scikit-learn's functions of the same name)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Contingency(NamedTuple):
    """How many cells two partitions put together: the cells of the table that are not 0.

    Attributes:
        counts: int64, shape (n_pairs,).
        first, second: sizes of the groups of each partition, int64.
        row, column: the groups of each pair, int64, shape (n_pairs,).
    """

    counts: np.ndarray
    first: np.ndarray
    second: np.ndarray
    row: np.ndarray
    column: np.ndarray


def contingency(first: np.ndarray, second: np.ndarray) -> Contingency:
    """Cross-tabulate two partitions of the same cells, each of shape (n_cells,)."""
    rows, columns = (np.unique(groups, return_inverse=True)[1] for groups in (first, second))
    n_columns = int(columns.max()) + 1
    pairs, counts = np.unique(rows * n_columns + columns, return_counts=True)
    return Contingency(counts, np.bincount(rows), np.bincount(columns), pairs // n_columns, pairs % n_columns)


def adjusted_rand_index(table: Contingency) -> float:
    """Return the Rand index corrected for chance (Hubert & Arabie 1985), in [-0.5, 1]; 1 for equal partitions."""
    n = int(table.first.sum())
    together = int((table.counts**2).sum())
    in_first, in_second = int((table.first**2).sum()), int((table.second**2).sum())
    both, neither = together - n, n**2 - in_first - in_second + together
    only_first, only_second = in_first - together, in_second - together
    if only_first == 0 and only_second == 0:
        return 1.0
    disagreeing = (both + only_second) * (only_second + neither) + (both + only_first) * (only_first + neither)
    return 2.0 * (both * neither - only_first * only_second) / disagreeing


def normalized_mutual_info(table: Contingency) -> float:
    """Return the mutual information divided by the mean of both entropies (arithmetic), in [0, 1]."""
    if len(table.first) == 1 and len(table.second) == 1:
        return 1.0
    n = table.first.sum()
    joint = table.counts / n
    terms = joint * (
        np.log(table.counts) - np.log(table.first[table.row]) - np.log(table.second[table.column]) + np.log(n)
    )
    terms[np.abs(terms) < np.finfo(np.float64).eps] = 0
    information = float(terms.sum())
    if information <= np.finfo(np.float64).eps:
        return 0.0
    return information / ((_entropy(table.first) + _entropy(table.second)) / 2)


def _entropy(sizes: np.ndarray) -> float:
    shares = sizes / sizes.sum()
    return float(-(shares * np.log(shares)).sum())

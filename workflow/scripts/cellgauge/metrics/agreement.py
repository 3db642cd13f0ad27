"""Agreement of two partitions, from their contingency table (equal to scikit-learn's functions of the same name)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np


class Contingency(NamedTuple):
    """How many cells two partitions put together: the cells of the table that are not 0."""

    counts: np.ndarray  # int64, shape (n_pairs,)
    # first, second: sizes of the groups of each partition, int64
    first: np.ndarray
    second: np.ndarray
    # row, column: the groups of each pair, int64, shape (n_pairs,)
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
    information = _mutual_information(table)
    if information <= np.finfo(np.float64).eps:
        return 0.0
    return information / ((_entropy(table.first) + _entropy(table.second)) / 2)


def adjusted_mutual_info(table: Contingency) -> float:
    """Return the information beyond chance, in shares of the most that it could be: 1 for equal partitions, 0 for chance.

    Chance keeps the sizes of the groups (Vinh, Epps & Bailey 2010); the most is the mean of both entropies (arithmetic).
    """
    n_groups = len(table.first), len(table.second)
    if 1 in n_groups:
        return float(n_groups == (1, 1))
    expected, eps = _expected_information(table.first, table.second), np.finfo(np.float64).eps
    beyond = _mutual_information(table) - expected
    most = (_entropy(table.first) + _entropy(table.second)) / 2 - expected
    # two partitions into single cells leave 0 / 0, and are equal
    return float(np.copysign(max(abs(beyond), eps), beyond) / np.copysign(max(abs(most), eps), most))


def _mutual_information(table: Contingency) -> float:
    n = table.first.sum()
    joint = table.counts / n
    terms = joint * (
        np.log(table.counts) - np.log(table.first[table.row]) - np.log(table.second[table.column]) + np.log(n)
    )
    terms[np.abs(terms) < np.finfo(np.float64).eps] = 0
    return float(terms.sum())


def _expected_information(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean mutual information of two partitions into groups of these sizes, if cells are dealt at random.

    The number of cells that two groups share is hypergeometric. It is summed up to 9 standard deviations and 30 cells from its
    mean: what lies beyond has a probability below 1e-15 (Bernstein's inequality).
    """
    n = int(first.sum())
    logs = _log_factorials(n)
    sizes, times = np.unique(second, return_counts=True)
    total = 0.0
    for size, repeats in zip(*np.unique(first, return_counts=True), strict=True):
        mean = size * sizes / n
        reach = 9 * np.sqrt(mean * (1 - size / n)) + 30
        low = np.maximum(np.maximum(1, size + sizes - n), np.floor(mean - reach)).astype(np.int64)
        high = np.minimum(np.minimum(size, sizes), np.ceil(mean + reach)).astype(np.int64)
        lengths = high - low + 1
        other, weight = np.repeat(sizes, lengths), np.repeat(times, lengths)
        shared = np.arange(len(other)) + np.repeat(low - np.cumsum(lengths) + lengths, lengths)
        chance = np.exp(
            (logs[size] + logs[n - size] - logs[n])
            + (logs[other] + logs[n - other] - logs[shared])
            - (logs[size - shared] + logs[other - shared] + logs[n - size - other + shared])
        )
        information = shared / n * np.log(n * shared / (size * other))
        total += repeats * float((weight * information * chance).sum())
    return total


@lru_cache(maxsize=1)
def _log_factorials(n: int) -> np.ndarray:
    return np.array([math.lgamma(k + 1) for k in range(n + 1)])


def _entropy(sizes: np.ndarray) -> float:
    shares = sizes / sizes.sum()
    return float(-(shares * np.log(shares)).sum())

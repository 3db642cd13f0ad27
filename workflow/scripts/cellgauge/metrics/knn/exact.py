"""Exact k nearest neighbors by Euclidean distance.

A float32 matrix product proposes candidates; a bound on its rounding error proves that no other row can belong to the k
nearest; what the bound leaves open is decided by float64 differences. Rows for which the proof fails (tight clusters far
from the centre, ties) are searched again with float64 products. Equal to a brute-force search in float64; among rows at
exactly the same distance the choice is arbitrary but repeatable. Among themselves, rows are compared in tiles of which
each serves both its sides: half the products.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cellgauge.metrics.knn.distances import (
    CentredRows,
    DistanceTiles,
    Matrix,
    block_shape,
    column_means,
    inner_products,
    pair_distances,
    safe_scale,
    slices,
    squared_norms,
)
from cellgauge.metrics.knn.smallest import CACHE_ROWS, Candidates

MARGIN = 10
"""Candidates kept beyond k: enough that the proof seldom fails, few enough to cost nothing."""


def nearest_neighbors(
    references: Matrix, k: int, queries: Matrix | None = None, **how: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest references of every query, nearest first.

    Args:
        references: float32, finite, dense or CSR, shape (n_references, n_dims).
        k: at most n_references.
        queries: shape (n_queries, n_dims), of the same kind as `references`; None searches among the references
            themselves, and the first neighbor of each is then itself.
        how: none of these changes the result. `centred`: the references lie around 0, which saves copies. `device`: where
            float32 products propose candidates, as PyTorch names it; None is numpy. `order`: an order of the references in
            which near ones are close to each other, such as by label.

    Returns:
        indices, int64, and Euclidean distances, float64, both of shape (n_queries, k).

    Raises:
        ValueError: k is less than 1 or more than there are references.
    """
    return _search(references, k, queries, ordered=True, **how).nearest()


def neighborhoods(references: Matrix, k: int, queries: Matrix | None = None, **how: Any) -> np.ndarray:
    """Find the set of the k nearest references of every query, int32, shape (n_queries, k), in no order.

    Cheaper than `nearest_neighbors`, whose arguments it takes: only what is at the rim is computed twice.
    """
    return _search(references, k, queries, ordered=False, **how).indices


class NeighborSearch:
    """The k nearest neighbors of every row among all rows of a matrix, from tiles of distances that pass by.

    Args:
        tiles: where the distances come from.
        k: at most the number of rows.
        ordered: whether neighbors come nearest first, with distances; else as sets.

    Raises:
        ValueError: k is less than 1 or more than there are rows.
    """

    def __init__(self, tiles: DistanceTiles, k: int, *, ordered: bool = True) -> None:
        self._tiles, self._answers = tiles, _Answers(tiles.rows, k, ordered=ordered)
        self._candidates = Candidates(len(tiles.order), min(k + MARGIN, len(tiles.order)), tiles.edge)

    def take(self, part: slice, other: slice, squared: np.ndarray) -> None:
        """Look through what `tiles.squared` gave for two blocks, in the order of `tiles.pairs`.

        Args:
            squared: float32, shape (rows in part, rows in other); where both blocks are one, its diagonal is written to.
        """
        if part == other:
            np.fill_diagonal(squared, -np.inf)  # itself comes before its duplicates
        self._candidates.take(part, other, squared)

    def answers(self) -> _Answers:
        """Return the neighbors of all rows, once all tiles have passed."""
        tiles, unproven = self._tiles, []
        for part in slices(len(tiles.order), tiles.edge):
            rows = tiles.order[part]
            columns, squared = self._candidates.smallest(part)
            squared = squared.astype(np.float64)
            proven = self._answers.decide(rows, tiles.order[columns], squared, tiles.norms[part], np.float32)
            unproven.append(rows[~proven])
        self._answers.search_in_float64(np.concatenate(unproven))
        return self._answers


def _search(
    references: Matrix,
    k: int,
    queries: Matrix | None,
    *,
    ordered: bool,
    centred: bool = False,
    device: str | None = None,
    order: np.ndarray | None = None,
) -> _Answers:
    pool = CentredRows(references, None if centred else column_means(references), safe_scale(references))
    if queries is None and device is None:
        tiles = DistanceTiles(pool, np.arange(len(pool)) if order is None else order)
        search = NeighborSearch(tiles, k, ordered=ordered)
        for part, other in tiles.pairs():
            search.take(part, other, tiles.squared(part, other))
        return search.answers()
    asking = None if queries is None else CentredRows(queries, pool.centre, pool.scale)
    answers = _Answers(pool, k, asking, ordered=ordered)
    unproven = []
    step, _ = block_shape(len(answers.indices), *references.shape, on_device=device is not None)
    for part in slices(len(answers.indices), step):
        rows = np.arange(part.start, part.stop)
        unproven.append(rows[~answers.search(rows, np.float32, device)])
    answers.search_in_float64(np.concatenate(unproven))
    return answers


class _Answers:
    """The neighbors of queries, as they are decided from candidates.

    Args:
        pool: the references.
        asking: the queries; None where they are the references.

    Attributes:
        indices: shape (n_queries, k): int64, nearest first, where `ordered`, else int32 in no order.
    """

    def __init__(self, pool: CentredRows, k: int, asking: CentredRows | None = None, *, ordered: bool) -> None:
        if not 1 <= k <= len(pool):
            raise ValueError(f"{k} nearest neighbors asked for among {len(pool)} rows")
        self._pool, self._asking, self._k = pool, pool if asking is None else asking, k
        self._among_themselves = asking is None
        shape = len(self._asking), k
        self.indices = np.empty(shape, dtype=np.int64 if ordered else np.int32)
        self._squared = np.empty(shape) if ordered else None

    def nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """Return indices and Euclidean distances as `nearest_neighbors` does; only if `ordered`."""
        return self.indices, np.sqrt(self._squared, out=self._squared)

    def search(self, rows: np.ndarray, dtype: type, device: str | None = None) -> np.ndarray:
        """Fill in the neighbors of some queries, by products in `dtype`; return which are proven."""
        return self.decide(rows, *self._candidates(rows, dtype, device), dtype)

    def search_in_float64(self, rows: np.ndarray) -> None:
        """Fill in the neighbors of queries that float32 left open."""
        step, _ = block_shape(len(self._asking), *self._pool.matrix.shape, itemsize=8)
        for part in slices(len(rows), step):
            self.search(rows[part], np.float64)

    def decide(
        self, rows: np.ndarray, candidates: np.ndarray, approximate: np.ndarray, norms: np.ndarray, dtype: type
    ) -> np.ndarray:
        """Fill in the neighbors of some queries from the references that look nearest; return which are proven.

        Args:
            candidates: references, shape (n_rows, n_candidates), by `approximate`, ascending.
            approximate: squared distances as products in `dtype` give them, float64, of the same shape.
            norms: squared lengths of the centred queries, shape (n_rows,).
        """
        bound = ErrorBound(norms[:, None], self._pool.matrix.shape[1], dtype)
        proven = _proven(approximate, self._k, bound, complete=candidates.shape[1] == len(self._pool))
        chosen, exact = self._nearest(rows, candidates, approximate, bound)
        if self._among_themselves:
            exact = np.where(chosen == rows[:, None], -1.0, exact)  # itself comes before its duplicates
        if self._squared is not None:
            by_distance = np.lexsort((chosen, exact))
            chosen, exact = (np.take_along_axis(values, by_distance, axis=1) for values in (chosen, exact))
            self._squared[rows] = np.maximum(exact, 0)
        self.indices[rows] = chosen
        return proven

    def _nearest(
        self, rows: np.ndarray, candidates: np.ndarray, approximate: np.ndarray, bound: ErrorBound
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return k of the candidates and their squared distances, shape (n_rows, k).

        If `ordered`, true distances decide and are returned; else they are computed where the bound leaves a doubt.
        """
        rim = approximate[:, self._k - 1 : self._k]
        in_question = bound.least(approximate) <= bound.most(rim)
        ranked = np.where(in_question, approximate, np.inf)
        if self._squared is None:
            certain = bound.most(approximate) < bound.least(rim)
            ranked[certain] = -1.0
            in_question &= ~certain
            settled = in_question.sum(axis=1) + certain.sum(axis=1) == self._k
            in_question[settled] = False
        row, column = np.nonzero(in_question)
        pairs = self._asking.matrix, rows[row], self._pool.matrix, candidates[row, column]
        ranked[row, column] = pair_distances(*pairs)
        order = np.argsort(ranked, axis=1, kind="stable")[:, : self._k]
        return np.take_along_axis(candidates, order, axis=1), np.take_along_axis(ranked, order, axis=1)

    def _candidates(
        self, rows: np.ndarray, dtype: type, device: str | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the references that look nearest, k + MARGIN or all, their squared distances ascending, and norms."""
        pool, n = self._pool, self._k + MARGIN
        contiguous = rows[-1] - rows[0] == len(rows) - 1
        block = self._asking.block(slice(rows[0], rows[-1] + 1) if contiguous else rows, dtype)
        norms = squared_norms(block)
        _, step = block_shape(len(rows), len(pool), block.shape[1], block.itemsize, on_device=device is not None)
        if device is None:
            smallest = _Smallest(block, min(step, len(pool)), n)
        else:
            from cellgauge.metrics.knn.on_device import SmallestOnDevice

            smallest = SmallestOnDevice(block, n, device)
        indices, values = [], []
        for part in slices(len(pool), step):
            references = pool.block(part, dtype)
            inside = np.flatnonzero((rows >= part.start) & (rows < part.stop) & self._among_themselves)
            itself = inside, rows[inside] - part.start
            norms_of_part = pool.squared_norms(part, references).astype(dtype)
            columns, smallest_values = smallest.among(references, norms_of_part, itself)
            values.append(smallest_values)
            indices.append(columns + part.start)
        indices, values = np.concatenate(indices, axis=1), np.concatenate(values, axis=1)
        order = np.argsort(values, axis=1, kind="stable")[:, :n]
        values = np.take_along_axis(values, order, axis=1).astype(np.float64)
        return np.take_along_axis(indices, order, axis=1), values + norms[:, None], norms


class ErrorBound:
    """How far a squared distance d2 of a matrix product may lie from the true one, for queries of given length.

    The error of an inner product of n terms is at most g |x||y|, g = l sqrt(n) u with probability 1 - 2 exp(-l^2 / 2)
    (Higham & Mary 2019, A new approach to probabilistic rounding error analysis); l = 8 leaves 3e-14. With the roundings
    of centring, lengths and sums this makes at most c (|x| + |y|)^2, c = g / 2 + 8 u, and by |y| <= |x| + d at most
    c (8 |x|^2 + 2 d^2): a bound that needs nothing of y but its distance.
    """

    def __init__(self, norms: np.ndarray, n_columns: int, dtype: type) -> None:
        unit = np.finfo(dtype).eps / 2
        self.relative = 2 * (4 * np.sqrt(n_columns) + 8) * unit
        self.absolute = 4 * self.relative * norms

    def least(self, squared: np.ndarray) -> np.ndarray:
        """Return the least that the true squared distances may be."""
        return squared * (1 - self.relative) - self.absolute

    def most(self, squared: np.ndarray) -> np.ndarray:
        """Return the most that the true squared distances may be."""
        return squared * (1 + 2 * self.relative) + self.absolute


class _Smallest:
    """Finds the references that look nearest to some queries, by |y|^2 - 2 x.y; `on_device` has the same for PyTorch."""

    def __init__(self, queries: np.ndarray, most_references: int, n: int) -> None:
        self._queries, self._n = queries * queries.dtype.type(-2), n
        self._buffer = np.empty(len(queries) * most_references, queries.dtype)

    def among(
        self, references: np.ndarray, norms: np.ndarray, itself: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return columns and values; the pairs `itself` (rows, columns) come before all others."""
        values = inner_products(self._queries, references, self._buffer)
        values += norms
        values[itself] = -np.inf
        columns = _smallest_columns(values, self._n)
        return columns, np.take_along_axis(values, columns, axis=1)


def _smallest_columns(values: np.ndarray, n: int) -> np.ndarray:
    """Return the columns of the `n` smallest values of each row (all where there are no more), ascending."""
    n_rows, n_columns = values.shape
    if n >= n_columns:
        return np.broadcast_to(np.arange(n_columns), values.shape)
    columns = np.empty((n_rows, n), dtype=np.int64)
    for part in slices(n_rows, CACHE_ROWS):
        rows = values[part]
        rim = np.partition(rows, n - 1, axis=1)[:, n - 1 : n]
        inside = np.flatnonzero(rows <= rim)
        if len(inside) == len(rows) * n:
            columns[part] = inside.reshape(len(rows), n) % n_columns
        else:  # ties at the rim
            columns[part] = np.argpartition(rows, n - 1, axis=1)[:, :n]
    return columns


def _proven(approximate: np.ndarray, k: int, bound: ErrorBound, complete: bool) -> np.ndarray:
    """Return for which rows nothing outside the candidates can be among the k nearest."""
    if complete:
        return np.full(len(approximate), True)
    return (bound.least(approximate[:, -1:]) >= bound.most(approximate[:, k - 1 : k]))[:, 0]

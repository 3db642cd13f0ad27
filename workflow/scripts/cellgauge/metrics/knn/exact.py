"""Exact k nearest neighbors by Euclidean distance.

A float32 matrix product proposes candidates; a bound on its rounding error proves that no other row can belong to the k
nearest; what the bound leaves open is decided by float64 differences. Rows for which the proof fails (tight clusters far
from the centre, ties) are searched again with float64 products. Equal to a brute-force search in float64; among rows at
exactly the same distance the choice is arbitrary but repeatable. Among themselves, rows are compared in tiles of which
each serves both its sides: half the products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellgauge.metrics.knn.distances import (
    CentredRows,
    DistanceTiles,
    block_shape,
    column_means,
    inner_products,
    pair_distances,
    safe_scale,
    slices,
    squared_norms,
)
from cellgauge.metrics.knn.smallest import CACHE_ROWS, Candidates

if TYPE_CHECKING:
    from cellgauge.metrics.knn.distances import Matrix

MARGIN = 10
"""Candidates kept beyond k: enough that the proof seldom fails, few enough to cost nothing."""


def nearest_neighbors(
    references: Matrix,
    k: int,
    queries: Matrix | None = None,
    *,
    centred: bool = False,
    itself: np.ndarray | None = None,
    device: str | None = None,
    order: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest references of every query, nearest first.

    Args:
        references: float32, finite, dense or CSR, shape (n_references, n_dims).
        k: at most n_references.
        queries: shape (n_queries, n_dims), of the same kind as `references`; None searches among the references
            themselves, and the first neighbor of each is then itself.
        centred: the references lie around 0: what is found is the same, found with fewer copies.
        itself: where the queries are some of the references: which, shape (n_queries,). The first neighbor of each is then
            itself too.
        device: where float32 products propose candidates, as PyTorch names it; None is numpy. What is found is the same.
        order: an order of the references in which near ones stand close to each other, such as by label: where they are
            searched among themselves, the same is found sooner.

    Returns:
        indices, int64, and Euclidean distances, float64, both of shape (n_queries, k).

    Raises:
        ValueError: k is less than 1 or more than there are references.
    """
    if queries is None and device is None:
        return _among_themselves(references, k, ordered=True, centred=centred, order=order).nearest()
    answers = _search(references, k, queries, ordered=True, centred=centred, itself=itself, device=device)
    return answers.indices, answers.distances()


def neighborhoods(
    references: Matrix,
    k: int,
    queries: Matrix | None = None,
    *,
    centred: bool = False,
    itself: np.ndarray | None = None,
    device: str | None = None,
    order: np.ndarray | None = None,
) -> np.ndarray:
    """Find the set of the k nearest references of every query, int32, shape (n_queries, k), in no order.

    Cheaper than `nearest_neighbors`: only what stands at the rim is computed twice.

    Args:
        references, k, queries, centred, itself, device, order: as for `nearest_neighbors`.

    Raises:
        ValueError: k is less than 1 or more than there are references.
    """
    if queries is None and device is None:
        return _among_themselves(references, k, ordered=False, centred=centred, order=order).members()
    return _search(references, k, queries, ordered=False, centred=centred, itself=itself, device=device).indices


class NeighborSearch:
    """The k nearest neighbors of every row among all rows of a matrix, from tiles of distances that pass by.

    Args:
        tiles: where the distances come from.
        k: at most the number of rows.
        ordered: whether neighbors are wanted nearest first, with distances; else as sets.

    Raises:
        ValueError: k is less than 1 or more than there are rows.
    """

    def __init__(self, tiles: DistanceTiles, k: int, *, ordered: bool = True) -> None:
        self._tiles = tiles
        matrix = tiles.rows.matrix
        self._answers = _Answers(matrix, k, matrix, np.arange(matrix.shape[0]), ordered=ordered)
        self._candidates = Candidates(len(tiles.order), min(k + MARGIN, len(tiles.order)), tiles.edge)

    def take(self, part: slice, other: slice, squared: np.ndarray) -> None:
        """Look through what `tiles.squared` gave for two blocks, in the order of `tiles.pairs`.

        Args:
            squared: float32, shape (rows in part, rows in other); where both blocks are one, its diagonal is written to.
        """
        if part == other:
            np.fill_diagonal(squared, -np.inf)  # itself comes before its duplicates
        self._candidates.take(part, other, squared)

    def nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """Return indices and distances as `nearest_neighbors` does, once all tiles have passed."""
        self._decide()
        return self._answers.indices, self._answers.distances()

    def members(self) -> np.ndarray:
        """Return sets as `neighborhoods` does, once all tiles have passed."""
        self._decide()
        return self._answers.indices

    def _decide(self) -> None:
        tiles, unproven = self._tiles, []
        for part in slices(len(tiles.order), tiles.edge):
            rows = tiles.order[part]
            columns, squared = self._candidates.smallest(part)
            proven = self._answers.decide(
                rows, tiles.order[columns], squared.astype(np.float64), tiles.norms[part], np.float32
            )
            unproven.append(rows[~proven])
        _search_in_float64(self._answers, np.concatenate(unproven), tiles.rows, tiles.rows)


def _among_themselves(
    references: Matrix, k: int, *, ordered: bool, centred: bool, order: np.ndarray | None = None
) -> NeighborSearch:
    """Return a search through which all tiles have passed."""
    rows = _centred_rows(references, references, centred)
    tiles = DistanceTiles(rows, np.arange(len(rows)) if order is None else order)
    search = NeighborSearch(tiles, k, ordered=ordered)
    for part, other in tiles.pairs():
        search.take(part, other, tiles.squared(part, other))
    return search


def _centred_rows(matrix: Matrix, references: Matrix, centred: bool) -> CentredRows:
    return CentredRows(matrix, None if centred else column_means(references), safe_scale(references))


def _search(
    references: Matrix,
    k: int,
    queries: Matrix | None,
    *,
    ordered: bool,
    centred: bool,
    itself: np.ndarray | None,
    device: str | None,
) -> _Answers:
    if queries is None:
        queries, itself = references, np.arange(references.shape[0])
    answers = _Answers(references, k, queries, itself, ordered=ordered)
    pool, asking = (_centred_rows(matrix, references, centred) for matrix in (references, queries))
    unproven = []
    step, _ = block_shape(len(asking), *references.shape, on_device=device is not None)
    for part in slices(len(asking), step):
        rows = np.arange(part.start, part.stop)
        found = _candidates(asking, rows, pool, k + MARGIN, np.float32, answers.own(rows), device)
        unproven.append(rows[~answers.decide(rows, *found, np.float32)])
    _search_in_float64(answers, np.concatenate(unproven), asking, pool)
    return answers


def _search_in_float64(answers: _Answers, rows: np.ndarray, asking: CentredRows, pool: CentredRows) -> None:
    """Decide rows that float32 left open."""
    step, _ = block_shape(len(asking), *pool.matrix.shape, itemsize=8)
    for part in slices(len(rows), step):
        found = _candidates(asking, rows[part], pool, answers.k + MARGIN, np.float64, answers.own(rows[part]), None)
        answers.decide(rows[part], *found, np.float64)


class _Answers:
    """The neighbors of rows, as they are decided from candidates.

    Attributes:
        indices: shape (n_queries, k): int64, nearest first, where `ordered`, else int32 in no order.
    """

    def __init__(
        self, references: Matrix, k: int, queries: Matrix, itself: np.ndarray | None, *, ordered: bool
    ) -> None:
        if not 1 <= k <= references.shape[0]:
            raise ValueError(f"{k} nearest neighbors asked for among {references.shape[0]} rows")
        self.k = k
        self.indices = np.empty((queries.shape[0], k), dtype=np.int64 if ordered else np.int32)
        self._references, self._queries = references, queries
        self._itself = itself
        self._squared = np.empty((queries.shape[0], k)) if ordered else None

    def own(self, rows: np.ndarray) -> np.ndarray | None:
        """Return which references the queries are, None where they are not among these."""
        return None if self._itself is None else self._itself[rows]

    def distances(self) -> np.ndarray:
        """Return Euclidean distances, float64, shape (n_queries, k), ascending; only if `ordered`."""
        return np.sqrt(self._squared, out=self._squared)

    def decide(
        self, rows: np.ndarray, candidates: np.ndarray, approximate: np.ndarray, norms: np.ndarray, dtype: type
    ) -> np.ndarray:
        """Fill in the neighbors of some queries from the references that look nearest; return which are proven.

        Args:
            candidates: references, shape (n_rows, n_candidates), by `approximate`, ascending.
            approximate: squared distances as products in `dtype` give them, float64, of the same shape.
            norms: squared lengths of the centred queries, shape (n_rows,).
        """
        bound = ErrorBound(norms[:, None], self._references.shape[1], dtype)
        proven = _proven(approximate, self.k, bound, complete=candidates.shape[1] == self._references.shape[0])
        ordered, own = self._squared is not None, self.own(rows)
        chosen, exact = _nearest_candidates(
            self._queries, rows, self._references, candidates, approximate, self.k, bound, ordered
        )
        if own is not None:
            exact = np.where(chosen == own[:, None], -1.0, exact)  # itself comes before its duplicates
        if ordered:
            by_distance = np.lexsort((chosen, exact))
            chosen, exact = (np.take_along_axis(values, by_distance, axis=1) for values in (chosen, exact))
            self._squared[rows] = np.maximum(exact, 0)
        self.indices[rows] = chosen
        return proven


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
        return squared * (1 - self.relative) - self.absolute

    def most(self, squared: np.ndarray) -> np.ndarray:
        return squared * (1 + 2 * self.relative) + self.absolute


def _candidates(
    asking: CentredRows,
    rows: np.ndarray,
    pool: CentredRows,
    wanted: int,
    dtype: type,
    own: np.ndarray | None,
    device: str | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the references that look nearest, (n_rows, wanted or all), their squared distances ascending, and norms."""
    contiguous = rows[-1] - rows[0] == len(rows) - 1
    block = asking.block(slice(rows[0], rows[-1] + 1) if contiguous else rows, dtype)
    norms = squared_norms(block)
    _, step = block_shape(len(rows), len(pool), block.shape[1], block.itemsize, on_device=device is not None)
    if device is None:
        smallest = _Smallest(block, min(step, len(pool)), wanted)
    else:
        from cellgauge.metrics.knn.on_device import SmallestOnDevice

        smallest = SmallestOnDevice(block, wanted, device)
    indices, values = [], []
    for part in slices(len(pool), step):
        references = pool.block(part, dtype)
        inside = np.empty(0, np.int64) if own is None else np.flatnonzero((own >= part.start) & (own < part.stop))
        itself = (inside, inside if own is None else own[inside] - part.start)
        columns, found = smallest.among(references, pool.squared_norms(part, references).astype(dtype), itself)
        values.append(found)
        indices.append(columns + part.start)
    indices, values = np.concatenate(indices, axis=1), np.concatenate(values, axis=1)
    order = np.argsort(values, axis=1, kind="stable")[:, :wanted]
    values = np.take_along_axis(values, order, axis=1).astype(np.float64)
    return np.take_along_axis(indices, order, axis=1), values + norms[:, None], norms


class _Smallest:
    """Finds the references that look nearest to some queries, by |y|^2 - 2 x.y; `on_device` has the same for PyTorch."""

    def __init__(self, queries: np.ndarray, most_references: int, wanted: int) -> None:
        self._queries = queries * queries.dtype.type(-2)
        self._wanted = wanted
        self._buffer = np.empty(len(queries) * most_references, queries.dtype)

    def among(
        self, references: np.ndarray, norms: np.ndarray, itself: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return columns and values; the pairs `itself` (rows, columns) come before all others."""
        found = inner_products(self._queries, references, self._buffer)
        found += norms
        found[itself] = -np.inf
        columns = _smallest_columns(found, self._wanted)
        return columns, np.take_along_axis(found, columns, axis=1)


def _smallest_columns(values: np.ndarray, wanted: int) -> np.ndarray:
    """Return the columns of the `wanted` smallest values of each row (all where there are no more), ascending."""
    n_rows, n_columns = values.shape
    if wanted >= n_columns:
        return np.broadcast_to(np.arange(n_columns), values.shape)
    columns = np.empty((n_rows, wanted), dtype=np.int64)
    for part in slices(n_rows, CACHE_ROWS):
        rows = values[part]
        rim = np.partition(rows, wanted - 1, axis=1)[:, wanted - 1 : wanted]
        inside = np.flatnonzero(rows <= rim)
        if len(inside) == len(rows) * wanted:
            columns[part] = inside.reshape(len(rows), wanted) % n_columns
        else:  # ties at the rim
            columns[part] = np.argpartition(rows, wanted - 1, axis=1)[:, :wanted]
    return columns


def _proven(approximate: np.ndarray, k: int, bound: ErrorBound, complete: bool) -> np.ndarray:
    """Return for which rows nothing outside the candidates can be among the k nearest."""
    if complete:
        return np.ones(len(approximate), dtype=bool)
    return (bound.least(approximate[:, -1:]) >= bound.most(approximate[:, k - 1 : k]))[:, 0]


def _nearest_candidates(
    queries: Matrix,
    rows: np.ndarray,
    references: Matrix,
    candidates: np.ndarray,
    approximate: np.ndarray,
    k: int,
    bound: ErrorBound,
    ordered: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose k of the candidates: by true distances where these are wanted, else where the bound leaves a doubt.

    Returns:
        indices and squared distances, shape (n_rows, k); the distances are true ones if `ordered`.
    """
    rim = approximate[:, k - 1 : k]
    in_question = bound.least(approximate) <= bound.most(rim)
    ranked = np.where(in_question, approximate, np.inf)
    if not ordered:
        certain = bound.most(approximate) < bound.least(rim)
        ranked[certain] = -1.0
        in_question &= ~certain
        settled = in_question.sum(axis=1) + certain.sum(axis=1) == k
        in_question[settled] = False
    row, column = np.nonzero(in_question)
    ranked[row, column] = pair_distances(queries, rows[row], references, candidates[row, column])
    order = np.argsort(ranked, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(candidates, order, axis=1), np.take_along_axis(ranked, order, axis=1)

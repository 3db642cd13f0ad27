"""Blocks of squared Euclidean distances by matrix multiplication, in bounded memory.

|x - y|^2 = |x|^2 + |y|^2 - 2 x.y turns nearly all the work into one matrix product, some tens of times faster than
differences. The price is cancellation: the error of a distance grows with the lengths of x and y, not with the distance.
So rows are centred first (distances do not change, lengths become as small as they can be), float32 serves to tell far
from near, and whatever depends on the error is computed again from differences in float64 (`pair_distances`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Matrix: TypeAlias = "np.ndarray | csr_matrix"

PRODUCT_BYTES = 16 << 20
"""Largest block of distances that is held at a time."""
DEVICE_BYTES = 512 << 20
"""The same on a GPU, to which rows are sent anew for every block."""
ROWS_BYTES = 64 << 20
"""Largest block of rows that is held at a time as a dense, centred copy."""
MOST_REFERENCES = 16_384
"""Most references per block: more brings the matrix product nothing."""
TILE_EDGE = 1024
"""Rows to a side of a tile of distances: 4 MB, so that it stays in the processor's cache."""


class CentredRows:
    """The rows of a matrix minus a common centre, given out in dense blocks; the matrix itself is not copied.

    Args:
        matrix: float32, dense or CSR, shape (n_rows, n_columns).
        centre: shape (n_columns,); None where rows lie around 0 already.
        scale: what rows are multiplied with, see `safe_scale`.
    """

    def __init__(self, matrix: Matrix, centre: np.ndarray | None, scale: float) -> None:
        self.matrix = matrix
        self.centre = centre
        self.scale = scale
        self._norms: dict[tuple[int, int, type], np.ndarray] = {}

    @classmethod
    def of(cls, matrix: Matrix) -> CentredRows:
        """Return the rows of a matrix around their own mean, at a safe scale."""
        return cls(matrix, column_means(matrix), safe_scale(matrix))

    def __len__(self) -> int:
        return self.matrix.shape[0]

    def block(self, rows: slice | np.ndarray, dtype: type = np.float32) -> np.ndarray:
        """Return centred, scaled rows, C-contiguous, of `dtype`; not to be written to, they may be the matrix's own."""
        chosen = self.matrix[rows]
        dense = chosen if isinstance(chosen, np.ndarray) else chosen.toarray()
        if self.centre is None:
            return dense.astype(dtype, copy=False) if self.scale == 1 else dense.astype(dtype) * dtype(self.scale)
        copied = dense is not chosen or not isinstance(rows, slice)
        in_place = dense if copied and dense.dtype == dtype else None
        centred = np.subtract(dense, self.centre.astype(dtype), out=in_place, dtype=dtype, casting="same_kind")
        if self.scale != 1:
            centred *= dtype(self.scale)
        return centred

    def squared_norms(self, rows: slice, block: np.ndarray) -> np.ndarray:
        """Return the squared lengths of a block of these rows, computed once: blocks are asked for again and again."""
        key = (rows.start, rows.stop, block.dtype.type)
        if key not in self._norms:
            self._norms[key] = squared_norms(block)
        return self._norms[key]


class DistanceTiles:
    """Squared distances among the rows of a matrix, in tiles of a block of rows against another, by float32 products.

    Args:
        rows: the matrix, n_rows rows.
        order: the order in which its rows are cut into blocks, shape (n_rows,).

    Attributes:
        edge: most rows of a block.
        norms: squared lengths of the centred rows, in `order`, float64, shape (n_rows,).
    """

    def __init__(self, rows: CentredRows, order: np.ndarray) -> None:
        self.rows = rows
        self.order = order
        self.edge = tile_edge(rows.matrix.shape[1], TILE_EDGE)
        small = 4 * len(rows) * rows.matrix.shape[1] <= ROWS_BYTES
        self._centred = rows.block(order) if small else None  # not centred anew for every tile
        self.norms = np.concatenate([squared_norms(self._block(part)) for part in slices(len(rows), self.edge)])
        self._buffer = np.empty(min(self.edge, len(rows)) ** 2, np.float32)
        self._part: slice | None = None

    def pairs(self) -> Iterator[tuple[slice, slice]]:
        """Yield every block with itself, then every two blocks once."""
        return block_pairs(len(self.order), self.edge)

    def squared(self, part: slice, other: slice) -> np.ndarray:
        """Return the squared distances of a block's rows to another's, float32, shape (rows in part, rows in other).

        They are the caller's to write to, and good until the next call.
        """
        if part != self._part:
            self._part, self._queries = part, self._block(part) * np.float32(-2)
        squared = inner_products(self._queries, self._block(other), self._buffer)
        squared += self.norms[part].astype(np.float32)[:, None]
        squared += self.norms[other].astype(np.float32)
        return squared

    def _block(self, part: slice) -> np.ndarray:
        return self.rows.block(self.order[part]) if self._centred is None else self._centred[part]


def tile_edge(n_columns: int, most: int) -> int:
    """Return how many rows make a block of tiles, `most` at most: those of one fit in `ROWS_BYTES` as float64."""
    return min(most, max(1, ROWS_BYTES // (8 * n_columns)))


def block_pairs(n: int, step: int) -> Iterator[tuple[slice, slice]]:
    """Cut range(n) into blocks; yield each with itself, then every two once."""
    blocks = list(slices(n, step))
    yield from ((block, block) for block in blocks)
    yield from itertools.combinations(blocks, 2)


def safe_scale(matrix: Matrix) -> float:
    """Return a power of two that brings a matrix into the range where float32 squares neither overflow nor vanish."""
    largest = float(max(matrix.max(), -matrix.min()))
    return 1.0 if largest == 0 or 1e-9 < largest < 1e9 else 2.0 ** -np.frexp(largest)[1]


def column_means(matrix: Matrix) -> np.ndarray:
    """Return the mean row, float64, shape (n_columns,)."""
    if isinstance(matrix, np.ndarray):
        return matrix.mean(axis=0, dtype=np.float64)
    return np.asarray(matrix.sum(axis=0, dtype=np.float64)).ravel() / matrix.shape[0]


def squared_norms(rows: np.ndarray) -> np.ndarray:
    """Return the squared lengths of rows, float64, shape (n_rows,)."""
    return np.einsum("ij,ij->i", rows, rows, dtype=np.float64)


def inner_products(queries: np.ndarray, references: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    """Return queries @ references.T in the memory of `buffer`, a flat array at least as large: no new pages per block."""
    shape = (len(queries), len(references))
    return np.dot(queries, references.T, out=buffer[: shape[0] * shape[1]].reshape(shape))


def block_shape(
    n_queries: int, n_references: int, n_columns: int, itemsize: int = 4, *, on_device: bool = False
) -> tuple[int, int]:
    """Return how many queries and how many references make one block of distances within the limits above."""
    product_bytes = DEVICE_BYTES if on_device else PRODUCT_BYTES
    in_rows = max(1, ROWS_BYTES // (itemsize * n_columns))
    references = min(n_references, MOST_REFERENCES, in_rows)
    queries = min(n_queries, in_rows, max(1, product_bytes // (itemsize * references)))
    return queries, references


def slices(n: int, step: int) -> Iterator[slice]:
    """Cut range(n) into slices of at most `step`."""
    return (slice(first, min(first + step, n)) for first in range(0, n, step))


def pair_distances(
    queries: Matrix, query_rows: np.ndarray, references: Matrix, reference_rows: np.ndarray
) -> np.ndarray:
    """Return the squared distances of given pairs of rows from their differences, float64, shape (n_pairs,)."""
    squared = np.empty(len(query_rows))
    dense = isinstance(queries, np.ndarray)
    n_counts = sum(matrix.nnz // matrix.shape[0] for matrix in (queries, references)) if not dense else 0
    width = queries.shape[1] if dense else 1 + 3 * n_counts
    for part in slices(len(query_rows), max(1, (PRODUCT_BYTES // 8) // (8 * width))):
        left, right = queries[query_rows[part]], references[reference_rows[part]]
        if dense:
            difference = np.subtract(left, right, dtype=np.float64)
            squared[part] = np.einsum("ij,ij->i", difference, difference)
        else:
            difference = left.astype(np.float64) - right.astype(np.float64)
            squared[part] = np.asarray(difference.multiply(difference).sum(axis=1)).ravel()
    return squared

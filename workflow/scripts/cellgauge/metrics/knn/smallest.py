"""Collects the smallest distances of every row while tiles of distances pass by, each tile serving both its sides."""

from __future__ import annotations

import numpy as np

from cellgauge.metrics.knn.distances import slices

CACHE_ROWS = 64
"""Rows of a tile among which the smallest are sought at a time, so that they stay in the processor's cache."""
NOTHING = np.iinfo(np.int64).max
"""A key beyond those of all values."""


class Candidates:
    """The `n` smallest of the values that have passed by, for every row.

    Only what lies within its row's rim, which is the `n`-th smallest value that was seen, is kept: most of a tile costs
    one comparison. The rims of a block of rows are drawn in whenever as many values again have come in. A value and its
    column are held as one integer, their key, so that the smallest of a row bring their columns along. Which of equal
    values on a rim are kept depends on the order of the tiles, and so is the same every time.

    Args:
        n_rows: how many rows, cut into blocks of `edge` rows.
        n: how many values of each row.
        edge: the side of tiles, at most 65,536.
    """

    def __init__(self, n_rows: int, n: int, edge: int) -> None:
        self._edge = edge
        self._blocks = [_Block(part.stop - part.start, n) for part in slices(n_rows, edge)]

    def take(self, part: slice, other: slice, values: np.ndarray) -> None:
        """Look through the values of the rows `part` against the rows `other`: two blocks, or one and itself.

        Args:
            values: float32, not NaN, shape (rows in part, rows in other). Those of a block and itself come before its others.
        """
        self._blocks[part.start // self._edge].take(values, other.start, by_column=False)
        if other != part:
            self._blocks[other.start // self._edge].take(values, part.start, by_column=True)

    def smallest(self, part: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return columns, int32, and values, ascending, of a block's rows, (n_rows, `n` or all), and forget them."""
        position = part.start // self._edge
        block, self._blocks[position] = self._blocks[position], None
        return block.smallest()


class _Block:
    def __init__(self, n_rows: int, n: int) -> None:
        self._n_rows, self._n = n_rows, n
        self._rim: np.ndarray | None = None
        self._smallest = np.empty(
            (n_rows, 0), dtype=np.int64
        )  # keys of the smallest when rims were drawn in, in no order
        self._new: list[tuple[np.ndarray, np.ndarray]] = []  # rows of the block, uint16, and keys that came in since
        self._n_new = 0

    def take(self, values: np.ndarray, first_column: int, *, by_column: bool) -> None:
        """Keep what lies within the rims of this block's rows, which are the columns of `values` if `by_column`."""
        if self._rim is None:
            self._rim = np.nextafter(_rims(values, self._n), np.float32(np.inf))  # what lies on it is within
        inside = np.flatnonzero(values < (self._rim if by_column else self._rim[:, None]))
        row = inside // values.shape[1]
        column = inside - row * values.shape[1]
        if by_column:
            row, column = column, row
        column += first_column
        self._new.append((row.astype(np.uint16), keys_of(values.ravel()[inside], column)))
        self._n_new += len(inside)
        if self._n_new > self._n_rows * self._n:
            self._draw_in()

    def _draw_in(self) -> None:
        """Set the rims anew and drop what lies beyond them."""
        rows, keys = (np.concatenate(new) for new in zip(*self._new, strict=True))
        self._new, self._n_new = [], 0
        order = np.argsort(rows, kind="stable")
        rows, keys = rows[order], keys[order]
        bounds = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=self._n_rows))))
        place = self._smallest.shape[1] + np.arange(len(rows)) - np.repeat(bounds[:-1], np.diff(bounds))
        smallest = np.empty((self._n_rows, self._n), dtype=np.int64)
        for part in slices(self._n_rows, CACHE_ROWS):
            new = slice(bounds[part.start], bounds[part.stop])
            width = max(self._n, place[new].max(initial=0) + 1)
            table = np.full((part.stop - part.start, width), NOTHING)
            table[:, : self._smallest.shape[1]] = self._smallest[part]
            table[rows[new] - np.uint16(part.start), place[new]] = keys[new]
            table.partition(self._n - 1, axis=1)
            smallest[part] = table[:, : self._n]
        self._smallest = smallest
        rim = smallest.max(axis=1)
        self._rim = np.where(rim < NOTHING, values_of(rim), np.float32(np.inf))

    def smallest(self) -> tuple[np.ndarray, np.ndarray]:
        if self._new:
            self._draw_in()
        keys = np.sort(self._smallest, axis=1)
        keys = keys[:, : np.count_nonzero(keys[0] < NOTHING)]
        return columns_of(keys), values_of(keys)


def keys_of(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return integers in the order of values, and among equal ones in that of columns.

    The bits of floats above 0 are in their order as integers; those below 0 are in the reverse of it (Herf 2001, Radix
    tricks).

    Args:
        values: float32, not NaN, shape (n,).
        columns: int64, from 0 to 2^31 - 1, shape (n,).

    Returns:
        int64, shape (n,): the value in the upper half, the column in the lower.
    """
    return (_in_order(values.view(np.int32)).astype(np.int64) << 32) | columns


def columns_of(keys: np.ndarray) -> np.ndarray:
    """Return the columns, int32, of keys, of their shape."""
    return (keys & 0xFFFFFFFF).astype(np.int32)


def values_of(keys: np.ndarray) -> np.ndarray:
    """Return the values, float32, of keys, of their shape."""
    return _in_order((keys >> 32).astype(np.int32)).view(np.float32)


def _in_order(bits: np.ndarray) -> np.ndarray:
    """Turn the bits of floats into integers in their order, and back."""
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))


def _rims(values: np.ndarray, n: int) -> np.ndarray:
    """Return the `n`-th smallest value of each row, infinity where there are fewer."""
    rims = np.full(len(values), np.inf, dtype=values.dtype)
    if values.shape[1] >= n:
        for part in slices(len(values), CACHE_ROWS):
            rims[part] = np.partition(values[part], n - 1, axis=1)[:, n - 1]
    return rims

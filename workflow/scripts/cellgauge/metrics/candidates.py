"""Collects the smallest distances of every row while tiles of distances pass by, each tile serving both its sides."""

from __future__ import annotations

import numpy as np

from cellgauge.metrics.distances import slices

CACHE_ROWS = 64
"""Rows of a tile among which the smallest are sought at a time, so that they stay in the processor's cache."""


class Candidates:
    """The `wanted` smallest of the values that have passed by, for every row.

    Only what lies within its row's rim, which is the `wanted`-th smallest value that was seen, is kept: most of a tile costs
    one comparison. The rims of a block of rows are drawn in whenever as many values again have come in.

    Args:
        n_rows: how many rows, cut into blocks of `edge` rows.
        wanted: how many values of each row.
        edge: the side of tiles, at most 65,536.
    """

    def __init__(self, n_rows: int, wanted: int, edge: int) -> None:
        self._edge = edge
        self._blocks = [_Block(part.stop - part.start, wanted) for part in slices(n_rows, edge)]

    def take(self, part: slice, other: slice, values: np.ndarray) -> None:
        """Look through the values of the rows `part` against the rows `other`: two blocks, or one and itself.

        Args:
            values: float32, not NaN, shape (rows in part, rows in other). Those of a block and itself come before its others.
        """
        self._blocks[part.start // self._edge].take(values, other.start, by_column=False)
        if other != part:
            self._blocks[other.start // self._edge].take(values, part.start, by_column=True)

    def smallest(self, part: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return columns, int32, and values, ascending, of a block's rows, (n_rows, `wanted` or all), and forget them."""
        position = part.start // self._edge
        block, self._blocks[position] = self._blocks[position], None
        return block.smallest()


class _Block:
    def __init__(self, n_rows: int, wanted: int) -> None:
        self._wanted = wanted
        self._rim = np.full(n_rows, np.inf, dtype=np.float32)
        self._held: list[tuple[np.ndarray, ...]] = []  # rows of the block, uint16; columns, int32; values
        self._n_held, self._most = 0, 2 * n_rows * wanted

    def take(self, values: np.ndarray, first_column: int, *, by_column: bool) -> None:
        """Keep what lies within the rims of this block's rows, which are the columns of `values` if `by_column`."""
        if not (self._held or by_column):
            self._rim = np.nextafter(_rims(values, self._wanted), np.float32(np.inf))  # what lies on it is within
        found = np.flatnonzero(values < (self._rim if by_column else self._rim[:, None]))
        row = found // values.shape[1]
        column = found - row * values.shape[1]
        if by_column:
            row, column = column, row
        column += first_column
        self._held.append((row.astype(np.uint16), column.astype(np.int32), values.ravel()[found]))
        self._n_held += len(found)
        if self._n_held > self._most:
            self._draw_in()

    def _draw_in(self) -> None:
        """Set the rims anew and drop what lies beyond them; rows then stand one after the other."""
        rows, columns, values = (np.concatenate(held) for held in zip(*self._held, strict=True))
        order = np.argsort(rows, kind="stable")
        rows, columns, values = rows[order], columns[order], values[order]
        self._rim = _rims_of_held(rows, values, len(self._rim), self._wanted)
        of_row = self._rim[rows]
        kept = values <= of_row
        if np.count_nonzero(kept) > len(self._rim) * self._wanted:  # ties on a rim: as many as there is room for
            on_rim = np.flatnonzero(values == of_row)
            room = self._wanted - np.bincount(rows[values < of_row], minlength=len(self._rim))
            kept[on_rim[places(rows[on_rim], len(self._rim)) >= room[rows[on_rim]]]] = False
        self._held = [(rows[kept], columns[kept], values[kept])]
        self._n_held = len(self._held[0][0])

    def smallest(self) -> tuple[np.ndarray, np.ndarray]:
        self._draw_in()
        columns, values = (held.reshape(len(self._rim), -1) for held in self._held[0][1:])
        order = np.argsort(values, axis=1, kind="stable")
        return np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)


def _rims(values: np.ndarray, wanted: int) -> np.ndarray:
    """Return the `wanted`-th smallest value of each row, infinity where there are fewer."""
    rims = np.full(len(values), np.inf, dtype=values.dtype)
    if values.shape[1] >= wanted:
        for part in slices(len(values), CACHE_ROWS):
            rims[part] = np.partition(values[part], wanted - 1, axis=1)[:, wanted - 1]
    return rims


def _rims_of_held(rows: np.ndarray, values: np.ndarray, n_rows: int, wanted: int) -> np.ndarray:
    """Return the same where row `rows[i]` has `values[i]`; `rows` ascend, and rows may have as many values as they like."""
    rims = np.empty(n_rows, dtype=values.dtype)
    for part in slices(n_rows, CACHE_ROWS):
        first, last = np.searchsorted(rows, (part.start, part.stop))
        own = rows[first:last] - np.uint16(part.start)
        table = np.full((part.stop - part.start, np.bincount(own).max(initial=0)), np.inf, dtype=values.dtype)
        table[own, places(own, len(table))] = values[first:last]
        rims[part] = _rims(table, wanted)
    return rims


def places(rows: np.ndarray, n_rows: int) -> np.ndarray:
    """Return how many of the same row stand before each; `rows` ascend."""
    counts = np.bincount(rows, minlength=n_rows)
    return np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)

"""Silhouettes of labels and of batches (Rousseeuw 1987), as scib-metrics scales them.

The widths are those of `sklearn.metrics.silhouette_samples` and `scib_metrics.utils.silhouette_samples`: a cell alone in
its group has width 0, and 0 / 0 (all distances 0) counts as 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cellgauge.metrics.distances import (
    ROWS_BYTES,
    CentredRows,
    column_means,
    inner_products,
    pair_distances,
    safe_scale,
    slices,
    squared_norms,
)

NEAR = 1e-2
"""A squared distance below this share of the cell's own squared length has lost too many of float32's digits."""
FEW = 1e-2
"""Share of near pairs in a block up to which they are computed one by one; above it the block is, in float64."""
EDGE = 1024
"""Cells to a side of a block of distances: 4 MB, so that it stays in the processor's cache."""
DEVICE_EDGE = 8192
"""The same on a GPU, to which rows are sent anew for every block."""
SUMS_BYTES = 512 << 20
"""Largest table of every cell's distance sums to every group that is held at a time."""


def silhouette_widths(matrix: np.ndarray, groups: np.ndarray, device: str | None = None) -> np.ndarray:
    """Compute the silhouette width of every cell, (b - a) / max(a, b).

    a is the mean distance to the other cells of its group, b the smallest mean distance to those of another group.

    Args:
        matrix: float32, finite, shape (n_cells, n_dims).
        groups: any comparable values, shape (n_cells,).
        device: where distances are computed, as PyTorch names it; None is numpy.

    Returns:
        float64, shape (n_cells,), in [-1, 1].

    Raises:
        ValueError: there are fewer than two groups.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(codes)
    if len(sizes) < 2:
        raise ValueError("a silhouette needs at least two groups")
    n_cells, n_groups = len(codes), len(sizes)
    order = np.argsort(codes, kind="stable")  # group after group: the distances to one group stand side by side
    rows = CentredRows(matrix, column_means(matrix), safe_scale(matrix))
    halved = 8 * n_cells * n_groups <= SUMS_BYTES  # each distance serves both cells where all sums can be held
    edge = EDGE if device is None else DEVICE_EDGE
    step = min(
        edge, max(1, ROWS_BYTES // (8 * matrix.shape[1])), edge if halved else max(1, SUMS_BYTES // (8 * n_groups))
    )
    if device is None:
        blocks = _Blocks(rows, order, step)
    else:
        from cellgauge.metrics.on_device import BlocksOnDevice

        blocks = BlocksOnDevice(rows, order, device, NEAR, FEW)
    sums = np.zeros((n_cells if halved else 0, n_groups))
    widths = np.empty(n_cells)
    for part in slices(n_cells, step):
        sums_here = sums[part] if halved else np.zeros((part.stop - part.start, n_groups))
        for other in slices(n_cells, step, start=part.start if halved else 0):
            distances = blocks.distances(part, other)
            blocks.add_by_group(sums_here, distances, codes[order[other]])
            if halved and other != part:
                blocks.add_by_group(sums[other], distances.T, codes[order[part]])
        if not halved:
            widths[order[part]] = _widths(sums_here, codes[order[part]], sizes)
    if halved:
        widths[order] = _widths(sums, codes[order], sizes)
    return widths


def scaled(widths: np.ndarray) -> np.ndarray:
    """Bring silhouette widths from [-1, 1] to [0, 1]: (width + 1) / 2, the mean of which is scib-metrics' `silhouette_label`.

    Source: Luecken et al. 2022, cell type ASW.
    """
    return (widths + 1) / 2


def batch_silhouettes(
    matrix: np.ndarray, labels: np.ndarray, batches: np.ndarray, device: str | None = None
) -> dict[str, float]:
    """Compute, within each label, the mean of 1 - |silhouette width of the batches|; 1 is perfect mixing.

    The mean over labels is scib-metrics' `silhouette_batch` (Luecken et al. 2022). A label is left out where this is
    not defined: all its cells in one batch, or each in a batch of its own.

    Args:
        matrix: float32, finite, shape (n_cells, n_dims).
        labels, batches: str, shape (n_cells,).
        device: as for `silhouette_widths`.

    Returns:
        label -> value in [0, 1], by label, ascending.
    """
    values = {}
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if 1 < len(np.unique(batches[members])) < len(members):
            widths = silhouette_widths(matrix[members], batches[members], device)
            values[str(label)] = float(np.mean(1 - np.abs(widths)))
    return values


class _Blocks:
    """Distances between blocks of rows, by numpy; `on_device` has the same for PyTorch.

    Args:
        order: the order in which the rows are cut into blocks.
        step: most rows of a block.
    """

    def __init__(self, rows: CentredRows, order: np.ndarray, step: int) -> None:
        self._rows, self._order = rows, order
        self._buffer = np.empty(step * step, np.float32)
        self._part: slice | None = None

    def distances(self, part: slice, other: slice) -> np.ndarray:
        """Return the distances of some rows to others, float32; good until the next call."""
        if part != self._part:
            self._part, self._queries = part, self._rows.block(self._order[part])
            self._norms = squared_norms(self._queries)
        others = self._rows.block(self._order[other])
        squared = _squared_distances(self._queries, self._norms, others, self._buffer)
        _mend_near_pairs(squared, self._rows, self._order, part, other, self._norms)
        return np.sqrt(squared, out=squared)

    def add_by_group(self, sums: np.ndarray, distances: np.ndarray, codes: np.ndarray) -> None:
        """Add each row's distances, summed by group, to `sums`; `codes` are the columns' groups, ascending."""
        for code, members in group_slices(codes):
            sums[:, code] += distances[:, members].sum(axis=1)


def group_slices(codes: np.ndarray) -> Iterator[tuple[int, slice]]:
    """Yield each group and where its members stand; `codes` are ascending."""
    starts = np.flatnonzero(np.diff(codes, prepend=-1)).tolist()
    for start, end in zip(starts, [*starts[1:], len(codes)], strict=True):
        yield int(codes[start]), slice(start, end)


def _squared_distances(queries: np.ndarray, norms: np.ndarray, others: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    squared = inner_products(queries, others, buffer)
    squared *= -2
    squared += norms.astype(squared.dtype)[:, None]
    squared += squared_norms(others).astype(squared.dtype)
    return squared


def _mend_near_pairs(
    squared: np.ndarray, rows: CentredRows, order: np.ndarray, part: slice, other: slice, norms: np.ndarray
) -> None:
    """Replace, in place, the squared distances of which float32 kept too few digits; of a cell to itself it is 0.

    Those that stay have a relative error of at most about 1e-4 each (see `neighbours._ErrorBound`), of either sign, which
    the mean over a group's cells and then over all cells brings far below 1e-6. Distances that even float64 products
    cannot tell from 0 are less than the resolution of float32 coordinates, and are set to 0.
    """
    itself = np.arange(max(part.start, other.start), min(part.stop, other.stop))
    near = squared < (NEAR * norms)[:, None]
    near[itself - part.start, itself - other.start] = False
    n_near = np.count_nonzero(near)
    if n_near > FEW * near.size:
        queries = rows.block(order[part], np.float64)
        norms = squared_norms(queries)
        exact = _squared_distances(queries, norms, rows.block(order[other], np.float64), np.empty(squared.size))
        exact[exact < last_digits(queries.shape[1], norms)[:, None]] = 0
        squared[:] = exact
    elif n_near:
        row, column = np.divmod(np.flatnonzero(near), near.shape[1])
        exact = pair_distances(rows.matrix, order[part][row], rows.matrix, order[other][column])
        squared[row, column] = exact * rows.scale**2
    squared[itself - part.start, itself - other.start] = 0


def last_digits(n_columns: int, norms: np.ndarray) -> np.ndarray:
    """Return the squared distances below which float64 products tell nothing, for rows of given squared lengths."""
    return 8 * (np.sqrt(n_columns) + 2) * np.finfo(np.float64).eps * norms


def _widths(sums: np.ndarray, own: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    each = np.arange(len(own))
    within = sums[each, own] / np.maximum(sizes[own] - 1, 1)
    means = sums / sizes
    means[each, own] = np.inf
    between = means.min(axis=1)
    larger = np.maximum(within, between)
    widths = np.divide(between - within, larger, out=np.zeros(len(own)), where=larger > 0)
    widths[sizes[own] == 1] = 0
    return widths

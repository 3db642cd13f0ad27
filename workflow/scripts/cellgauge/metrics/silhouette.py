"""Silhouettes of labels and of batches (Rousseeuw 1987), as scib-metrics scales them.

The widths are those of `sklearn.metrics.silhouette_samples` and `scib_metrics.utils.silhouette_samples`: a cell alone in
its group has width 0, and 0 / 0 (all distances 0) counts as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.metrics.knn.distances import (
    CentredRows,
    DistanceTiles,
    block_pairs,
    pair_distances,
    safe_scale,
    slices,
    squared_norms,
    tile_edge,
)
from cellgauge.metrics.knn.exact import NeighborSearch

if TYPE_CHECKING:
    from cellgauge.metrics.knn.on_device import DistancesOnDevice

NEAR = 1e-2
"""A squared distance below this share of the cell's own squared length has lost too many of float32's digits."""
FEW = 1e-2
"""Share of near pairs in a block up to which they are computed one by one; above it the block is, in float64."""
DEVICE_EDGE = 8192
"""Cells to a side of a tile of distances on a GPU, to which rows are sent anew for every tile."""
SUMS_BYTES = 512 << 20
"""Largest table of every cell's distance sums to every group that is held at a time."""
DIRECTIONS = 2048
"""Most rows whose directions are held at a time."""
SAME_DIRECTION = 1e-12
"""A mean cosine distance below this, an angle of 1.4e-6, is rounding and counts as 0."""


def silhouette_widths(
    matrix: np.ndarray, groups: np.ndarray, device: str | None = None, of: np.ndarray | None = None
) -> np.ndarray:
    """Compute the silhouette width of every cell, (b - a) / max(a, b).

    a is the mean distance to the other cells of its group, b the smallest mean distance to those of another group.

    Args:
        matrix: float32, finite, shape (n_cells, n_dims).
        groups: any comparable values, shape (n_cells,).
        device: where distances are computed, as PyTorch names it; None is numpy.
        of: the rows whose widths are asked for, each among all cells, ascending, shape (n,); None is all of them.

    Returns:
        float64, shape (n_cells,) or (n,), in [-1, 1].

    Raises:
        ValueError: there are fewer than two groups.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")  # group after group: the distances to one group stand side by side
    if of is not None:
        is_of = np.zeros(len(codes), dtype=bool)
        is_of[of] = True
        order = np.concatenate([order[is_of[order]], order[~is_of[order]]])
    rows = CentredRows.of(matrix)
    if device is None:
        distances = Distances(rows, order)
    else:
        from cellgauge.metrics.knn.on_device import DistancesOnDevice

        distances = DistancesOnDevice(rows, order, device)
    if of is not None:
        return _widths_block_by_block(distances, codes, len(of))[of]
    if not sums_fit(len(codes), codes.max() + 1):
        return _widths_block_by_block(distances, codes, len(codes))
    sums = DistanceSums(distances, codes)
    for part, other in block_pairs(len(codes), distances.edge):
        sums.take(part, other, distances.among(part, other))
    return sums.widths()


def neighbors_and_widths(matrix: np.ndarray, k: int, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the k nearest neighbors and compute the silhouette width of every cell.

    Equal to `nearest_neighbors`, in the order of the groups, and `silhouette_widths`.

    Args:
        matrix: float32, finite, shape (n_cells, n_dims).
        k: neighbors of each cell, itself among them; at most n_cells.
        groups: comparable values, at least two different ones, shape (n_cells,).

    Returns:
        indices, int64, and distances, float64, both of shape (n_cells, k), and widths, float64, shape (n_cells,).

    Raises:
        ValueError: k is out of range, or there are fewer than two groups.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    distances = Distances(CentredRows.of(matrix), np.argsort(codes, kind="stable"))
    search, sums = NeighborSearch(distances, k), DistanceSums(distances, codes)
    for part, other in distances.pairs():
        squared = distances.squared(part, other)
        search.take(part, other, squared)
        sums.take(part, other, distances.rooted(part, other, squared))
    return *search.answers().nearest(), sums.widths()


def sums_fit(n_cells: int, n_groups: int) -> bool:
    """Return whether every cell's distance sums to every group can be held, so that each distance serves both cells."""
    return 8 * n_cells * n_groups <= SUMS_BYTES


class DistanceSums:
    """Every cell's distances summed by group, from tiles of distances that pass by.

    Args:
        distances: where they come from.
        codes: the group of each cell, 0 to the number of groups - 1, shape (n_cells,); the order of `distances` is by group.
    """

    def __init__(self, distances: Distances | DistancesOnDevice, codes: np.ndarray) -> None:
        self._distances, self._codes = distances, codes[distances.order]
        self._sums = np.zeros((len(codes), codes.max() + 1))

    def take(self, part: slice, other: slice, distances: np.ndarray) -> None:
        """Add a tile, float32, shape (rows in part, rows in other), to the sums of both its sides."""
        add = self._distances.add_by_group
        add(self._sums[part], distances, self._codes[other])
        if other != part:
            add(self._sums[other], distances.T, self._codes[part])

    def widths(self) -> np.ndarray:
        """Return the silhouette width of every cell once all tiles have passed."""
        widths = np.empty(len(self._codes))
        widths[self._distances.order] = _widths(self._sums, self._codes, np.bincount(self._codes))
        return widths


def _widths_block_by_block(distances: Distances | DistancesOnDevice, codes: np.ndarray, n_first: int) -> np.ndarray:
    """Return the widths of the first cells in order, in the memory of one block's sums, computing each distance twice."""
    order = distances.order
    n_cells, codes, widths = len(codes), codes[order], np.full(len(codes), np.nan)
    sizes = np.bincount(codes)
    step = min(distances.edge, max(1, SUMS_BYTES // (8 * len(sizes))))
    for part in slices(n_first, step):
        sums = np.zeros((part.stop - part.start, len(sizes)))
        for other in slices(n_cells, distances.edge):
            distances.add_by_group(sums, distances.among(part, other), codes[other])
        widths[order[part]] = _widths(sums, codes[part], sizes)
    return widths


def batch_widths(matrix: np.ndarray, labels: np.ndarray, batches: np.ndarray, device: str | None = None) -> np.ndarray:
    """Compute, within each label, the silhouette width of every cell among the batches.

    Args:
        matrix: float32, finite, shape (n_cells, n_dims).
        labels, batches: comparable values, shape (n_cells,).
        device: as for `silhouette_widths`.

    Returns:
        float64, shape (n_cells,); NaN in labels where it is not defined: all cells in one batch, or each in one of its own.
    """
    return _within_labels(labels, batches, lambda rows, groups: silhouette_widths(matrix[rows], groups, device))


def _within_labels(
    labels: np.ndarray, batches: np.ndarray, widths_of: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return what `widths_of` the rows of each label, and their batches' codes, returns, NaN where it is not defined."""
    codes, batches = (np.unique(names, return_inverse=True)[1] for names in (labels, batches))
    widths = np.full(len(codes), np.nan)
    for code in range(codes.max() + 1):
        members = np.flatnonzero(codes == code)
        groups = np.unique(batches[members], return_inverse=True)[1]
        if 0 < groups.max() < len(members) - 1:
            widths[members] = widths_of(members, groups)
    return widths


def batch_silhouettes(widths: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Compute, within each label, the mean of 1 - |silhouette width of the batches|; 1 is perfect mixing.

    The mean over labels is scib-metrics' `silhouette_batch` (Luecken et al. 2022) of the widths of `batch_widths`, and its
    `bras` of those of `bras_widths`. Labels without widths are left out.

    Args:
        widths: what `batch_widths` or `bras_widths` returns.
        labels: str, shape (n_cells,).

    Returns:
        label -> value in [0, 1], by label, ascending.
    """
    names, codes = np.unique(labels, return_inverse=True)
    means = ((name, np.mean(1 - np.abs(widths[codes == code]))) for code, name in enumerate(names))
    return {str(name): float(mean) for name, mean in means if not np.isnan(mean)}


def bras_widths(matrix: np.ndarray, labels: np.ndarray, batches: np.ndarray) -> np.ndarray:
    """Compute, within each label, the silhouette width of every cell among the batches as BRAS has it.

    Distances are 1 - cosine, and b is the mean distance to the cells of all other batches together: against the nearest
    batch alone, two batches that mix hide that both are far from all others. Source: Rautenstrauch & Ohler (2025), as
    scib-metrics' `bras`. The mean cosine with a group is the product with the group's mean direction, so no two cells are
    compared. A cell at the origin has no direction and counts as at distance 1 from all others. Arguments and result are as
    of `batch_widths`.
    """
    scale = safe_scale(matrix)
    return _within_labels(labels, batches, lambda rows, groups: _cosine_widths(matrix, rows, groups, scale))


def _cosine_widths(matrix: np.ndarray, members: np.ndarray, groups: np.ndarray, scale: float) -> np.ndarray:
    """Return the widths of `bras_widths` of the rows `members`, whose batches are `groups`, 0 to their number - 1."""
    sizes = np.bincount(groups)
    sums = np.zeros((len(sizes), matrix.shape[1]))
    parts = list(slices(len(members), tile_edge(matrix.shape[1], DIRECTIONS)))

    def directions(part: slice) -> np.ndarray:
        rows = matrix[members[part]].astype(np.float64) * scale
        lengths = np.sqrt(squared_norms(rows))[:, None]
        return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)

    for part in parts:
        units = directions(part)
        for code in np.unique(groups[part]):
            sums[code] += units[groups[part] == code].sum(axis=0)
    widths = np.empty(len(members))
    for part in parts:
        units, codes = directions(part), groups[part]
        each = np.arange(len(codes)), codes
        cosines = units @ sums.T
        itself = squared_norms(units)  # 1, or 0 at the origin
        n_same, n_others = sizes[codes] - 1, len(members) - sizes[codes]
        within = (n_same - (cosines[each] - itself)) / np.maximum(n_same, 1)
        between = (n_others - (cosines.sum(axis=1) - cosines[each])) / n_others
        within, between = (np.where(mean < SAME_DIRECTION, 0, mean) for mean in (within, between))
        widths[part] = _ratio(within, between, n_same == 0)
    return widths


class Distances(DistanceTiles):
    """Distances between blocks of rows, by numpy; `on_device` has the same for PyTorch."""

    def among(self, part: slice, other: slice) -> np.ndarray:
        """Return the distances of a block's rows to another's, float32; good until the next call."""
        return self.rooted(part, other, self.squared(part, other))

    def rooted(self, part: slice, other: slice, squared: np.ndarray) -> np.ndarray:
        """Turn a tile of squared distances into distances, in place; what stands on the diagonal does not matter.

        Those of which float32 kept too few digits are replaced; of a cell to itself it is 0. Those that stay have a relative
        error of at most about 1e-4 each (see `exact.ErrorBound`), of either sign, which the mean over a group's cells and
        then over all cells brings far below 1e-6. Distances that even float64 products cannot tell from 0 are less than the
        resolution of float32 coordinates, and are set to 0.
        """
        rows, order, norms = self.rows, self.order, self.norms[part]
        itself = np.arange(max(part.start, other.start), min(part.stop, other.stop))
        near = squared < (NEAR * norms).astype(squared.dtype)[:, None]
        near[itself - part.start, itself - other.start] = False
        n_near = np.count_nonzero(near)
        if n_near > FEW * near.size:
            queries, others = (rows.block(order[block], np.float64) for block in (part, other))
            norms = squared_norms(queries)
            exact = norms[:, None] + squared_norms(others) - 2 * (queries @ others.T)
            exact[exact < last_digits(queries.shape[1], norms)[:, None]] = 0
            squared[:] = exact
        elif n_near:
            row, column = np.divmod(np.flatnonzero(near), near.shape[1])
            exact = pair_distances(rows.matrix, order[part][row], rows.matrix, order[other][column])
            squared[row, column] = exact * rows.scale**2
        squared[itself - part.start, itself - other.start] = 0
        return np.sqrt(squared, out=squared)

    def add_by_group(self, sums: np.ndarray, distances: np.ndarray, codes: np.ndarray) -> None:
        """Add each row's distances, summed by group, to `sums`; `codes` are the columns' groups, in runs."""
        for code, members in group_slices(codes):
            sums[:, code] += distances[:, members].sum(axis=1)


def group_slices(codes: np.ndarray) -> Iterator[tuple[int, slice]]:
    """Yield each group and where its members stand, once for each run of one group in `codes`."""
    starts = np.flatnonzero(np.diff(codes, prepend=-1)).tolist()
    for start, end in zip(starts, [*starts[1:], len(codes)], strict=True):
        yield int(codes[start]), slice(start, end)


def last_digits(n_columns: int, norms: np.ndarray) -> np.ndarray:
    """Return the squared distances below which float64 products tell nothing, for rows of given squared lengths."""
    return 8 * (np.sqrt(n_columns) + 2) * np.finfo(np.float64).eps * norms


def _widths(sums: np.ndarray, codes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    if len(sizes) < 2:
        raise ValueError("a silhouette needs at least two groups")
    each = np.arange(len(codes)), codes
    within = sums[each] / np.maximum(sizes[codes] - 1, 1)
    means = sums / sizes
    means[each] = np.inf
    return _ratio(within, means.min(axis=1), sizes[codes] == 1)


def _ratio(within: np.ndarray, between: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """Return the widths of cells at these mean distances, 0 where the cell is alone in its group."""
    larger = np.maximum(within, between)
    return np.divide(between - within, larger, out=np.zeros(len(larger)), where=(larger > 0) & ~alone)

"""Neighbours and silhouettes from one pass over the distances between cells."""

from __future__ import annotations

import numpy as np

from cellgauge.metrics.distances import CentredRows, DistanceTiles, column_means, safe_scale
from cellgauge.metrics.neighbours import NeighbourSearch, nearest_neighbours
from cellgauge.metrics.silhouette import Distances, DistanceSums, silhouette_widths, sums_fit


def neighbours_and_widths(
    matrix: np.ndarray, k: int, groups: np.ndarray, device: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the k nearest neighbours and compute the silhouette width of every cell.

    Equal to `nearest_neighbours`, in the order of the groups, and `silhouette_widths`. It calls them where there is nothing
    to share: on a device, and where there are too many groups to hold all sums.

    Args:
        matrix: float32, finite, shape (n_cells, n_dims).
        k: neighbours of each cell, itself among them; at most n_cells.
        groups: comparable values, at least two different ones, shape (n_cells,).
        device: where distances are computed, as PyTorch names it; None is numpy.

    Returns:
        indices, int64, and distances, float64, both of shape (n_cells, k), and widths, float64, shape (n_cells,).

    Raises:
        ValueError: k is out of range, or there are fewer than two groups.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    order, n_groups = np.argsort(codes, kind="stable"), codes.max() + 1
    if device is not None or n_groups < 2 or not sums_fit(len(codes), n_groups):
        return *nearest_neighbours(matrix, k, device=device, order=order), silhouette_widths(matrix, codes, device)
    tiles = DistanceTiles(CentredRows(matrix, column_means(matrix), safe_scale(matrix)), order)
    search, distances = NeighbourSearch(tiles, k), Distances(tiles)
    sums = DistanceSums(distances, codes)
    for part, other in tiles.pairs():
        squared = tiles.squared(part, other)
        search.take(part, other, squared)
        sums.take(part, other, distances.rooted(part, other, squared))
    return *search.nearest(), sums.widths()

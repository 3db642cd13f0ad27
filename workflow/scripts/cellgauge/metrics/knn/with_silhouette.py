"""Neighbors and silhouettes from one pass over the distances between cells."""

from __future__ import annotations

import numpy as np

from cellgauge.metrics.knn.distances import CentredRows
from cellgauge.metrics.knn.exact import NeighborSearch
from cellgauge.metrics.silhouette import Distances, DistanceSums, sums_fit


def can_share(n_cells: int, n_groups: int, device: str | None) -> bool:
    """Return whether one pass can serve both: not on a device, nor where groups are too many to hold every cell's sums."""
    return device is None and sums_fit(n_cells, n_groups)


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

"""Approximate k nearest neighbours, with the share of the true ones that was found.

An inverted file (Jegou, Douze & Schmid 2011): k-means cuts the cells into lists, and a cell's neighbours are sought in the
lists whose centres are nearest to its own. All cells of a list share these, so that the search within them is the exact one
of `neighbours`, by matrix products: distances are true ones. How many lists that takes depends on the data, and is found
on a sample of cells whose true neighbours are known; what then is reached is measured on another sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cellgauge.metrics.distances import pair_distances, safe_scale
from cellgauge.metrics.lean import without_optional
from cellgauge.metrics.neighbours import nearest_neighbours, neighbourhoods

CELLS_PER_LIST = 1000
"""Cells of a list: more make coarser lists, fewer smaller matrix products."""
TRAINING_PER_LIST = 40
"""Cells that k-means sees, per list (as many as faiss asks for at least)."""
RECALL = 0.99
"""The share of true neighbours that the lists hold for the sample that their number is chosen on."""
SAMPLE = 1000
"""Cells of each sample."""


class Neighbours(NamedTuple):
    """What a search found.

    Attributes:
        indices: int64, shape (n_cells, k), nearest first, the cell itself before all others.
        distances: to them, Euclidean, float64, shape (n_cells, k).
        recall: the share of the true neighbours that was found, in [0, 1], mean over a sample of cells; the cell itself
            does not count, others at the distance of the last true one do.
    """

    indices: np.ndarray
    distances: np.ndarray
    recall: float


class _Lists(NamedTuple):
    """The lists of an inverted file.

    Attributes:
        of_cells: the list of each cell, shape (n_cells,).
        nearest: of every list all lists, nearest first, itself before all others, shape (n_lists, n_lists).
        searched: how many of these are searched.
    """

    of_cells: np.ndarray
    nearest: np.ndarray
    searched: int


def approximate_neighbours(matrix: np.ndarray, k: int, seed: int) -> Neighbours:
    """Find nearly all of the k nearest rows of every row, itself among them; the same for the same seed.

    Args:
        matrix: float32, finite, shape (n_cells, n_dims).

    Raises:
        ValueError: k is less than 1 or more than there are rows.
    """
    lists, sample = _lists(matrix, k, seed)
    indices, distances = np.empty((len(matrix), k), dtype=np.int64), np.empty((len(matrix), k))
    for own, pool in _pools(lists, k):
        itself = np.arange(len(own))  # a list is the nearest to itself, so its cells come first in the pool
        found, distances[own] = nearest_neighbours(matrix[pool], k, matrix[own], itself=itself)
        indices[own] = pool[found]
    return Neighbours(indices, distances, recall(matrix, indices, sample))


def approximate_neighbourhoods(matrix: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, float]:
    """Find the same in no order: indices, int32, and the recall. Cheaper, see `neighbours.neighbourhoods`."""
    lists, sample = _lists(matrix, k, seed)
    indices = np.empty((len(matrix), k), dtype=np.int32)
    for own, pool in _pools(lists, k):
        indices[own] = pool[neighbourhoods(matrix[pool], k, matrix[own], itself=np.arange(len(own)))]
    return indices, recall(matrix, indices, sample)


def recall(matrix: np.ndarray, indices: np.ndarray, sample: np.ndarray) -> float:
    """Return the share of the true neighbours of some rows that a search found, see `Neighbours`.

    Args:
        indices: what was found, the row itself among them, shape (n_cells, k).
        sample: the rows.
    """
    k = indices.shape[1]
    if k == 1:
        return 1.0
    farthest = nearest_neighbours(matrix, k, matrix[sample], itself=sample)[1][:, -1:] * (1 + 1e-12)  # rounding apart
    found = np.sqrt(pair_distances(matrix, np.repeat(sample, k), matrix, indices[sample].ravel())).reshape(-1, k)
    return float((((found <= farthest).sum(axis=1) - 1) / (k - 1)).mean())


def _lists(matrix: np.ndarray, k: int, seed: int) -> tuple[_Lists, np.ndarray]:
    """Return the lists, and the sample of cells that nothing was chosen on."""
    n_cells = len(matrix)
    if not 1 <= k <= n_cells:
        raise ValueError(f"{k} nearest neighbours asked for among {n_cells} rows")
    generator = np.random.default_rng(seed)
    drawn = generator.permutation(n_cells)[: 2 * SAMPLE]
    chosen_on, measured_on = np.array_split(drawn, 2) if n_cells > 1 else (drawn, drawn)
    centres = _centres(matrix, max(1, n_cells // CELLS_PER_LIST), generator, seed)
    of_cells = nearest_neighbours(centres, 1, matrix)[0][:, 0]
    nearest = nearest_neighbours(centres, len(centres))[0]
    return _Lists(of_cells, nearest, _lists_needed(matrix, k, chosen_on, of_cells, nearest)), measured_on


def _centres(matrix: np.ndarray, n_lists: int, generator: np.random.Generator, seed: int) -> np.ndarray:
    with without_optional("pandas"):
        from sklearn.cluster import MiniBatchKMeans

    chosen = np.sort(generator.choice(len(matrix), min(len(matrix), TRAINING_PER_LIST * n_lists), replace=False))
    scale = np.float32(safe_scale(matrix))
    fitted = MiniBatchKMeans(n_lists, n_init=1, max_iter=30, batch_size=4096, random_state=seed)
    return fitted.fit(matrix[chosen] * scale).cluster_centers_ / scale


def _lists_needed(matrix: np.ndarray, k: int, sample: np.ndarray, of_cells: np.ndarray, nearest: np.ndarray) -> int:
    """Return of how many lists, nearest first, the cells hold the share `RECALL` of the sample's true neighbours."""
    if k == 1:
        return 1
    true = nearest_neighbours(matrix, k, matrix[sample], itself=sample)[0][:, 1:]
    ranks = np.argsort(nearest, axis=1)[of_cells[sample][:, None], of_cells[true]]
    held = np.cumsum(np.bincount(ranks.ravel(), minlength=len(nearest))) / ranks.size
    return int(np.searchsorted(held, RECALL)) + 1


def _pools(lists: _Lists, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the cells of each list, and those among which their neighbours are sought, themselves first; at least k."""
    members = [np.flatnonzero(lists.of_cells == number) for number in range(len(lists.nearest))]
    sizes = np.asarray([len(rows) for rows in members])
    for number in np.flatnonzero(sizes):
        nearest = lists.nearest[number]
        enough = int(np.searchsorted(np.cumsum(sizes[nearest]), k)) + 1
        yield members[number], np.concatenate([members[other] for other in nearest[: max(lists.searched, enough)]])

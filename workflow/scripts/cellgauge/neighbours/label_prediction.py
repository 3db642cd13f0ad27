"""What label prediction asks of the distances between cells: neighbours that its kNN folds can choose from, in common axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.metrics.common_neighbours import propose_where_worthwhile

if TYPE_CHECKING:
    from cellgauge.tasks.base import CellsToScore

NEEDS = ("label",)


def find(
    cells: CellsToScore,
    *,
    seed: int,
    profiles: Sequence[str],
    classifiers: Sequence[str] = ("logistic_regression", "knn", "random_forest"),
    n_folds: int = 5,
    min_class_size: int = 10,
    n_neighbors: int = 5,
) -> dict[str, np.ndarray]:
    """Propose neighbours of the predicted cells to all folds, where one search for all is cheaper than one for each.

    Args:
        profiles: folds of donors are dealt for profile corrected alone.
        classifiers, n_folds, min_class_size, n_neighbors: as for `tasks.label_prediction.score`.

    Returns:
        the arrays of `common_neighbours.Proposals`, of the cells whose labels are large enough to be predicted; none where
        every fold is to be searched for itself, as on a GPU, and where genes are the features.
    """
    _, codes, large = large_labels(cells.obs["label"], min_class_size)
    rows = np.flatnonzero(large[codes])
    if "knn" not in classifiers or cells.device is not None or cells.uses_expression or large.sum() < 2:
        return {}
    schemes = [np.random.default_rng(seed).permutation(len(rows)) % n_folds]
    if "corrected" in profiles and "donor" in cells.obs:
        schemes.append(donors_spread(cells.obs["donor"][rows], n_folds))
    by_label = np.argsort(codes[rows], kind="stable")
    proposals = propose_where_worthwhile(cells.matrix, rows, schemes, n_neighbors, by_label)
    return {} if proposals is None else proposals.arrays()


def large_labels(labels: np.ndarray, min_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the labels, ascending, the place of each cell's among them, and which of them have at least `min_size` cells."""
    names, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return names, codes, sizes >= min_size


def donors_spread(donors: np.ndarray, n_folds: int) -> np.ndarray:
    """Deal donors over folds by their sizes alone, much as label prediction will: the fold of each cell, -1 for none."""
    names, codes, sizes = np.unique(donors, return_inverse=True, return_counts=True)
    folds, held = np.full(len(names), -1), np.zeros(n_folds)
    for donor in np.argsort(-sizes, kind="stable"):
        if names[donor] != "":
            folds[donor] = np.argmin(held)
            held[folds[donor]] += sizes[donor]
    return folds[codes]

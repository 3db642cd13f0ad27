"""What cross-species integration asks of the embedding: neighborhoods, silhouette widths, and transferred labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellgauge.metrics.entropy import neighbor_counts
from cellgauge.metrics.knn.exact import neighborhoods
from cellgauge.metrics.silhouette import batch_widths, bras_widths
from cellgauge.tasks.cells import CellsToScore, NotScorable
from cellgauge.tasks.cross_species.transfer import Question, transferred

ALL = "all"
WIDTHS = "widths"
BRAS = "bras"
WITHIN = "within"


def find(
    cells: CellsToScore,
    *,
    seed: int,
    profiles: Sequence[str],
    n_neighbors: int,
    min_class_size: int,
    knn_neighbors: int,
) -> dict[str, np.ndarray]:
    """Find what the profiles ask of the distances between the cells of all species.

    Args:
        n_neighbors, min_class_size, knn_neighbors: as for `tasks.cross_species.score`.

    Returns:
        Of profile reference: `all`, the k nearest of every cell, in no order, itself among them, int32, shape (n_cells, k);
        `widths` of the species within each label, float64, shape (n_cells,), NaN where not defined. Of profile corrected:
        `bras`, the same by BRAS; `within`, what `neighbors_within_labels` returns; and what `transfer.transferred` returns.

    Raises:
        NotScorable: the cells are of one species.
    """
    names, species = np.unique(cells.obs["organism"], return_inverse=True)  # sorted once: comparing strings is slow
    if len(names) < 2:
        raise NotScorable(f"all {len(species)} cells are of one species, {names[0]}")
    labels = np.unique(cells.obs["label"], return_inverse=True)[1]
    arrays = {}
    if "reference" in profiles:
        k = min(n_neighbors, len(species))
        by_label = np.argsort(labels, kind="stable")
        arrays[ALL] = neighborhoods(cells.matrix, k, device=cells.device, order=by_label)
        arrays[WIDTHS] = batch_widths(cells.matrix, labels, species, cells.device)
    if "corrected" in profiles:
        arrays[BRAS] = bras_widths(cells.matrix, labels, species)
        arrays[WITHIN] = neighbors_within_labels(
            cells.matrix, labels, species, n_neighbors, min_class_size, seed, cells.device
        )
        question = Question.of(cells, min_class_size)
        arrays |= transferred(cells.matrix, question, knn_neighbors, cells.device)
    return arrays


def neighbors_within_labels(
    matrix: np.ndarray,
    labels: np.ndarray,
    species: np.ndarray,
    n_neighbors: int,
    min_class_size: int,
    seed: int,
    device: str | None = None,
) -> np.ndarray:
    """Count the species among each cell's nearest neighbors of its own label, itself among them.

    A neighborhood has as many cells as the label's rarest species, `n_neighbors` at most, so that a neighborhood of one
    species is possible for every cell. Among cells at one point, chance decides which are the nearest.

    Args:
        matrix: float32, finite, shape (n_cells, n_dims).
        labels, species: codes from 0 on, shape (n_cells,).
        min_class_size: a species with fewer cells of a label is left out of it, and so is a label of fewer than two species.
        seed: of the order in which cells at one point are taken.

    Returns:
        int32, shape (n_cells, n_species); 0 of cells that are left out.
    """
    n_species = int(species.max()) + 1
    counts = np.zeros((len(labels), n_species), dtype=np.int32)
    generator = np.random.default_rng(seed)
    for code in range(labels.max() + 1):
        sizes = np.bincount(species[labels == code], minlength=n_species)
        large = sizes >= min_class_size
        if large.sum() < 2:
            continue
        members = generator.permutation(np.flatnonzero((labels == code) & large[species]))
        k = min(n_neighbors, int(sizes[large].min()))
        nearest = neighborhoods(matrix[members], k, device=device)
        counts[members] = neighbor_counts(nearest, species[members], n_species)
    return counts

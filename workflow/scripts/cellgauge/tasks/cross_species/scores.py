"""Cross-species integration: do labels transfer from species to species, and do cells of one label lie among each other?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cellgauge.files.score import Score
from cellgauge.metrics.entropy import entropy_of_counts, expected_entropy, neighbor_counts
from cellgauge.metrics.silhouette import batch_silhouettes
from cellgauge.tasks.cells import CellsToScore
from cellgauge.tasks.cross_species import transfer
from cellgauge.tasks.cross_species.neighbors import ALL, BRAS, WIDTHS, WITHIN, find

SCOPE = "dataset"
COMPARES = "organism"
NEEDS = ("label",)


def score(
    cells: CellsToScore,
    *,
    profiles: Sequence[str],
    seed: int,
    n_neighbors: int = 200,
    min_class_size: int = 10,
    knn_neighbors: int = 5,
) -> Iterator[Score]:
    """Yield, of profile reference, the entropy of species in neighborhoods and the silhouette of species within labels.

    Of profile corrected: label transfer between all ordered pairs of species first, which noise cannot win; then BRAS, and the
    entropy of species within each label in shares of what the label's own proportions of species allow.

    Args:
        n_neighbors: cells of a neighborhood for the entropy.
        min_class_size: least cells of a label that a species must have to share it.
        knn_neighbors: neighbors that vote when labels are transferred.

    Raises:
        NotScorable: the cells are of one species.
    """
    sizes = {"n_neighbors": n_neighbors, "min_class_size": min_class_size, "knn_neighbors": knn_neighbors}
    arrays = cells.neighbors
    if arrays is None:
        arrays = find(cells, seed=seed, profiles=profiles, **sizes)
    species, labels = cells.obs["organism"], cells.obs["label"]
    if "reference" in profiles:
        yield _reference_entropy(arrays[ALL], species, n_neighbors)
        yield from _mean_over_labels("batch_silhouette", batch_silhouettes(arrays[WIDTHS], labels), "reference")
    if "corrected" in profiles:
        yield from transfer.scores(cells, transfer.Question.of(cells, min_class_size), arrays)
        yield from _mean_over_labels("bras", batch_silhouettes(arrays[BRAS], labels), "corrected")
        yield from _mean_over_labels("entropy_ratio", _entropy_ratios(arrays[WITHIN], labels, species), "corrected")
        yield from _shared_labels(labels, species)


def _reference_entropy(neighbors: np.ndarray, species: np.ndarray, n_neighbors: int) -> Score:
    if neighbors.shape[1] == n_neighbors:
        names, codes = np.unique(species, return_inverse=True)
        entropies = entropy_of_counts(neighbor_counts(neighbors, codes, len(names)))
        return Score("entropy_per_cell", float(entropies.mean()), "reference")
    reason = f"there are only {len(species)} cells, and each needs {n_neighbors} neighbors"
    return Score("entropy_per_cell", profile="reference", status="not_applicable", reason=reason)


def _entropy_ratios(counts: np.ndarray, labels: np.ndarray, species: np.ndarray) -> dict[str, float]:
    """Return, by label, the mean entropy of species in neighborhoods, in shares of its expectation under random mixing.

    Args:
        counts: what `neighbors.neighbors_within_labels` returns.
    """
    names, codes = np.unique(species, return_inverse=True)
    ratios = {}
    for label in np.unique(labels):
        members = (labels == label) & counts.any(axis=1)
        sizes = np.bincount(codes[members], minlength=len(names))
        present = sizes > 0
        if present.any():
            of_label = counts[members][:, present]
            expected = expected_entropy(sizes[present], int(of_label[0].sum()))
            ratios[str(label)] = float(entropy_of_counts(of_label).mean()) / expected
    return ratios


def _mean_over_labels(metric: str, values: dict[str, float], profile: str) -> Iterator[Score]:
    """Yield the mean over labels, and in profile corrected the value of each."""
    if values:
        yield Score(metric, float(np.mean(list(values.values()))), profile)
    else:
        reason = "no label has enough cells of two species"
        yield Score(metric, profile=profile, status="not_applicable", reason=reason)
    for label, value in values.items() if profile == "corrected" else ():
        yield Score(metric, value, profile, condition=label)


def _shared_labels(labels: np.ndarray, species: np.ndarray) -> Iterator[Score]:
    names = np.unique(labels)
    shared = [name for name in names if len(np.unique(species[labels == name])) > 1]
    alone = sorted(set(names) - set(shared))
    yield Score("labels_shared", float(len(shared)), "corrected")
    reason = f"in one species only: {', '.join(alone)}" if alone else ""
    yield Score("labels_not_shared", float(len(alone)), "corrected", reason=reason)

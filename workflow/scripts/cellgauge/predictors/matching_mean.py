"""Baseline: the mean of the training perturbations of the same genes."""

from collections.abc import Iterable

import numpy as np

from cellgauge.core.errors import CellgaugeError
from cellgauge.predictors.base import Predicted, Response
from cellgauge.screens.screen import Screen, targets

USES_CONTROLS = False


def predict(screen: Screen, weights: None, *, device: str, seed: int) -> Predicted:
    """Return for each condition the mean of its genes' single perturbations.

    For a gene whose single perturbation is not among the training conditions, the mean of all training conditions is used,
    so that the prediction for an unseen single perturbation equals `training_mean`.

    Source: the matching mean of Vinas Torne et al. (2025), Nature Biotechnology, 10.1038/s41587-025-02777-8 (Systema).

    Raises:
        CellgaugeError: the screen has no training condition.
    """
    if not screen.training_conditions:
        raise CellgaugeError(f"{screen.where}: no training condition")
    trained = screen.means(screen.training_conditions)
    overall = trained.mean(axis=0)
    singles = single_means(screen, trained)

    def mean(condition: str) -> np.ndarray:
        means = [singles.get(gene, overall) for gene in sorted(targets(condition))]
        return sum(means) / len(means)

    return Predicted(screen.genes, (Response(c, mean=mean(c)) for c in screen.test_conditions))


def single_means(screen: Screen, trained: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the mean expression of the training cells in which a single gene is perturbed, by gene.

    Args:
        trained: the mean expression of each training condition, in the order of `screen.training_conditions`, each of shape
            (n_genes,).
    """
    of_gene: dict[str, list[tuple[int, np.ndarray]]] = {}
    for condition, mean in zip(screen.training_conditions, trained, strict=True):
        if len(targets(condition)) == 1:
            (gene,) = targets(condition)
            of_gene.setdefault(gene, []).append((len(screen.rows_of(condition)), mean))
    # "A+ctrl" and "ctrl+A" are the same perturbation: its mean is that of the cells of both
    return {
        gene: np.average([mean for _, mean in parts], axis=0, weights=[size for size, _ in parts])
        for gene, parts in of_gene.items()
    }

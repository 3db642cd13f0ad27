"""Baseline: a linear model of genes and perturbations, both embedded by PCA of the training conditions."""

from collections.abc import Iterator

import numpy as np

from cellgauge.predictors.base import Predicted, Response
from cellgauge.screens.screen import CONTROL, Screen


def predict(
    screen: Screen, weights: None, *, device: str, seed: int, n_components: int = 10, ridge: float = 0.1
) -> Predicted:
    """Return control + G W p + b for each condition, with W the ridge solution on the training conditions.

    Y (genes x training conditions, including the control) holds changes of mean log-normalized expression, b its mean over
    conditions. G (genes x components) are the scores of a PCA of the conditions' mean expression with genes as observations;
    a perturbation is embedded as the row of its gene, a pair as the sum of both rows, the control as 0.
    W = (G'G + ridge)^-1 G' (Y - b) P' (PP' + ridge)^-1.

    A condition with a gene that the screen does not measure cannot be embedded; its response has a reason instead. If fewer
    than two training conditions can be embedded, all responses have one.

    Source: Ahlmann-Eltze et al. (2025), Nature Methods, 10.1038/s41592-025-02772-6, run_linear_pretrained_model.R (for single
    genes; the sum for pairs is our addition, after the additive model).
    """
    trained = screen.training_conditions
    names = [condition for condition in trained if not screen.columns_of_targets(condition)[1]]
    if len(names) < 2:
        reason = f"{len(names)} of the training conditions perturb genes that the screen measures, two are needed"
        return Predicted(screen.genes, (Response(c, reason=reason) for c in screen.test_conditions))
    expression = screen.means([CONTROL, *trained])
    control = expression[0]
    genes = _scores(expression.T, n_components)
    fitted = np.stack(
        [np.zeros_like(control), *(expression[1 + trained.index(name)] - control for name in names)], axis=1
    )
    perturbations = np.stack([np.zeros(genes.shape[1]), *(_embedded(screen, name, genes) for name in names)], axis=1)
    center = fitted.mean(axis=1, keepdims=True)
    penalty = ridge * np.eye(genes.shape[1])
    left = np.linalg.solve(genes.T @ genes + penalty, genes.T @ (fitted - center) @ perturbations.T)
    weight = np.linalg.solve(perturbations @ perturbations.T + penalty, left.T).T

    def responses() -> Iterator[Response]:
        for condition in screen.test_conditions:
            absent = screen.columns_of_targets(condition)[1]
            if absent:
                yield Response(condition, reason=f"the screen does not measure {' and '.join(absent)}")
            else:
                change = genes @ (weight @ _embedded(screen, condition, genes)) + center[:, 0]
                yield Response(condition, mean=control + change)

    return Predicted(screen.genes, responses())


def _scores(observations: np.ndarray, n_components: int) -> np.ndarray:
    """Return the principal component scores of the rows, shape (n_rows, <= n_components)."""
    centered = observations - observations.mean(axis=0)
    left, values, _ = np.linalg.svd(centered, full_matrices=False)
    n_components = min(n_components, centered.shape[1] - 1)
    return left[:, :n_components] * values[:n_components]


def _embedded(screen: Screen, condition: str, genes: np.ndarray) -> np.ndarray:
    return genes[screen.columns_of_targets(condition)[0]].sum(axis=0)

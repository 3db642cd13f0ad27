"""How far a predicted change of expression is from the measured one, how well the two correlate over genes, and how far
predicted cells are from measured ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cellgauge.metrics import perturbation as metrics
from cellgauge.tasks.perturbation.responses import Responses, Value

FEWEST_GENES = 5
"""Of fewer genes a correlation is not computed: of two it is 1 or -1 whatever was predicted."""
LEAST_SIGNAL = 0.1
"""The part of the squared measured change that must be beyond its noise for shares of it to mean anything."""


def values(responses: Responses, row: int, subsets: Mapping[str, np.ndarray]) -> Iterator[Value]:
    """Yield the errors and correlations of one condition over sets of genes (positions by name).

    The mean squared error is that of the mean expression, which no control is part of; the rest is of changes.
    """
    predicted, measured = responses.predicted_change(row), responses.measured_change(row)
    expression = responses.predicted[responses.prediction_of(responses.truth.condition[row])]
    for name in ("all", "unmasked"):
        genes = subsets[name]
        unchanged = float(np.mean(measured[genes] ** 2)) if len(genes) else 0.0
        if unchanged == 0:
            yield Value("r2_delta", name, None, "no gene was measured to change")
        else:
            error = metrics.mean_squared_error(predicted[genes], measured[genes])
            yield Value("r2_delta", name, 1 - error / unchanged)
    for name, genes in subsets.items():
        if len(genes):
            yield Value("mse", name, metrics.mean_squared_error(expression[genes], responses.truth.means[row, genes]))
        else:
            yield Value("mse", name, None, metrics.NOTHING_SIGNIFICANT)
    scale = scale_of(responses)
    for name, genes in subsets.items():
        yield correlation("pearson_delta", name, predicted[genes], measured[genes], scale)


def specific(responses: Responses, row: int, rows: Sequence[int], genes: np.ndarray) -> Value:
    """Return the correlation of what is specific: both changes less the mean change of the other conditions.

    The reference is the mean of the perturbed conditions' centroids in place of the control. Systema takes the training
    conditions' for both; those are noise that the predicted and the measured difference would share (docs/perturbation.md).

    Source: after Vinas Torne et al. (2025), Nature Biotechnology, 10.1038/s41587-025-02777-8 (Systema).

    Args:
        rows: the conditions that are predicted and measured, `row` among them.
    """
    others = [other for other in rows if other != row]
    if not others:
        return Value("pearson_specific", "all", None, "there is no other test condition to compare with")
    changes = []
    for change in (responses.predicted_change, responses.measured_change):
        changes.append((change(row) - sum(map(change, others)) / len(others))[genes])
    return correlation("pearson_specific", "all", *changes, scale_of(responses))


def explained(responses: Responses, rows: Sequence[int], genes: np.ndarray) -> Value:
    """Return the share of the change beyond noise that is predicted, over conditions: 0 as no change, 1 all but noise.

    (B - M) / (B - N) of the sums over conditions of the mean squared errors of no change (B) and of the model (M), and of the
    noise of the measured change (N): the squared standard errors of the means that it is the difference of.
    """
    truth = responses.truth
    unchanged = predicted = noise = 0.0
    for row in rows:
        measured = responses.measured_change(row)[genes]
        unchanged += float(np.mean(measured**2))
        predicted += metrics.mean_squared_error(responses.predicted_change(row)[genes], measured)
        noise += float(truth.noise[row] + truth.noise[truth.measured_from])
    if not rows:
        return Value("r2_scaled", "all", None, "no condition is predicted")
    if not np.isfinite(noise):
        return Value("r2_scaled", "all", None, "with one cell, the noise is not known")
    if unchanged - noise <= LEAST_SIGNAL * unchanged:
        why = f"less than {LEAST_SIGNAL:.0%} of the measured change exceeds its noise"
        return Value("r2_scaled", "all", None, why)
    return Value("r2_scaled", "all", (unchanged - predicted) / (unchanged - noise))


def measures(subsets: Sequence[str]) -> list[tuple[str, str]]:
    """Return the metrics and genes that `values` and `specific` yield."""
    everywhere = [(metric, name) for metric in ("mse", "pearson_delta") for name in subsets]
    return [("r2_delta", "all"), ("r2_delta", "unmasked"), *everywhere, ("pearson_specific", "all")]


def scale_of(responses: Responses) -> float:
    """Return the magnitude of expression that changes are differences of."""
    return max(1.0, float(np.abs(responses.control).max()))


def correlation(
    metric: str, genes: str, predicted: np.ndarray, measured: np.ndarray, scale: float, fewest: int = FEWEST_GENES
) -> Value:
    """Return Pearson's correlation over at least `fewest` genes of two changes, or why it is undefined."""
    if len(measured) < fewest:
        few = f"{len(measured)} genes are too few for a correlation" if len(measured) else metrics.NOTHING_SIGNIFICANT
        return Value(metric, genes, None, few)
    for change, whose in ((predicted, "predicted"), (measured, "measured")):
        if metrics.is_constant(change, scale):
            return Value(metric, genes, None, f"the {whose} change is the same for all {len(change)} genes")
    value = metrics.pearson(measured, predicted)
    if not np.isfinite(value):
        return Value(metric, genes, None, "the change is the same for all genes")
    return Value(metric, genes, value)


def energy(responses: Responses, row: int) -> Value:
    """Return the energy distance of predicted and measured cells; a mean stands for the controls seen, moved to it."""
    truth = responses.truth
    prediction = responses.prediction_of(truth.condition[row])
    if responses.has_cells[prediction] and responses.cells is not None:
        predicted = _present(responses.cells[prediction])
    else:
        moved = responses.predicted_change(row) @ truth.components
        predicted = _present(truth.cells[truth.predicted_from]) + moved
    value = metrics.energy_distance(predicted.astype(np.float64), _present(truth.cells[row]).astype(np.float64))
    if not np.isfinite(value):
        return Value("e_distance", "all", None, "fewer than two cells")
    return Value("e_distance", "all", value)


def _present(cells: np.ndarray) -> np.ndarray:
    return cells[np.isfinite(cells).all(axis=1)]

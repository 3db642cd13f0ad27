"""Whether a prediction is of its own condition rather than of another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cellgauge.metrics import perturbation as metrics
from cellgauge.screens.screen import targets
from cellgauge.tasks.perturbation.differences import scale_of
from cellgauge.tasks.perturbation.responses import Responses, Value

KINDS = ("l1", "l2", "cosine")


def values(responses: Responses, row: int, rows: Sequence[int], subsets: Mapping[str, np.ndarray]) -> Iterator[Value]:
    """Yield the share of the other conditions of a stratum that are farther from the prediction than its own.

    Over a stratum the mean of one prediction for all conditions is 0.5 to the last digit, whatever it is.

    Args:
        rows: the conditions of the same stratum that are predicted, `row` among them.
        subsets: sets of genes, positions by name.
    """
    change, scale = responses.predicted_change(row), scale_of(responses)
    others = [other for other in rows if other != row]
    compared = [*others, row]
    for name, genes in subsets.items():
        measured = responses.truth.means[np.ix_(compared, genes)] - responses.control[genes]
        for kind in KINDS:
            metric = f"discrimination_{kind}"
            if not others:
                yield Value(metric, name, None, "there is no other condition in its stratum to compare with")
            elif kind == "cosine" and metrics.is_constant(change[genes], scale):
                yield Value(metric, name, None, "the prediction changes no gene, so it has no direction")
            else:
                far = metrics.distances(change[genes], measured, kind)
                undirected = responses.truth.condition[np.asarray(compared)[~np.isfinite(far)]]
                if len(undirected):
                    why = f"the measured change of {undirected[-1]} is zero, so it has no direction"
                    yield Value(metric, name, None, why)
                else:
                    yield Value(metric, name, metrics.share_farther(far[-1], far[:-1]))


def centroid_accuracy(responses: Responses, row: int, genes: np.ndarray) -> Value:
    """Return the share of all other conditions whose mean expression is farther from the prediction than its own."""
    truth = responses.truth
    genes_of_row = targets(truth.condition[row])
    measured = np.flatnonzero(np.isin(truth.role, ("control_seen", "training", "test")) & (truth.n_cells > 0))
    elsewhere = [other for other in measured if targets(truth.condition[other]) != genes_of_row]
    predicted = responses.predicted[responses.prediction_of(truth.condition[row])]
    far = metrics.distances(predicted[genes], truth.means[np.ix_([*elsewhere, row], genes)], "l2")
    return Value("centroid_accuracy", "all", metrics.share_farther(far[-1], far[:-1]))


def measures(subsets: Sequence[str]) -> list[tuple[str, str]]:
    """Return the metrics and genes of `values` and `centroid_accuracy`."""
    return [*((f"discrimination_{kind}", name) for name in subsets for kind in KINDS), ("centroid_accuracy", "all")]

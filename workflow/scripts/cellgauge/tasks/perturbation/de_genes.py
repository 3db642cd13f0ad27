"""Differentially expressed genes: which are significant, and whether the prediction has them, in their direction and order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cellgauge.metrics import perturbation as metrics
from cellgauge.tasks.perturbation.differences import FEWEST_GENES, scale_of
from cellgauge.tasks.perturbation.responses import Responses, Value

OF_TESTS = ("de_recall", "de_precision")
NO_CELLS_PREDICTED = "a predicted mean has no significant genes"


def significant(scores: np.ndarray, genes: np.ndarray, fdr: float) -> np.ndarray:
    """Return the genes (positions, ascending) that differ from control at a false discovery rate over `genes`.

    Args:
        scores: z scores of all genes, NaN where there are none, shape (n_genes,).
        genes: positions of those that are tested.
    """
    if np.isnan(scores).any():
        return genes[:0]
    return genes[metrics.adjusted_p(scores[genes]) < fdr]


def values(
    responses: Responses, row: int, genes: np.ndarray, measured_de: np.ndarray, top: Sequence[int], fdr: float
) -> Iterator[Value]:
    """Yield the scores of one condition's differentially expressed genes.

    Args:
        genes: positions of the genes that are scored.
        measured_de: positions of those that are significant in the data.
    """
    prediction = responses.prediction_of(responses.truth.condition[row])
    predicted, measured = responses.predicted_change(row), responses.measured_change(row)
    scale, z = scale_of(responses), responses.truth.scores[row]
    has_cells = bool(responses.has_cells[prediction])
    beyond_rounding = np.where(np.abs(predicted) > metrics.CONSTANT * scale, predicted, 0)
    effect = responses.scores[prediction] if has_cells else beyond_rounding
    predicted_de = significant(responses.scores[prediction], genes, fdr) if has_cells else genes[:0]
    n_predicted = float(len(predicted_de)) if has_cells else None
    yield Value("n_de_predicted", "all", n_predicted, "" if has_cells else NO_CELLS_PREDICTED)
    if not len(measured_de):
        yield from (Value(metric, name, None, metrics.NOTHING_SIGNIFICANT) for metric, name in measures(top))
        return
    changed = bool(np.any(effect[genes]))
    leading_measured = leading(np.abs(z), measured_de, max(top), responses.tie_breaker)
    leading_predicted = leading(np.abs(effect), genes, max(top), responses.tie_breaker)
    for n in top:
        if not changed:
            yield Value("jaccard", f"top{n}_de", None, "the prediction changes no gene")
            continue
        truth = metrics.signed(leading_measured[:n], z)
        shared = metrics.jaccard(truth, metrics.signed(leading_predicted[: len(truth)], effect))
        yield Value("jaccard", f"top{n}_de", shared)
    if has_cells:
        both = float(len(np.intersect1d(measured_de, predicted_de)))
        yield Value("de_recall", "all", both / len(measured_de))
        precision = both / len(predicted_de) if len(predicted_de) else None
        yield Value("de_precision", "all", precision, "" if len(predicted_de) else "no predicted gene is significant")
    else:
        yield from (Value(metric, "all", None, NO_CELLS_PREDICTED) for metric in OF_TESTS)
    if len(measured_de) < len(genes):
        yield Value("de_auprc", "all", metrics.average_precision(np.isin(genes, measured_de), np.abs(effect[genes])))
    else:
        yield Value("de_auprc", "all", None, "every gene is significant")
    signs = np.sign(beyond_rounding[measured_de])
    agree = np.where(signs == 0, 0.5, signs == np.sign(measured[measured_de]))
    yield Value("de_direction", "de", float(agree.mean()))
    yield _spearman(responses, prediction, row, measured_de, signs)


def measures(top: Sequence[int]) -> list[tuple[str, str]]:
    """Return the metrics and genes that `values` yields, counts left out."""
    subsets = [("jaccard", f"top{n}_de") for n in top]
    return [*subsets, *((m, "all") for m in (*OF_TESTS, "de_auprc")), ("de_direction", "de"), ("de_spearman", "de")]


def leading(scores: np.ndarray, genes: np.ndarray, n: int, tie_breaker: np.ndarray) -> np.ndarray:
    """Return the positions of the n highest scores among `genes`."""
    return genes[metrics.leading(scores[genes], n, tie_breaker[genes])]


def _spearman(responses: Responses, prediction: int, row: int, genes: np.ndarray, signs: np.ndarray) -> Value:
    if len(genes) < FEWEST_GENES:
        return Value("de_spearman", "de", None, f"{len(genes)} genes are too few for a correlation")
    if not signs.any():
        return Value("de_spearman", "de", None, "the prediction changes none of the genes")
    measured = metrics.log_fold_changes(responses.truth.means[row, genes], responses.control[genes])
    predicted = metrics.log_fold_changes(responses.predicted[prediction, genes], responses.baseline[genes])
    value = metrics.spearman(measured, predicted)
    if not np.isfinite(value):
        return Value("de_spearman", "de", None, "the fold change is the same for all genes")
    return Value("de_spearman", "de", value)

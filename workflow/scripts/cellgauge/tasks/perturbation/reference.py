"""Profile reference: what cz-benchmarks 0.10.2 computes of one condition, with genes aligned by name.

Differentially expressed genes are those with the highest Wilcoxon scores, so the up-regulated ones; all controls are compared
with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cellgauge.metrics import perturbation as metrics
from cellgauge.tasks.perturbation.differences import correlation
from cellgauge.tasks.perturbation.responses import Responses, Value


def values(responses: Responses, row: int, top: Sequence[int]) -> Iterator[Value]:
    """Yield the values of one condition, a row of the truth."""
    if reason := responses.why_not(row):
        yield from (Value(metric, genes, None, reason) for metric, genes in measures(top))
        return
    prediction = responses.prediction_of(responses.truth.condition[row])
    order = metrics.leading(responses.truth.scores[row], max(top), responses.tie_breaker)
    subsets = {"all": np.arange(len(responses.truth.genes))} | {f"top{n}_de": order[:n] for n in top}
    predicted, measured = responses.predicted[prediction], responses.truth.means[row]
    for name, genes in subsets.items():
        yield Value("mse", name, metrics.mean_squared_error(predicted[genes], measured[genes]))
    changes = responses.predicted_change(row), responses.measured_change(row)
    for name, genes in subsets.items():
        yield correlation("pearson_delta", name, *(change[genes] for change in changes), scale=0.0, fewest=0)
    ranked = metrics.leading(responses.scores[prediction], max(top), responses.tie_breaker)
    for n in top:
        yield Value("jaccard", f"top{n}_de", metrics.jaccard(set(order[:n]), set(ranked[:n])))


def measures(top: Sequence[int]) -> list[tuple[str, str]]:
    """Return the metrics and genes that `values` yields."""
    subsets = ["all", *(f"top{n}_de" for n in top)]
    return [(m, s) for m in ("mse", "pearson_delta") for s in subsets] + [("jaccard", s) for s in subsets[1:]]

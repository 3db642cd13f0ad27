"""Baseline: the effect of perturbing a pair of genes is the sum of the genes' single effects."""

from collections.abc import Iterator

from cellgauge.predictors.base import Predicted, Response
from cellgauge.predictors.matching_mean import single_means
from cellgauge.screens.screen import CONTROL, Screen, targets


def predict(screen: Screen, weights: None, *, device: str, seed: int) -> Predicted:
    """Return control + the sum of the single perturbations' changes of log-normalized expression.

    Only for pairs whose genes were both perturbed alone in training. For other conditions the response has a reason.

    Source: Ahlmann-Eltze et al. (2025), Nature Methods, 10.1038/s41592-025-02772-6.
    """
    control, *trained = screen.means([CONTROL, *screen.training_conditions])
    singles = single_means(screen, trained)

    def responses() -> Iterator[Response]:
        for condition in screen.test_conditions:
            genes = sorted(targets(condition))
            unseen = [gene for gene in genes if gene not in singles]
            if len(genes) < 2:
                yield Response(condition, reason="the additive model does not apply to single-gene perturbations")
            elif unseen:
                yield Response(condition, reason=f"no training condition perturbs {' or '.join(unseen)} alone")
            else:
                yield Response(condition, mean=control + sum(singles[gene] - control for gene in genes))

    return Predicted(screen.genes, responses())

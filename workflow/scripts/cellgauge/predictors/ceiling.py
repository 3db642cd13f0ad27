"""Positive control: half of a condition's cells predict the other half."""

from collections.abc import Iterator

from cellgauge.predictors.base import Predicted, Response
from cellgauge.screens.screen import Screen

USES_CONTROLS = False


def predict(screen: Screen, weights: None, *, device: str, seed: int) -> Predicted:
    """Return for each condition the first half of its cells, which are scored against the second half only.

    Its score is the best that sampling noise allows a model with that many cells. Against all cells of a condition, a model
    can score slightly higher.
    """

    def responses() -> Iterator[Response]:
        for condition in screen.test_conditions:
            rows = screen.rows_of(condition)
            first, second = screen.halves(rows)
            if min(len(first), len(second)) < 2:
                yield Response(condition, reason=f"{len(rows)} cells cannot be halved")
            else:
                yield Response(condition, cells=screen.in_memory[screen.shuffled(first)])

    return Predicted(screen.genes, responses(), {"scored_against": "second_half"})

"""Profile corrected: the scores of every test condition of a screen.

Measured changes are differences from the controls that were withheld from predictors, predicted changes from those that they
saw. The genes that a test condition perturbs are masked in every score but those of the subset `unmasked`. A condition in which
no other gene is significant is of the stratum `no_effect`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cellgauge.screens.screen import targets
from cellgauge.tasks.perturbation import de_genes, differences, discrimination
from cellgauge.tasks.perturbation.responses import Responses, Value

NO_EFFECT = "no_effect"


class Corrected:
    """What profile corrected scores of a model's responses.

    Attributes:
        rows: the rows of the truth that are conditions of their own: cells that the data name in two orders are one.
        strata: the stratum of each of `rows`.
    """

    def __init__(self, responses: Responses, top: Sequence[int], fdr: float) -> None:
        self._responses, self._top, self._fdr = responses, top, fdr
        truth = responses.truth
        self._genes = np.flatnonzero(~truth.masked)
        self.rows = _one_per_set(responses)
        self.strata = {}
        for row in self.rows:
            effect = len(de_genes.significant(truth.full_scores[row], self._genes, fdr))
            self.strata[row] = truth.stratum[row] if effect or not truth.n_cells[row] else NO_EFFECT
        self._predicted = [row for row in self.rows if not responses.why_not(row)]

    def values(self, row: int) -> Iterator[Value]:
        """Yield the values of one condition."""
        responses, genes = self._responses, self._genes
        measured_de = de_genes.significant(responses.truth.scores[row], genes, self._fdr)
        if responses.truth.n_cells[row]:  # of the data, whatever a model predicts: the same number for all models
            yield Value("n_de", "all", float(len(measured_de)))
        if reason := responses.why_not(row):
            subsets = self._subsets(genes[:0])
            measures = [
                *differences.measures(list(subsets)),
                *de_genes.measures(self._top),
                *discrimination.measures(["all", "unmasked"]),
                ("n_de_predicted", "all"),
                ("e_distance", "all"),
            ]
            yield from (Value(metric, name, None, reason) for metric, name in measures)
            return
        z = np.abs(responses.truth.scores[row])
        order = de_genes.leading(z, measured_de, max(self._top), responses.tie_breaker)
        subsets = self._subsets(order)
        yield from differences.values(responses, row, subsets)
        yield differences.specific(responses, row, self._predicted, genes)
        yield from de_genes.values(responses, row, genes, measured_de, self._top, self._fdr)
        same = [other for other in self._predicted if self.strata[other] == self.strata[row]]
        whole = {name: subsets[name] for name in ("all", "unmasked")}
        yield from discrimination.values(responses, row, same, whole)
        yield discrimination.centroid_accuracy(responses, row, genes)
        yield differences.energy(responses, row)

    def summary(self, rows: Sequence[int]) -> Iterator[Value]:
        """Yield what is a value of several conditions together."""
        rows = [row for row in rows if row in self._predicted]
        yield differences.explained(self._responses, rows, self._genes)

    def _subsets(self, leading: np.ndarray) -> dict[str, np.ndarray]:
        tops = {f"top{n}_de": leading[:n] for n in self._top}
        return {"all": self._genes, **tops, "unmasked": np.arange(len(self._responses.truth.genes))}


def _one_per_set(responses: Responses) -> list[int]:
    """Return the rows of the test conditions; of those with one set of genes the pooled one."""
    truth = responses.truth
    chosen: dict[frozenset[str], int] = {}
    for row in np.flatnonzero(np.isin(truth.role, ("test", "pooled"))):
        key = targets(truth.condition[row])
        if key not in chosen or truth.role[row] == "pooled":
            chosen[key] = int(row)
    return sorted(chosen.values())

"""Scores without one donor after the other: what they vary by says how much the donors differ (the jackknife).

Nothing is clustered or predicted anew. A fold's score without a donor is that of the others whom it holds out; folds are
averaged with the share of their donors that remains, so that the score of all donors is the mean over folds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cellgauge.metrics.agreement import Contingency, contingency


@dataclass(frozen=True)
class DonorCounts:
    """What the test cells of one fold add to its scores, by donor.

    Attributes:
        donors: the donors of the fold, as codes, shape (n_donors,).
        right, true, claimed: cells that carry a class and are given it, carry it, are given it; (n_donors, n_classes).
        ahead: per class, pairs of a cell of the class (of the first donor) and one of another class (of the second) of which
            the former has the higher probability of the class, ties at half; shape (n_classes, n_donors, n_donors).
        trained: whether the class was among the training cells, shape (n_classes,).
    """

    donors: np.ndarray
    right: np.ndarray
    true: np.ndarray
    claimed: np.ndarray
    ahead: np.ndarray
    trained: np.ndarray

    @classmethod
    def of(
        cls,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray,
        donors: np.ndarray,
        trained: np.ndarray,
    ) -> DonorCounts:
        """Count the cells of a fold.

        Args:
            truth, predicted: class codes, shape (n_cells,).
            probabilities: shape (n_cells, n_classes).
            donors: the donor of each cell, as a code, shape (n_cells,).
        """
        n_classes = probabilities.shape[1]
        names, rows = np.unique(donors, return_inverse=True)

        def count(chosen: np.ndarray, codes: np.ndarray) -> np.ndarray:
            pairs = rows[chosen] * n_classes + codes[chosen]
            return np.bincount(pairs, minlength=len(names) * n_classes).reshape(len(names), n_classes)

        everything = np.full(len(truth), True)
        counts = (count(truth == predicted, truth), count(everything, truth), count(everything, predicted))
        ahead = np.array([_ahead(truth == code, probabilities[:, code], rows, len(names)) for code in range(n_classes)])
        return cls(names, *counts, ahead, trained)

    def scores(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return accuracy, f1, precision, recall and auroc of every choice of donors, shape (n_choices,); NaN where undefined.

        Classes that no chosen donor has are left out of the means, and of the AUROC also those that were not trained.

        Args:
            weights: 1 for each donor of the fold that is chosen, else 0; shape (n_choices, n_donors).
        """
        right, true, claimed = (weights @ counts for counts in (self.right, self.true, self.claimed))
        n_cells = true.sum(axis=1)
        others = n_cells[:, None] - true
        pairs = np.stack([((weights @ ahead) * weights).sum(axis=1) for ahead in self.ahead], axis=1)
        of_classes = {"f1": (2 * right, true + claimed), "precision": (right, claimed), "recall": (right, true)}
        present = true > 0
        return {
            "accuracy": _ratio(right.sum(axis=1), n_cells, np.nan),
            **{name: _mean_over(_ratio(*parts, 0.0), present) for name, parts in of_classes.items()},
            "auroc": _mean_over(_ratio(pairs, true * others, 0.0), present & (others > 0) & self.trained),
        }


def predictions_without(
    of_classifiers: Mapping[str, Sequence[DonorCounts]], n_donors: int
) -> dict[tuple[str, str], np.ndarray]:
    """Return the mean over folds of every score without each donor, shape (n_donors,), by (classifier, score).

    Those of classifier "mean" are of the mean over the classifiers. Scores that are undefined without some donor are left out.

    Args:
        of_classifiers: the folds on which each classifier was fitted; donors are codes below `n_donors`.
    """
    chosen = 1 - np.eye(n_donors, dtype=np.int64)
    means = {name: _over_folds(folds, chosen) for name, folds in of_classifiers.items() if folds}
    scores = {(name, metric): values for name, metrics in means.items() for metric, values in metrics.items()}
    for metric in dict.fromkeys(metric for _, metric in scores):
        joined = np.stack([metrics[metric] for metrics in means.values()])
        scores["mean", metric] = _mean_over(joined.T, np.isfinite(joined.T))
    return {key: values for key, values in scores.items() if np.isfinite(values).all()}


def means_without(values: np.ndarray, donors: np.ndarray) -> dict[str, float]:
    """Return the mean of `values` over the cells of all donors but one, by that donor; both arrays have shape (n_cells,)."""
    names, codes = np.unique(donors, return_inverse=True)
    sums, sizes = np.bincount(codes, weights=values), np.bincount(codes)
    means = (sums.sum() - sums) / (sizes.sum() - sizes)
    return dict(zip(map(str, names), means.tolist(), strict=True))


def agreements_without(
    labels: np.ndarray,
    partitions: Sequence[np.ndarray],
    donors: np.ndarray,
    agreements: Mapping[str, Callable[[Contingency], float]],
) -> dict[str, dict[str, float]]:
    """Return, by name and donor, the mean agreement of `partitions` with the labels over the cells of all other donors.

    Args:
        labels, donors: shape (n_cells,).
        partitions: groups of the same cells, each of shape (n_cells,).
        agreements: functions of `cellgauge.metrics.agreement`.
    """
    others = {str(donor): donors != donor for donor in np.unique(donors)}
    tables = {
        donor: [contingency(labels[cells], groups[cells]) for groups in partitions] for donor, cells in others.items()
    }
    return {
        name: {donor: float(np.mean([agreement(table) for table in of_donor])) for donor, of_donor in tables.items()}
        for name, agreement in agreements.items()
    }


def _over_folds(folds: Sequence[DonorCounts], chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Return the mean over folds of every score, per choice; a fold weighs as the share of its donors that is chosen."""
    scores = [fold.scores(chosen[:, fold.donors]) for fold in folds]
    shares = np.stack([chosen[:, fold.donors].mean(axis=1) for fold in folds])
    means = {}
    for metric in scores[0]:
        values = np.stack([of_fold[metric] for of_fold in scores])
        weights = np.where(np.isfinite(values), shares, 0)
        means[metric] = _ratio((np.nan_to_num(values) * weights).sum(axis=0), weights.sum(axis=0), np.nan)
    return means


def _ahead(positive: np.ndarray, values: np.ndarray, donors: np.ndarray, n_donors: int) -> np.ndarray:
    """Return how often a positive cell has the higher value than another cell, ties at half, by the donors of both."""
    codes = np.unique(values, return_inverse=True)[1]
    others = np.zeros((int(codes.max()) + 1, n_donors))
    np.add.at(others, (codes[~positive], donors[~positive]), 1)
    below = np.cumsum(others, axis=0) - others / 2
    ahead = np.zeros((n_donors, n_donors))
    np.add.at(ahead, donors[positive], below[codes[positive]])
    return ahead


def _mean_over(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the mean of the chosen values of each row, NaN where there are none."""
    return _ratio(np.where(chosen, values, 0).sum(axis=1), chosen.sum(axis=1), np.nan)


def _ratio(part: np.ndarray, whole: np.ndarray, undefined: float) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), undefined), where=whole > 0)

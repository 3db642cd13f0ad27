"""Scores of predictions from counts by donor: of all cells, and without one donor after the other.

What the scores without one donor vary by says how much the donors differ (the jackknife).

Nothing is clustered or predicted anew. A fold's score without a donor is that of the others whom it holds out; folds are
averaged with the share of their donors that remains, so that the score of all donors is the mean over folds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cellgauge.metrics.agreement import Contingency, contingency

N_BINS = 15
"""Bins of confidence of the calibration error, as in Guo et al. (2017)."""


@dataclass(frozen=True)
class DonorCounts:
    """What the test cells of one fold add to its scores, by donor."""

    donors: np.ndarray  # the donors of the fold, as codes, shape (n_donors,)
    # right, true, claimed: cells that carry a class and are given it, carry it, are given it; (n_donors, n_classes). A
    # cell without a row carries its class and is given a wrong one: a share of each other class, as large as that class
    # is among the other test cells
    right: np.ndarray
    true: np.ndarray
    claimed: np.ndarray
    # per class, pairs of a cell of the class (of the first donor) and one of another class (of the second) of which the
    # former has the higher probability of the class, ties at half; shape (n_classes, n_donors, n_donors). Pairs with a
    # cell without a row are lost
    ahead: np.ndarray
    # sums of the squared distances between probabilities and truth (Brier 1950), 2 for a cell without a row; (n_donors,)
    squares: np.ndarray
    # sums of `confidence_gaps` by bin, and as a last one the number of cells without a row; (n_donors, N_BINS + 1)
    gaps: np.ndarray
    trained: np.ndarray  # whether the class was among the training cells, shape (n_classes,)
    rare: np.ndarray  # whether few cells carry the class, shape (n_classes,)

    @classmethod
    def of(
        cls,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray,
        donors: np.ndarray,
        trained: np.ndarray,
        rare: np.ndarray,
        left_out: tuple[np.ndarray, np.ndarray],
    ) -> DonorCounts:
        """Count the cells of a fold.

        Leaving a cell out does not improve the scores of the others' predictions: it is wrong, loses its pairs, and adds the
        largest possible squared error and calibration error. Precision and F1 would rise where a wrong prediction goes with
        it, so the cell claims shares of the other classes instead. They can gain only by what mistakes fall more on some
        classes than on others, and without the wrong predictions of classes that are alike they stay as they are.

        Args:
            truth, predicted: class codes, shape (n_cells,).
            probabilities: shape (n_cells, n_classes).
            donors: the donor of each cell, as a code, shape (n_cells,).
            left_out: class codes and donors of the test cells that the model gave no row.
        """
        n_classes = probabilities.shape[1]
        lost, lost_donors = left_out
        names, rows = np.unique(np.concatenate([donors, lost_donors]), return_inverse=True)
        rows, lost_rows = rows[: len(truth)], rows[len(truth) :]

        def count(donors: np.ndarray, codes: np.ndarray, n: int = n_classes, weights: np.ndarray | None = None):
            return np.bincount(donors * n + codes, weights, len(names) * n).reshape(len(names), n)

        right, missing = truth == predicted, count(lost_rows, lost)
        true = count(rows, truth) + missing
        sizes = true.sum(axis=0)
        others = sizes * (1 - np.eye(n_classes))
        shares = _ratio(others, others.sum(axis=1, keepdims=True) * np.ones(n_classes), 0.0)
        bins, gaps = confidence_gaps(truth, predicted, probabilities)
        gaps = np.column_stack([count(rows, bins, N_BINS, gaps), missing.sum(axis=1)])
        errors = ((probabilities - np.eye(n_classes)[truth]) ** 2).sum(axis=1)
        squares = np.bincount(rows, errors, len(names)) + 2 * missing.sum(axis=1)
        ahead = np.array([_ahead(truth == code, probabilities[:, code], rows, len(names)) for code in range(n_classes)])
        claimed = count(rows, predicted) + missing @ shares
        return cls(names, count(rows[right], truth[right]), true, claimed, ahead, squares, gaps, trained, rare)

    def scores(self, weights: np.ndarray, classes: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        """Return accuracy, balanced_accuracy, f1, f1_rare, precision, auroc, brier and calibration_error of every choice of
        donors, shape (n_choices,); NaN where undefined.

        Classes that no chosen donor has are left out of the means, and of the AUROC also those that were not trained. A class's
        0 / 0 counts as 0. Of all cells they are scikit-learn's `accuracy_score`, `f1_score`, `precision_score`, `recall_score`
        (its mean is the balanced accuracy), `roc_auc_score` (each class against the rest: Mann-Whitney, ties at half) and
        `brier_score_loss(scale_by_half=False)`, and the calibration error of Guo et al. (2017).

        Args:
            weights: 1 for each donor of the fold that is chosen, else 0; shape (n_choices, n_donors).
            classes: codes of the classes that means are taken over; None is all of them.
        """
        right, true, claimed = (weights @ counts for counts in (self.right, self.true, self.claimed))
        n_cells = true.sum(axis=1)
        others = n_cells[:, None] - true
        pairs = np.stack([((weights @ ahead) * weights).sum(axis=1) for ahead in self.ahead], axis=1)
        present, f1 = true > 0, _ratio(2 * right, true + claimed, 0.0)
        if classes is not None:
            present &= np.isin(np.arange(true.shape[1]), classes)
        return {
            "accuracy": _ratio(right.sum(axis=1), n_cells, np.nan),
            "balanced_accuracy": _mean_over(_ratio(right, true, 0.0), present),
            "f1": _mean_over(f1, present),
            "f1_rare": _mean_over(f1, present & self.rare),
            "precision": _mean_over(_ratio(right, claimed, 0.0), present),
            "auroc": _mean_over(_ratio(pairs, true * others, 0.0), present & (others > 0) & self.trained),
            "brier": _ratio(weights @ self.squares, n_cells, np.nan),
            "calibration_error": _ratio(np.abs(weights @ self.gaps).sum(axis=1), n_cells, np.nan),
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


def confidence_gaps(
    truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bin of each cell's confidence, and 1 or 0 (predicted right or not) minus the confidence; both (n_cells,).

    The confidence is the probability of the predicted class. The expected calibration error is the sum over bins of the
    absolute sum of the gaps, divided by the number of cells (Naeini et al. 2015; Guo et al. 2017). Bins are closed above.

    Args:
        truth, predicted: class codes, shape (n_cells,).
        probabilities: shape (n_cells, n_classes).
    """
    confidence = probabilities[np.arange(len(truth)), predicted]
    bins = np.clip(np.ceil(confidence * N_BINS).astype(np.int64) - 1, 0, N_BINS - 1)
    return bins, (truth == predicted) - confidence


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
    others = np.zeros((int(codes.max(initial=-1)) + 1, n_donors))
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

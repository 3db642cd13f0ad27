"""Scores of predicted classes, from the confusion matrix and from class probabilities.

Equal to scikit-learn's `accuracy_score`, `f1_score`, `precision_score`, `recall_score` (0 where undefined) and
`roc_auc_score` (one class against the rest, unweighted mean), at a twentieth of their cost on some thousand cells. The mean of
the squared errors is `brier_score_loss(scale_by_half=False)`.
"""

from __future__ import annotations

import numpy as np

from cellgauge.metrics.ranks import mid_ranks

N_BINS = 15
"""Bins of confidence of the calibration error, as in Guo et al. (2017)."""


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Count cells by true class (rows) and predicted class (columns), int64, shape (n_classes, n_classes).

    Args:
        truth, predicted: class codes in 0 .. n_classes - 1, shape (n_cells,).
    """
    pairs = np.bincount(truth * n_classes + predicted, minlength=n_classes**2)
    return pairs.reshape(n_classes, n_classes)


def accuracy(confusion: np.ndarray) -> float:
    """Return the share of cells predicted right."""
    return float(np.trace(confusion) / confusion.sum())


def class_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return "f1", "precision" and "recall" of every class, float64, shape (n_classes,); 0 where undefined (0 / 0)."""
    right = np.diag(confusion)
    true, claimed = confusion.sum(axis=1), confusion.sum(axis=0)

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)

    return {"f1": ratio(2 * right, true + claimed), "precision": ratio(right, claimed), "recall": ratio(right, true)}


def auroc_per_class(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve of each class against the rest, by ranks (Mann-Whitney, ties at half).

    Args:
        truth: class codes, shape (n_cells,).
        probabilities: shape (n_cells, n_classes).

    Returns:
        float64, shape (n_classes,); NaN for a class that has none or all of the cells.
    """
    n_cells, n_classes = probabilities.shape
    areas = np.full(n_classes, np.nan)
    for code in range(n_classes):
        positive = truth == code
        n_positive = int(positive.sum())
        if 0 < n_positive < n_cells:
            ranks = mid_ranks(probabilities[:, code])
            above = ranks[positive].sum() - n_positive * (n_positive + 1) / 2
            areas[code] = above / (n_positive * (n_cells - n_positive))
    return areas


def squared_errors(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return each cell's squared distance between the probabilities of the classes and the truth, in [0, 2] (Brier 1950).

    Args:
        truth: class codes, shape (n_cells,).
        probabilities: shape (n_cells, n_classes).
    """
    return ((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(axis=1)


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

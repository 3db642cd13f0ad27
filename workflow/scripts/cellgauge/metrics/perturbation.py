"""How well one predicted response agrees with the measured one: plain functions on arrays."""

from __future__ import annotations

import numpy as np

CONSTANT = 1e-6
"""A change that varies less than this over genes, relative to the largest value that it is the difference of, is constant:
what is left is rounding, and its correlation with anything means nothing."""

NOTHING_SIGNIFICANT = "no gene except the targets differs significantly from the control"


def mean_squared_error(predicted: np.ndarray, measured: np.ndarray) -> float:
    """Return the mean over genes of the squared difference; both float, shape (n_genes,)."""
    return float(np.mean((predicted - measured) ** 2))


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Return Pearson's correlation of two vectors, shape (n_genes,); NaN where one is constant to the last digit."""
    if len(x) < 2:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt((x @ x) * (y @ y))
    return float(np.clip(x @ y / norm, -1, 1)) if norm > 0 else float("nan")


def is_constant(change: np.ndarray, scale: float) -> bool:
    """Return whether a change of expression is the same for all genes, but for rounding at magnitudes of `scale`."""
    return not len(change) or float(np.ptp(change)) <= CONSTANT * scale


def leading(scores: np.ndarray, n: int, tie_breaker: np.ndarray) -> np.ndarray:
    """Return the positions of the n highest scores; of equal ones those that `tie_breaker` puts first.

    Ties are common (genes that no cell expresses), and with them left to a sort the result would hang on the columns' order.
    """
    return np.lexsort((tie_breaker, -scores))[:n]


def jaccard(a: set, b: set) -> float:
    """Return the size of the intersection over that of the union; NaN for two empty sets."""
    return len(a & b) / len(a | b) if a or b else float("nan")


def signed(positions: np.ndarray, values: np.ndarray) -> set[tuple[int, bool]]:
    """Return genes with the direction of their change: two sets of these share a gene only where they agree in it."""
    return {(int(position), bool(values[position] > 0)) for position in positions}


def distances(point: np.ndarray, others: np.ndarray, kind: str) -> np.ndarray:
    """Return the distance of a vector (n_genes,) from each row of `others` (n_rows, n_genes): "l1", "l2" or "cosine".

    The cosine distance of a vector of zeros is NaN.
    """
    if kind == "l1":
        return np.abs(others - point).sum(axis=1)
    if kind == "l2":
        return np.sqrt(((others - point) ** 2).sum(axis=1))
    norms = np.sqrt((others**2).sum(axis=1) * (point @ point))
    return 1 - np.divide(others @ point, norms, out=np.full(len(others), np.nan), where=norms > 0)


def share_farther(distance: float, others: np.ndarray) -> float:
    """Return the share of distances that exceed `distance`, equal ones as halves: 1 is the nearest of all, 0.5 chance.

    With the other conditions' measured responses as `others` this is the perturbation discrimination score.

    Source: Wu et al. (2024), arXiv 2408.10609 (rank metric); Roohani et al. (2025), Cell 188, 3370-3374 (Virtual Cell
    Challenge), there as 1 - rank / n.
    """
    return float(np.mean((others > distance) + 0.5 * (others == distance)))


def energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return 2 E|X - Y| - E|X - X'| - E|Y - Y'| of two samples, Euclidean, pairs of a cell with itself left out.

    0 where both are samples of one distribution, on average (so it may be a little below 0).

    Args:
        x, y: shapes (n_x, n_dims) and (n_y, n_dims); of fewer than 2 cells the result is NaN.

    Source: Szekely & Rizzo (2013), Journal of Statistical Planning and Inference 143, 1249-1272; on single cells Peidli et
    al. (2024), Nature Methods 21, 531-540, who square the distances, which leaves that of the means alone.
    """
    if len(x) < 2 or len(y) < 2:
        return float("nan")
    within = [_mean_distance(z, z) * len(z) / (len(z) - 1) for z in (x, y)]
    return 2 * _mean_distance(x, y) - sum(within)


def _mean_distance(x: np.ndarray, y: np.ndarray) -> float:
    squared = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1) - 2 * x @ y.T
    if x is y:
        np.fill_diagonal(squared, 0)
    return float(np.sqrt(np.maximum(squared, 0)).mean())


def adjusted_p(scores: np.ndarray) -> np.ndarray:
    """Return two-sided p values of z scores, corrected for their number by Benjamini and Hochberg, shape (n_genes,).

    As scipy's `false_discovery_control`; importing `scipy.stats` would cost more than a job's scores.
    """
    from scipy.special import ndtr

    p = 2 * ndtr(-np.abs(scores))
    order = np.argsort(-p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum.accumulate(p[order] * len(p) / np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1)


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the precision-recall curve, as scikit-learn's `average_precision_score`: equal scores are one step.

    Scores that say nothing give the share of positive labels.

    Args:
        labels: bool, shape (n,), at least one True.
        scores: float, shape (n,).
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(labels[order])[last]
    recall = hits / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0) * hits / (last + 1)))


def log_fold_changes(means: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Return log2 fold changes of mean log-normalized expression, shape (n_genes,), taken back to counts by expm1.

    A negative mean counts as 0; where one of both is 0 the change is infinite, where both are it is 0 (as in pdex).
    """
    of_counts = [
        np.log2(np.expm1(np.maximum(mean, 0)), out=np.full(len(mean), -np.inf), where=mean > 0)
        for mean in (means, control)
    ]
    same = np.isneginf(of_counts[0]) & np.isneginf(of_counts[1])
    return np.subtract(*of_counts, out=np.zeros(len(means)), where=~same)


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's rank correlation of two vectors, infinite values included; NaN where one is constant."""
    return pearson(mid_ranks(x), mid_ranks(y))


def mid_ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks from 1, float64, of the shape (n,) of `values`; equal values share the mean of theirs."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[codes]

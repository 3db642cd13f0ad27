"""Classifiers of cells, trained on one part and tested on another: scikit-learn's, with its own defaults.

The nearest-neighbor classifier searches once for classes and probabilities together; it equals scikit-learn's, whose
`predict` and `predict_proba` search once each. Random forests are in `forest`, which not every task with classifiers uses.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cellgauge.core.optional_imports import without_optional
from cellgauge.metrics.knn.distances import Matrix, slices
from cellgauge.metrics.knn.exact import neighborhoods

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

COLUMN_BYTES = 8 << 20
"""Largest block of columns, or of counts, that is scaled at a time."""
LEAST_COLUMNS = 16
"""Columns that are scaled at a time at least: the float32 of one line of the processor's cache."""
EPSILON = np.finfo(np.float64).eps


class Prediction(NamedTuple):
    """What a classifier says of the test cells."""

    classes: np.ndarray  # the predicted class codes, int64, shape (n_test,)
    probabilities: np.ndarray  # float64, shape (n_test, n_classes); 0 for classes that were not in the training cells
    iterations: int = 0  # of the solver, 0 where there is none
    converged: bool = True  # whether the solver reached its end


def standardize(train: Matrix, test: Matrix) -> None:
    """Scale every column in place to variance 1 on the training cells, as scikit-learn's `StandardScaler`.

    Dense columns are centred too. They are scaled a block of columns at a time: the library would hold a copy of all of
    them in float64.

    Args:
        train, test: float32, dense or CSR (both of one kind), shape (n_cells, n_dims); overwritten.
    """
    with without_optional("pandas"):
        from sklearn.preprocessing import StandardScaler

    if not isinstance(train, np.ndarray):
        scaler = StandardScaler(with_mean=False, copy=False).fit(train)
        train.data, test.data = scaler.transform(train).data, scaler.transform(test).data
        return
    for part in slices(train.shape[1], max(LEAST_COLUMNS, COLUMN_BYTES // (8 * len(train)))):
        scaler = StandardScaler().fit(train[:, part])
        for matrix in (train, test):
            matrix[:, part] = scaler.transform(matrix[:, part])


def standardize_counts(
    counts: csr_matrix, train: np.ndarray, test: np.ndarray, buffer: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of counts, dense and scaled as scikit-learn's `StandardScaler` does, without a second dense copy.

    A cell has few of all genes: every row starts as that of a cell without counts, then its counts are put in.

    Args:
        counts: float32 counts, CSR, shape (n, n_genes).
        train, test: rows of `counts`.
        buffer: float32, C-contiguous, shape (at least len(train) + len(test), n_genes); used again for every fold, as new
            memory costs more than what is computed.

    Returns:
        views of `buffer`, shapes (len(train), n_genes) and (len(test), n_genes).
    """
    n_genes = counts.shape[1]
    step = max(1, COLUMN_BYTES // max(1, 16 * counts.nnz // counts.shape[0]))
    sums, squares = np.zeros(n_genes), np.zeros(n_genes)
    for part in slices(len(train), step):
        chosen = counts[train[part]]
        sums += np.bincount(chosen.indices, chosen.data, minlength=n_genes)
        squares += np.bincount(chosen.indices, chosen.data.astype(np.float64) ** 2, minlength=n_genes)
    mean = sums / len(train)
    variance = np.maximum(squares / len(train) - mean**2, 0)
    scale = np.sqrt(variance)
    scale[variance <= len(train) * EPSILON * variance + (len(train) * mean * EPSILON) ** 2] = 1.0  # constant genes
    mean, scale = mean.astype(np.float32), scale.astype(np.float32)
    rows = np.concatenate([train, test])
    filled = buffer[: len(rows)]
    for part in slices(len(rows), step):
        chosen = counts[rows[part]]
        filled[part] = -mean / scale
        places = np.repeat(np.arange(chosen.shape[0]) * n_genes, np.diff(chosen.indptr)) + chosen.indices
        filled[part].reshape(-1)[places] = (chosen.data - mean[chosen.indices]) / scale[chosen.indices]
    return filled[: len(train)], filled[len(train) :]


def logistic_regression(
    train: Matrix,
    codes: np.ndarray,
    test: Matrix,
    n_classes: int,
    max_iterations: Sequence[int] = (100,),
    device: str | None = None,
) -> list[Prediction]:
    """Predict with scikit-learn's `LogisticRegression()`: L2, C = 1, lbfgs, stopped after each of some numbers of iterations.

    Each fit goes on where the last one was stopped, unless that had converged.

    Args:
        train, test: scaled features, float32, dense or CSR, shape (n_cells, n_dims).
        codes: classes of the training cells, shape (n_train,).
        max_iterations: ascending; by default scikit-learn's limit.
        device: where scikit-learn computes loss and gradient, as PyTorch names it; None, and for CSR, is numpy.

    Raises:
        ValueError: the training cells are all of one class.
    """
    with without_optional("pandas"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

    if device is None or not isinstance(train, np.ndarray):
        on_device = nullcontext(lambda array: array)
    else:
        from cellgauge.metrics.knn.on_device import scikit_learn_on

        on_device = scikit_learn_on(device)
    model, predictions, iterations = LogisticRegression(warm_start=True), [], 0
    with on_device as put:
        train, codes, test = put(train), put(codes), put(test)
        for limit in max_iterations:
            if predictions and predictions[-1].converged:
                predictions.append(predictions[-1])
                continue
            model.max_iter = limit - iterations
            with warnings.catch_warnings(record=True) as raised:
                warnings.simplefilter("always", ConvergenceWarning)
                model.fit(train, codes)
            results = model.predict(test), model.predict_proba(test), model.classes_, model.n_iter_
            predicted, probabilities, classes, steps = (
                array if isinstance(array, np.ndarray) else array.cpu().numpy() for array in results
            )
            iterations += int(np.max(steps))
            converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in raised)
            probabilities = spread(probabilities, classes, n_classes)
            predictions.append(Prediction(predicted, probabilities, iterations, converged))
    return predictions


def k_nearest_neighbors(
    train: Matrix, codes: np.ndarray, test: Matrix, n_classes: int, n_neighbors: int = 5, device: str | None = None
) -> Prediction:
    """Predict by the vote of the nearest training cells; of classes with equal votes the first one.

    Args:
        train, test: scaled features, as for `logistic_regression`.
        device: where neighbors are looked for, see `neighbors.nearest_neighbors`; they are the same ones.

    Raises:
        ValueError: there are fewer training cells than neighbors.
    """
    indices = neighborhoods(train, n_neighbors, test, centred=isinstance(train, np.ndarray), device=device)
    votes = codes[indices] + n_classes * np.arange(len(indices))[:, None]
    probabilities = np.bincount(votes.ravel(), minlength=len(indices) * n_classes) / n_neighbors
    probabilities = probabilities.reshape(len(indices), n_classes)
    return Prediction(probabilities.argmax(axis=1), probabilities)


def spread(probabilities: np.ndarray, classes: np.ndarray, n_classes: int) -> np.ndarray:
    """Return probabilities of all `n_classes`, 0 for those that are not among the columns `classes`."""
    spread = np.zeros((len(probabilities), n_classes))
    spread[:, classes] = probabilities
    return spread

"""Classifiers of cells, trained on one part and asked about another: scikit-learn's, with its own defaults.

The nearest-neighbour classifier searches once for classes and probabilities together; it equals scikit-learn's, whose
`predict` and `predict_proba` search once each. The random forest is grown by `forest`, bit by bit as scikit-learn's.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from cellgauge.metrics.distances import slices
from cellgauge.metrics.forest import forest_probabilities
from cellgauge.metrics.lean import without_optional
from cellgauge.metrics.neighbours import nearest_neighbours

if TYPE_CHECKING:
    from cellgauge.metrics.distances import Matrix
    from cellgauge.metrics.forest import RankedFeatures

COLUMN_BYTES = 64 << 20
"""Largest block of columns that is scaled at a time."""


class Prediction(NamedTuple):
    """What a classifier says of the test cells.

    Attributes:
        classes: the predicted class codes, int64, shape (n_test,).
        probabilities: float64, shape (n_test, n_classes); 0 for classes that were not in the training cells.
        iterations: of the solver, 0 where there is none.
    """

    classes: np.ndarray
    probabilities: np.ndarray
    iterations: int = 0


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
    for part in slices(train.shape[1], max(1, COLUMN_BYTES // (8 * len(train)))):
        scaler = StandardScaler().fit(train[:, part])
        for matrix in (train, test):
            matrix[:, part] = scaler.transform(matrix[:, part])


def logistic_regression(train: Matrix, codes: np.ndarray, test: Matrix, n_classes: int) -> Prediction:
    """Predict with scikit-learn's `LogisticRegression()`: L2, C = 1, lbfgs, at most 100 iterations, converged or not.

    Args:
        train, test: scaled features, float32, dense or CSR, shape (n_cells, n_dims).
        codes: classes of the training cells, shape (n_train,).

    Raises:
        ValueError: the training cells are all of one class.
    """
    with without_optional("pandas"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression().fit(train, codes)
    probabilities = _spread(fitted.predict_proba(test), fitted.classes_, n_classes)
    return Prediction(fitted.predict(test), probabilities, int(np.max(fitted.n_iter_)))


def k_nearest_neighbours(
    train: Matrix, codes: np.ndarray, test: Matrix, n_classes: int, n_neighbors: int = 5
) -> Prediction:
    """Predict by the vote of the nearest training cells; of classes with equal votes the first one.

    Raises:
        ValueError: there are fewer training cells than neighbours.
    """
    indices, _ = nearest_neighbours(train, n_neighbors, test)
    votes = codes[indices] + n_classes * np.arange(len(indices))[:, None]
    probabilities = np.bincount(votes.ravel(), minlength=len(indices) * n_classes) / n_neighbors
    probabilities = probabilities.reshape(len(indices), n_classes)
    return Prediction(probabilities.argmax(axis=1), probabilities)


class ForestFeatures(Protocol):
    """Features that a forest is grown on, without scaling."""

    ranked: RankedFeatures | None
    """The order of the cells along every feature; None where scikit-learn's forest is to be taken."""

    def take(self, rows: np.ndarray) -> Matrix:
        """Return the features of some cells, float32, dense or CSR."""


def random_forest(
    features: ForestFeatures,
    train: np.ndarray,
    codes: np.ndarray,
    test: np.ndarray,
    n_classes: int,
    n_trees: int = 100,
    seed: int = 42,
) -> Prediction:
    """Predict with scikit-learn's `RandomForestClassifier(n_trees, random_state=seed)`, or with ours that equals it.

    Args:
        train, test: rows of `features`.
    """
    if features.ranked is not None:
        threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        probabilities = forest_probabilities(features.ranked, train, codes, test, n_classes, n_trees, seed, threads)
        return Prediction(probabilities.argmax(axis=1), probabilities)
    with without_optional("pandas"):
        from sklearn.ensemble import RandomForestClassifier

    fitted = RandomForestClassifier(n_estimators=n_trees, random_state=seed).fit(features.take(train), codes)
    probabilities = fitted.predict_proba(features.take(test))
    return Prediction(fitted.classes_[probabilities.argmax(axis=1)], _spread(probabilities, fitted.classes_, n_classes))


def _spread(probabilities: np.ndarray, classes: np.ndarray, n_classes: int) -> np.ndarray:
    spread = np.zeros((len(probabilities), n_classes))
    spread[:, classes] = probabilities
    return spread

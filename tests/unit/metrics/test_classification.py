"""Classifiers and folds: scikit-learn's."""

import warnings

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from cellgauge.metrics import classifiers
from cellgauge.metrics.classifiers import (
    k_nearest_neighbors,
    logistic_regression,
    standardize,
    standardize_counts,
)
from cellgauge.metrics.folds import held_out_folds, random_folds
from cellgauge.metrics.forest import random_forest


def fold(dims=20, n_classes=4, seed=0, empty=False):
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, n_classes, 400)
    matrix = generator.normal(0, 1.5, (n_classes, dims))[codes] + generator.normal(2, 1.5, (400, dims))
    matrix = matrix.astype(np.float32)
    if empty:
        matrix[:, 3] = 0
    return matrix[:300].copy(), codes[:300], matrix[300:].copy(), codes[300:]


def test_standardize_is_the_standard_scaler_to_the_last_bit(monkeypatch):
    monkeypatch.setattr(classifiers, "COLUMN_BYTES", 300 * 8 * 7)  # seven columns at a time
    train, _, test, _ = fold(empty=True)
    scaler = StandardScaler().fit(train)
    expected = scaler.transform(train), scaler.transform(test)
    standardize(train, test)
    assert (train == expected[0]).all()
    assert (test == expected[1]).all()
    assert train.dtype == np.float32


def test_standardize_sparse_is_the_standard_scaler_without_centring():
    train, _, test, _ = (np.maximum(part - 3, 0) if part.ndim == 2 else part for part in fold(empty=True))
    scaler = StandardScaler(with_mean=False).fit(csr_matrix(train))
    expected = scaler.transform(csr_matrix(train)), scaler.transform(csr_matrix(test))
    ours = csr_matrix(train), csr_matrix(test)
    standardize(*ours)
    for found, wanted in zip(ours, expected, strict=True):
        assert (found != wanted).nnz == 0


def test_standardize_counts_is_the_standard_scaler_on_dense_counts(monkeypatch):
    """To the last digit of float32: sums are added up in another order."""
    monkeypatch.setattr(classifiers, "COLUMN_BYTES", 5000)  # some rows at a time
    generator = np.random.default_rng(0)
    counts = generator.poisson(np.exp(generator.normal(-1, 2, 300)), (200, 300)).astype(np.float32)
    counts[:, 7], counts[:, 8] = 0, 3  # constant genes are centred alone
    counts[150:, 7] = 1
    train, test = generator.permutation(150), np.arange(150, 190)
    scaler = StandardScaler().fit(counts[train])
    found = standardize_counts(csr_matrix(counts), train, test, np.full((200, 300), np.nan, dtype=np.float32))
    for ours, rows in zip(found, (train, test), strict=True):
        np.testing.assert_allclose(ours, scaler.transform(counts[rows]), rtol=2e-7, atol=1e-7)
        assert ours.dtype == np.float32


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("sparse", [False, True])
def test_logistic_regression_is_scikit_learns(n_classes, sparse):
    train, codes, test, _ = fold(n_classes=n_classes)
    if sparse:
        train, test = csr_matrix(train), csr_matrix(test)
    expected = LogisticRegression().fit(train, codes)
    (found,) = logistic_regression(train, codes, test, n_classes)
    assert (found.classes == expected.predict(test)).all()
    assert (found.probabilities == expected.predict_proba(test)).all()
    assert found.iterations == expected.n_iter_.max()


def test_logistic_regression_that_does_not_converge_says_so_by_its_iterations():
    train, codes, test, _ = fold()
    train *= np.logspace(0, 3, train.shape[1], dtype=np.float32)  # columns of unlike scales
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second, third = logistic_regression(train, codes, test, 4, (100, 120, 20_000))
    assert (first.iterations, first.converged) == (100, False)
    assert (second.iterations, second.converged) == (120, False)
    assert 120 < third.iterations < 20_000 and third.converged


def test_logistic_regression_goes_on_to_the_solution_that_one_fit_reaches():
    train, codes, test, _ = fold()
    whole = LogisticRegression(max_iter=10_000, tol=1e-6).fit(train, codes)
    stopped, ended = logistic_regression(train, codes, test, 4, (3, 1000))
    expected = whole.predict_proba(test)
    # scikit-learn's tolerance of 1e-4 leaves some hundredths
    assert np.abs(ended.probabilities - expected).max() < 0.05 < np.abs(stopped.probabilities - expected).max()
    assert (
        logistic_regression(train, codes, test, 4, (100, 1000))[0].probabilities
        == (LogisticRegression().fit(train, codes).predict_proba(test))
    ).all()


def test_a_converged_regression_is_not_fitted_again():
    train, codes, test, _ = fold()
    first, second = logistic_regression(train, codes, test, 4, (100, 1000))
    assert first.converged and second is first


def test_logistic_regression_of_one_class_fails_with_a_reason():
    train, codes, test, _ = fold()
    with pytest.raises(ValueError, match="classes"):
        logistic_regression(train, np.zeros_like(codes), test, 4)


@pytest.mark.parametrize("dims", [1, 5, 20, 200])  # scikit-learn takes a k-d tree up to 15 dimensions
@pytest.mark.parametrize("n_classes", [2, 4])
def test_nearest_neighbors_are_scikit_learns(dims, n_classes):
    train, codes, test, _ = fold(dims, n_classes)
    expected = KNeighborsClassifier().fit(train, codes)
    found = k_nearest_neighbors(train, codes, test, n_classes)
    assert (found.classes == expected.predict(test)).all()
    np.testing.assert_allclose(found.probabilities, expected.predict_proba(test), atol=1e-15)


def test_nearest_neighbors_vote_for_the_first_of_equals():
    train = np.asarray([[0.0], [1.0], [2.0], [3.0]], dtype=np.float32)
    found = k_nearest_neighbors(train, np.asarray([2, 1, 1, 2]), np.asarray([[1.4]], dtype=np.float32), 3, 4)
    assert found.classes.tolist() == [1]
    assert found.probabilities.tolist() == [[0, 0.5, 0.5]]


def test_more_neighbors_than_training_cells_are_refused():
    train, codes, test, _ = fold()
    with pytest.raises(ValueError, match="5 nearest neighbors asked for among 4 rows"):
        k_nearest_neighbors(train[:4], codes[:4], test, 4)


def forest(train, codes, test, n_classes, n_trees=100):
    """`random_forest` where no features are ranked: scikit-learn's own."""

    class Features:
        ranked = None

        def take(self, rows):
            return train[rows] if len(rows) == len(codes) else test[rows - len(codes)]

    rows = np.arange(len(codes) + test.shape[0])
    return random_forest(Features(), rows[: len(codes)], codes, rows[len(codes) :], n_classes, n_trees)


@pytest.mark.parametrize("sparse", [False, True])
def test_random_forest_is_scikit_learns(sparse):
    train, codes, test, _ = fold(dims=8)
    if sparse:
        train, test = csr_matrix(np.maximum(train, 0)), csr_matrix(np.maximum(test, 0))
    expected = RandomForestClassifier(n_estimators=20, random_state=42).fit(train, codes)
    found = forest(train, codes, test, 4, n_trees=20)
    assert (found.classes == expected.predict(test)).all()
    assert (found.probabilities == expected.predict_proba(test)).all()


@pytest.mark.parametrize("classify", [logistic_regression, k_nearest_neighbors, forest])
def test_a_class_missing_in_training_has_probability_zero(classify):
    train, codes, test, _ = fold()
    kept = codes != 1
    found = classify(train[kept], codes[kept], test, 4)
    found = found[0] if isinstance(found, list) else found
    assert found.probabilities.shape == (100, 4)
    assert (found.probabilities[:, 1] == 0).all()
    assert 1 not in found.classes
    assert set(found.classes.tolist()) == {0, 2, 3}


# --- folds -----------------------------------------------------------------------------------------------------------


def test_random_folds_are_stratified_and_whole():
    codes = np.repeat([0, 1, 2], [50, 25, 10])
    folds = random_folds(codes, 5, 42)
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(85))
    for train, test in folds:
        assert np.bincount(codes[test]).tolist() == [10, 5, 2]
        assert not set(train.tolist()) & set(test.tolist())
    assert all((a[1] == b[1]).all() for a, b in zip(folds, random_folds(codes, 5, 42), strict=True))
    assert any((a[1] != b[1]).any() for a, b in zip(folds, random_folds(codes, 5, 43), strict=True))


@pytest.mark.parametrize("n_donors, n_folds", [(2, 2), (4, 4), (9, 5)])
def test_held_out_folds_never_split_a_donor(n_donors, n_folds):
    generator = np.random.default_rng(0)
    codes, donors = generator.integers(0, 3, 200), generator.integers(0, n_donors, 200).astype(str)
    folds = held_out_folds(codes, donors, 5, 42)
    assert len(folds) == n_folds
    for train, test in folds:
        assert not set(donors[train]) & set(donors[test])
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(200))

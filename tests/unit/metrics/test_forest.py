"""Our forests vote as scikit-learn's, bit by bit: whatever it does differently in another release shows here."""

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.ensemble import RandomForestClassifier

from cellgauge.metrics import forest
from cellgauge.metrics.forest import RankedFeatures, forest_probabilities, random_forest

SCRIPTS = Path(__file__).resolve().parents[3] / "workflow" / "scripts"

pytestmark = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="the last bit may differ: see forest.available"
)


def embedding(n_cells, n_dims, n_classes, seed=0):
    generator = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(n_classes), generator.integers(0, n_classes, n_cells - n_classes)])
    centres = generator.normal(size=(n_classes, n_dims))
    return (centres[codes] + 1.5 * generator.normal(size=(n_cells, n_dims))).astype(np.float32), codes


def counts(n_cells, n_genes, n_classes, seed=0):
    """Counts with more than a hundred different values in some genes and nothing at all in others."""
    generator = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(n_classes), generator.integers(0, n_classes, n_cells - n_classes)])
    rates = np.exp(generator.normal(-2.5, 2.0, n_genes) + generator.normal(0, 1, (n_classes, n_genes)))
    return csr_matrix(generator.poisson(np.minimum(rates, 150))[codes].astype(np.float32)), codes


def split(n_cells, seed=1):
    """Return training and test rows, neither sorted."""
    rows = np.random.default_rng(seed).permutation(n_cells)
    return rows[n_cells // 5 :], rows[: n_cells // 5]


def probabilities(matrix, codes, n_classes, n_trees, train, test, n_threads=1):
    features = RankedFeatures(matrix, np.arange(matrix.shape[0]))
    return forest_probabilities(features, train, codes[train], test, n_classes, n_trees, 42, n_threads)


def expected(matrix, codes, n_classes, n_trees, train, test):
    fitted = RandomForestClassifier(n_trees, random_state=42).fit(matrix[train], codes[train])
    spread = np.zeros((len(test), n_classes))
    spread[:, fitted.classes_] = fitted.predict_proba(matrix[test])
    return spread


SHAPES = {
    "as it is": lambda matrix: matrix,
    "integers": np.round,
    "half zeros": lambda matrix: np.maximum(matrix, 0),
    "nearly tied": lambda matrix: np.round(matrix) + matrix * np.float32(1e-7),
    "constant columns": lambda matrix: np.where(np.arange(matrix.shape[1]) % 3 == 0, np.float32(1.5), matrix),
    "constant": np.zeros_like,
    "one column": lambda matrix: matrix[:, :1],
    "same cells again": lambda matrix: matrix[np.arange(len(matrix)) % 50],
    "huge": lambda matrix: matrix * np.float32(1e30),
    "tiny": lambda matrix: matrix * np.float32(1e-8),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_classes", [2, 7, 30])
def test_probabilities_are_scikit_learns(n_classes, shape):
    matrix, codes = embedding(700, 40, n_classes)
    matrix = np.ascontiguousarray(SHAPES[shape](matrix))
    case = (matrix, codes, n_classes, 10, *split(len(codes)))
    assert (probabilities(*case) == expected(*case)).all()


def test_nodes_of_every_size():
    """Thousands of cells in many dimensions: sorting by insertion and by digits."""
    matrix, codes = embedding(4000, 200, 20)
    case = (matrix, codes, 20, 5, *split(len(codes)))
    assert (probabilities(*case) == expected(*case)).all()


def test_more_than_65536_training_cells():
    matrix, codes = embedding(90_000, 8, 5)
    matrix[:, 0] = np.round(matrix[:, 0] * 10)
    case = (matrix, codes, 5, 2, *split(len(codes)))
    assert RankedFeatures(matrix, np.arange(len(codes))).ranks.dtype == np.uint32
    assert (probabilities(*case) == expected(*case)).all()


@pytest.mark.parametrize("n_cells, n_genes, n_trees", [(1000, 40, 10), (1024, 40, 10), (4096, 40, 5), (65_536, 3, 1)])
def test_genes_that_every_cell_has(n_cells, n_genes, n_trees):
    """Their ranks run up to the number of cells, which at a power of 4 takes one bit more than the ranks below it."""
    matrix, codes = embedding(n_cells, n_genes, 5)
    case = (csr_matrix(matrix - matrix.min() + 1), codes, 5, n_trees, *split(n_cells))
    assert (probabilities(*case) == expected(*case)).all()


@pytest.mark.parametrize("dense", [False, True])
def test_counts(dense):
    matrix, codes = counts(600, 2000, 9)
    train, test = split(600)
    found = probabilities(matrix, codes, 9, 10, train, test)
    assert (found == expected(matrix.toarray() if dense else matrix, codes, 9, 10, train, test)).all()


def test_a_class_that_is_missing_in_training_has_probability_zero():
    matrix, codes = embedding(500, 20, 6)
    train, test = split(len(codes))
    train = train[codes[train] != 2]
    found = probabilities(matrix, codes, 6, 10, train, test)
    assert (found == expected(matrix, codes, 6, 10, train, test)).all()
    assert (found[:, 2] == 0).all()


def test_threads_change_nothing():
    matrix, codes = embedding(600, 30, 5)
    case = (matrix, codes, 5, 8, *split(len(codes)))
    assert (probabilities(*case, n_threads=3) == probabilities(*case)).all()


def test_some_rows_of_a_matrix():
    matrix, codes = embedding(500, 20, 4)
    rows = np.arange(7, 480, 3)
    train, test = split(len(rows))
    features = RankedFeatures(matrix, rows)
    found = forest_probabilities(features, train, codes[rows][train], test, 4, 10)
    assert (found == expected(matrix[rows], codes[rows], 4, 10, train, test)).all()


@pytest.mark.parametrize("n_threads", [1, 3])
def test_classes_are_those_of_scikit_learn(n_threads):
    matrix, codes = embedding(500, 20, 4)
    train, test = split(len(codes))

    class Features:
        ranked = RankedFeatures(matrix, np.arange(500))

    found = random_forest(Features(), train, codes[train], test, 4, 10, n_threads=n_threads)
    fitted = RandomForestClassifier(10, random_state=42).fit(matrix[train], codes[train])
    assert (found.classes == fitted.predict(matrix[test])).all()


@pytest.mark.parametrize(
    "size, answer", [((10_000, 512, 100, 25), True), ((60, 512, 100, 3), False), ((10_000, 512, 100, 257), False)]
)
def test_small_forests_are_left_to_scikit_learn(size, answer):
    assert forest.worthwhile(*size) is answer


def test_another_release_of_scikit_learn_is_taken_as_it_is(monkeypatch):
    monkeypatch.setattr(forest, "EQUAL_TO", ("0.1",))
    forest.available.cache_clear()
    try:
        assert not forest.worthwhile(10_000, 512, 100, 25)
    finally:
        monkeypatch.undo()
        forest.available.cache_clear()


def test_scorers_do_not_import_numba_before_a_forest_is_grown():
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import cellgauge.tasks.label_prediction.scores;"
        "print('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"

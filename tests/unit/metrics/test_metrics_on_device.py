"""What PyTorch computes is what numpy computes. Without a GPU this runs on PyTorch's CPU device, the same path but for the
device's name; CUDA itself is run only where there is a GPU, and reported as skipped elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import random as random_sparse

from cellgauge.metrics import silhouette
from cellgauge.metrics.classifiers import k_nearest_neighbors, logistic_regression
from cellgauge.metrics.knn import distances
from cellgauge.metrics.knn.exact import nearest_neighbors, neighborhoods
from cellgauge.metrics.silhouette import silhouette_widths
from cellgauge.tasks.cells import CellsToScore
from cellgauge.tasks.clustering import scores as clustering
from cellgauge.tasks.cross_species import scores as cross_species
from cellgauge.tasks.label_prediction import scores as label_prediction

BOTH = ("reference", "corrected")
without_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: CUDA was not run")
pytestmark = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=without_gpu)])


def cells(n=900, dims=30, seed=0, offset=0.0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(0, 2, (6, dims))
    codes = generator.integers(0, 6, n)
    return (offset + centres[codes] + generator.normal(size=(n, dims))).astype(np.float32), codes


def to_score(device=None):
    matrix, codes = cells()
    obs = {
        "label": np.asarray([f"type {code}" for code in codes], dtype=object),
        "organism": np.asarray([f"species {i % 2 + (i % 5 == 0)}" for i in range(len(codes))], dtype=object),
        "donor": np.asarray([f"donor {i % 4}" for i in range(len(codes))], dtype=object),
    }
    return CellsToScore(matrix, obs, device=device)


@pytest.fixture
def small_blocks(monkeypatch):
    """Make blocks so small that some hundred cells take several of either kind."""
    monkeypatch.setattr(distances, "MOST_REFERENCES", 197)
    monkeypatch.setattr(distances, "DEVICE_BYTES", 80_000)


@pytest.mark.parametrize("offset", [0, 1000])  # far from 0, float32 products are of little use: proofs fail
@pytest.mark.parametrize("k", [1, 15, 200])
def test_neighbors_are_the_same(device, small_blocks, k, offset):
    matrix, _ = cells(offset=offset)
    for queries in (None, matrix[:100] + 1):
        expected, found = nearest_neighbors(matrix, k, queries), nearest_neighbors(matrix, k, queries, device=device)
        assert (found[0] == expected[0]).all()
        assert (found[1] == expected[1]).all()
        sets = neighborhoods(matrix, k, queries), neighborhoods(matrix, k, queries, device=device)
        assert (np.sort(sets[1], axis=1) == np.sort(sets[0], axis=1)).all()


def test_neighbors_among_counts_and_duplicates(device, small_blocks):
    counts = random_sparse(400, 300, density=0.1, format="csr", dtype=np.float32, random_state=0)
    assert (nearest_neighbors(counts, 5, device=device)[0] == nearest_neighbors(counts, 5)[0]).all()
    matrix = np.repeat(cells(n=15)[0], 40, axis=0)
    indices, found = nearest_neighbors(matrix, 10, device=device)
    assert (indices[:, 0] == np.arange(len(matrix))).all()
    assert (found == 0).all()


@pytest.mark.parametrize(
    "move", [lambda matrix: matrix, lambda matrix: 1e12 * matrix, lambda matrix: np.repeat(matrix[:90], 10, axis=0)]
)
@pytest.mark.parametrize("few", [0.0, 1.0])  # near pairs by blocks in float64, or one by one
@pytest.mark.parametrize("sums", [1000, 1 << 20])  # every distance computed twice, or once for both cells
def test_silhouettes_are_the_same(device, monkeypatch, move, few, sums):
    matrix, codes = cells()
    matrix, codes = move(matrix).astype(np.float32), np.sort(codes)
    matrix[::50] = matrix[1::50] + 1e-3 * np.abs(matrix).max()
    for name, value in (("DEVICE_EDGE", 200), ("FEW", few), ("SUMS_BYTES", sums)):
        monkeypatch.setattr(silhouette, name, value)
    monkeypatch.setattr(distances, "TILE_EDGE", 128)
    found = silhouette_widths(matrix, codes, device)
    np.testing.assert_allclose(found, silhouette_widths(matrix, codes), rtol=0, atol=1e-6)
    assert found.std() > 0.01


def test_the_device_is_asked(device, monkeypatch):
    asked, topk = [], torch.topk
    monkeypatch.setattr(
        torch, "topk", lambda found, *args, **how: asked.append(found.device.type) or topk(found, *args, **how)
    )
    nearest_neighbors(cells()[0], 5, device=device)
    assert set(asked) == {device}


@pytest.mark.parametrize("n_classes", [2, 6])
def test_logistic_regression_is_that_of_scikit_learn_on_the_processor(device, n_classes):
    matrix, codes = cells()
    train, test, codes = matrix[:700], matrix[700:], codes[:700] % n_classes
    (expected,) = logistic_regression(train, codes, test, n_classes + 1)
    (found,) = logistic_regression(train, codes, test, n_classes + 1, device=device)
    assert found.iterations == expected.iterations
    assert (found.classes == expected.classes).all() and found.classes.dtype == np.int64
    # both in float32: where rounding differs the solver takes slightly different steps, and stops at a tolerance of 1e-4
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=0, atol=1e-4)
    assert (found.probabilities[:, n_classes] == 0).all()
    train, test = train.astype(np.float64), test.astype(np.float64)
    expected, found = (
        logistic_regression(train, codes, test, n_classes, (5, 1000), place)[-1] for place in (None, device)
    )
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=0, atol=1e-10)


def test_logistic_regression_names_the_same_fault(device):
    matrix, codes = cells(50)
    with pytest.raises(ValueError, match="at least 2 classes"):
        logistic_regression(matrix, np.zeros_like(codes), matrix, 2, device=device)


def test_sparse_counts_stay_on_the_processor(device):
    counts = random_sparse(200, 60, density=0.3, format="csr", dtype=np.float32, random_state=0)
    codes = np.arange(200) % 3
    expected, found = (logistic_regression(counts, codes, counts, 3, device=place)[0] for place in (None, device))
    assert (found.probabilities == expected.probabilities).all()


def test_nearest_neighbor_classifiers_are_the_same(device):
    matrix, codes = cells()
    expected, found = (
        k_nearest_neighbors(matrix[:700], codes[:700], matrix[700:], 6, 5, place) for place in (None, device)
    )
    assert (found.probabilities == expected.probabilities).all()


@pytest.mark.parametrize(
    ("task", "params"),
    [
        (clustering, {"n_seeds": 2}),
        (cross_species, {"n_neighbors": 30}),
        (label_prediction, {"classifiers": ["logistic_regression", "knn"]}),
    ],
)
def test_tasks_yield_the_same_scores(device, task, params):
    expected, found = (list(task.score(to_score(place), profiles=BOTH, seed=42, **params)) for place in (None, device))
    for one, other in zip(found, expected, strict=True):
        assert replace(one, value=other.value) == other
        assert one.value == pytest.approx(other.value, abs=1e-5), one

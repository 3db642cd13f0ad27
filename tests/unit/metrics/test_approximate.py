"""Approximate neighbors: true distances, each cell before its neighbors, and a recall that is the true one."""

import numpy as np
import pytest

from cellgauge.metrics.knn import approximate
from cellgauge.metrics.knn.approximate import approximate_neighbors
from cellgauge.metrics.knn.exact import nearest_neighbors

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("test_clustering")]  # both compile pynndescent: 40 s of CPU


def points(n=900, dims=24, seed=0):
    generator = np.random.default_rng(seed)
    latent = generator.normal(0, 3, (12, 5))[generator.integers(0, 12, n)] + generator.normal(size=(n, 5))
    return (latent @ generator.normal(size=(5, dims)) + 0.1 * generator.normal(size=(n, dims))).astype(np.float32)


@pytest.fixture(scope="module")
def searched():
    matrix = points()
    return matrix, *approximate_neighbors(matrix, 15, seed=1)


def test_neighbors_have_true_distances_in_ascending_order(searched):
    matrix, indices, distances, _ = searched
    assert (indices.dtype, distances.dtype) == (np.int32, np.float32) and indices.shape == distances.shape == (900, 15)
    true = np.linalg.norm(matrix[:, None].astype(np.float64) - matrix[indices], axis=2)
    np.testing.assert_allclose(distances, true, atol=2e-4)
    assert (np.diff(distances, axis=1) >= 0).all() and (indices[:, 0] == np.arange(900)).all()
    assert all(len(set(row)) == 15 for row in indices.tolist())


def test_the_recall_is_that_of_the_cells(searched):
    """Of fewer than RECALL_CELLS cells it is the share itself."""
    matrix, indices, _, recall = searched
    exact, _ = nearest_neighbors(matrix, 15)
    shares = [len({*a[1:]} & {*b[1:]}) / 14 for a, b in zip(exact.tolist(), indices.tolist(), strict=True)]
    assert recall == pytest.approx(np.mean(shares)) and recall > 0.95


def test_the_seed_decides(searched):
    matrix, indices, _, _ = searched
    assert (approximate_neighbors(matrix, 15, seed=1)[0] == indices).all()


def test_duplicates_come_after_the_cell_itself():
    matrix = np.repeat(points(60), 10, axis=0)
    indices, distances, _ = approximate_neighbors(matrix, 8, seed=0)
    assert (indices[:, 0] == np.arange(600)).all() and (distances[:, 0] == 0).all()
    assert all(len(set(row)) == 8 for row in indices.tolist())


def test_a_search_of_twice_as_many_is_right_more_often(monkeypatch):
    """Noise without structure is where NN-descent misses most."""
    matrix = np.random.default_rng(0).normal(size=(3000, 40)).astype(np.float32)
    wide = approximate_neighbors(matrix, 10, seed=0)[2]
    monkeypatch.setattr(approximate, "WIDTH", 1)
    narrow = approximate_neighbors(matrix, 10, seed=0)[2]
    assert narrow < 0.9 < wide, (narrow, wide)

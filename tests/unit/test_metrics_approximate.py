"""Approximate neighbours: true distances, each cell its own first neighbour, and a recall that is the one there is."""

import numpy as np
import pytest

from cellgauge.metrics import approximate
from cellgauge.metrics.approximate import approximate_neighbourhoods, approximate_neighbours, recall
from cellgauge.metrics.neighbours import nearest_neighbours


def cells(n=6000, dims=20, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(0, 2, (12, dims))
    return (centres[generator.integers(0, 12, n)] + generator.normal(size=(n, dims))).astype(np.float32)


@pytest.fixture
def small_lists(monkeypatch):
    monkeypatch.setattr(approximate, "CELLS_PER_LIST", 100)
    monkeypatch.setattr(approximate, "SAMPLE", 300)


@pytest.mark.parametrize("k", [1, 15, 200])
def test_recall_and_distances_are_those_of_the_exact_search(small_lists, k):
    matrix = cells()
    found = approximate_neighbours(matrix, k, 42)
    true, distances = nearest_neighbours(matrix, k)
    assert (found.indices[:, 0] == np.arange(len(matrix))).all()
    assert all(len(np.unique(row)) == k for row in found.indices[::50])
    assert (found.distances >= distances).all()
    same = found.indices == true
    assert (found.distances[same] == distances[same]).all()
    everywhere = recall(matrix, found.indices, np.arange(len(matrix)))
    if k > 1:
        shared = [len(np.intersect1d(a, b)) - 1 for a, b in zip(found.indices, true, strict=True)]
        assert everywhere == pytest.approx(np.mean(shared) / (k - 1), abs=1e-12)
        assert 0.97 < everywhere < 1  # or nothing was left out, and there is nothing to test
    assert found.recall == pytest.approx(everywhere, abs=0.01)
    indices, without_order = approximate_neighbourhoods(matrix, k, 42)
    assert (np.sort(indices, axis=1) == np.sort(found.indices, axis=1)).all()
    assert without_order == found.recall


def test_fewer_lists_find_less(small_lists, monkeypatch):
    matrix, all_recalls = cells(), []
    for wanted in (0.7, 0.9, 0.99):
        monkeypatch.setattr(approximate, "RECALL", wanted)
        all_recalls.append(approximate_neighbours(matrix, 15, 42).recall)
        assert all_recalls[-1] > wanted - 0.03
    assert all_recalls[0] < all_recalls[1] < all_recalls[2]


def test_the_same_for_the_same_seed_and_most_is_found_with_another(small_lists, monkeypatch):
    monkeypatch.setattr(approximate, "RECALL", 0.9)
    matrix = cells(2000)
    first, again, other = (approximate_neighbours(matrix, 15, seed) for seed in (1, 1, 2))
    assert (first.indices == again.indices).all()
    assert first.recall == again.recall
    assert (first.indices != other.indices).any()
    assert other.recall > 0.87


def test_itself_comes_before_its_duplicates(small_lists):
    matrix = np.repeat(cells(20), 60, axis=0)
    found = approximate_neighbours(matrix, 15, 42)
    assert (found.indices[:, 0] == np.arange(len(matrix))).all()
    assert (found.distances == 0).all()
    assert found.recall == 1


@pytest.mark.parametrize("scale", [1e-12, 1e15])
def test_of_any_scale(small_lists, scale):
    matrix = cells(2000)
    found = approximate_neighbours(matrix * np.float32(scale), 15, 42)
    assert found.recall > 0.97


@pytest.mark.parametrize("n", [1, 2, 5])
def test_of_few_cells_all_are_found(n):
    matrix = cells(n)
    found = approximate_neighbours(matrix, n, 42)
    assert (np.sort(found.indices, axis=1) == np.arange(n)).all()
    assert found.recall == 1


def test_lists_that_hold_fewer_cells_than_asked_for(small_lists):
    matrix = np.concatenate([cells(1900), 50 + np.arange(20, dtype=np.float32)[:, None] * np.ones(20, np.float32)])
    found = approximate_neighbours(matrix, 200, 42)
    assert (found.distances[:, -1] > 0).all()
    assert found.recall > 0.97


def test_more_neighbours_than_cells():
    with pytest.raises(ValueError, match="6 nearest neighbours asked for among 5 rows"):
        approximate_neighbours(cells(5), 6, 42)

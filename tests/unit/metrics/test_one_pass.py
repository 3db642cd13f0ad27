"""One pass over the distances gives what two give."""

import numpy as np
import pytest

from cellgauge.metrics import silhouette
from cellgauge.metrics.knn import distances
from cellgauge.metrics.knn.exact import nearest_neighbors
from cellgauge.metrics.silhouette import neighbors_and_widths, silhouette_widths, sums_fit


def cells(n=700, dims=25, offset=0.0, scale=1.0):
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 7, n)
    matrix = generator.normal(0, 2, (7, dims))[codes] + generator.normal(size=(n, dims))
    return (offset + scale * matrix).astype(np.float32), np.asarray([f"type {code}" for code in codes])


@pytest.mark.parametrize("edge", [64, 1024])
@pytest.mark.parametrize("k", [1, 15, 200, 700])
@pytest.mark.parametrize("offset, scale", [(0, 1), (1e4, 1e-2), (0, 1e30)])  # the last two mend, and search in float64
def test_both_are_those_of_their_own_passes(monkeypatch, edge, k, offset, scale):
    monkeypatch.setattr(distances, "TILE_EDGE", edge)
    matrix, labels = cells(offset=offset, scale=scale)
    indices, found, widths = neighbors_and_widths(matrix, k, labels)
    by_label = np.argsort(labels, kind="stable")  # in this order the choice among ties is the same too
    expected = nearest_neighbors(matrix, k, order=by_label)
    assert (indices == expected[0]).all()
    assert (found == expected[1]).all()
    assert (widths == silhouette_widths(matrix, labels)).all()


def test_cells_at_one_point_are_their_own_first_neighbors():
    matrix, labels = cells(n=90)
    matrix[:40] = matrix[0]
    indices, found, widths = neighbors_and_widths(matrix, 15, labels)
    assert (indices[:, 0] == np.arange(90)).all()
    assert (found[:40] == 0).all()
    assert (widths == silhouette_widths(matrix, labels)).all()


def test_every_product_is_made_once(monkeypatch):
    made = []
    products = distances.inner_products
    monkeypatch.setattr(distances, "inner_products", lambda *args: made.append(1) or products(*args))
    monkeypatch.setattr(distances, "TILE_EDGE", 100)
    neighbors_and_widths(*cells()[:1], 15, cells()[1])
    assert len(made) == 7 * 8 // 2


def test_every_cells_sums_are_held_up_to_a_limit(monkeypatch):
    assert sums_fit(700, 7)
    monkeypatch.setattr(silhouette, "SUMS_BYTES", 8 * 700 * 6)
    assert sums_fit(700, 6) and not sums_fit(700, 7)


def test_faults_are_those_of_the_parts():
    matrix, labels = cells(n=10)
    with pytest.raises(ValueError, match="11 nearest neighbors asked for among 10 rows"):
        neighbors_and_widths(matrix, 11, labels)
    with pytest.raises(ValueError, match="at least two groups"):
        neighbors_and_widths(matrix, 5, np.zeros(10))

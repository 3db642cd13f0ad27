"""The neighbor graph and Leiden's communities: scanpy's, without scanpy."""

from functools import cache

import anndata
import numpy as np
import pytest
import scanpy
from sklearn.metrics import adjusted_rand_score

from cellgauge.metrics.knn.exact import nearest_neighbors
from cellgauge.metrics.knn.graph import Leiden, fuzzy_edges, neighbor_count


def cells(n=600, dims=20, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(0, 2, (7, dims))
    return (centres[generator.integers(0, 7, n)] + generator.normal(size=(n, dims))).astype(np.float32)


def graph_of(matrix):
    return fuzzy_edges(*nearest_neighbors(matrix, neighbor_count(len(matrix))))


@cache
def _neighbors_of_scanpy(n, dims):
    data = anndata.AnnData(X=cells(n, dims))
    scanpy.pp.neighbors(data, use_rep="X", random_state=42)
    return data


def scanpy_of(n, dims):
    """Return some cells with the neighbors that scanpy finds."""
    return _neighbors_of_scanpy(n, dims).copy()


# fewer cells than neighbors, exactly as many, one more; one dimension; many
SIZES = [(2, 20), (3, 20), (9, 20), (15, 20), (16, 20), (200, 1), (600, 20), (900, 100)]


@pytest.mark.parametrize("n, dims", SIZES)
@pytest.mark.filterwarnings("ignore")
def test_graph_is_scanpys(n, dims):
    edges, expected = graph_of(cells(n, dims)), scanpy_of(n, dims).obsp["connectivities"].tocsr()
    expected.sort_indices()
    sources, targets = expected.nonzero()
    assert (edges.sources == sources).all()
    assert (edges.targets == targets).all()
    assert edges.weights.dtype == np.float32
    # scanpy's distances carry float32's rounding (1e-7 of them), and the bandwidth is solved to 1e-5 only
    np.testing.assert_allclose(edges.weights, expected.data, atol=3e-5)


@pytest.mark.parametrize("n, dims", SIZES)
@pytest.mark.parametrize("seed", [42, 7])
@pytest.mark.filterwarnings("ignore")
def test_communities_are_scanpys(n, dims, seed):
    data = scanpy_of(n, dims)
    scanpy.tl.leiden(data, flavor="igraph", n_iterations=2, random_state=seed, directed=False)
    found = Leiden(graph_of(cells(n, dims))).communities(seed)
    assert found.tolist() == data.obs["leiden"].astype(int).tolist()


@pytest.mark.parametrize("n, dims", SIZES[2:])
@pytest.mark.filterwarnings("ignore")
def test_communities_of_leidenalg_are_scanpys(n, dims):
    data = scanpy_of(n, dims)
    scanpy.tl.leiden(data, flavor="leidenalg", n_iterations=2, random_state=42)
    found = Leiden(graph_of(cells(n, dims)), flavor="leidenalg").communities(42)
    assert found.tolist() == data.obs["leiden"].astype(int).tolist()


def test_each_seed_is_on_its_own_and_python_keeps_its_generator():
    import random

    edges = graph_of(cells())
    together = Leiden(edges)
    for seed in (1, 2, 3):
        assert together.communities(seed).tolist() == Leiden(edges).communities(seed).tolist()
    random.seed(5)
    expected = random.random()
    random.seed(5)
    Leiden(edges).communities(1)
    assert random.random() == expected


def test_the_resolution_decides_how_many_communities():
    edges = graph_of(cells(dims=2))
    few, many = (Leiden(edges).communities(0, resolution).max() for resolution in (0.2, 3.0))
    assert few < many


def test_every_edge_goes_both_ways_with_one_weight():
    edges = graph_of(cells())
    there = dict(zip(zip(edges.sources, edges.targets, strict=True), edges.weights, strict=True))
    assert all(there[target, source] == weight for (source, target), weight in there.items())
    assert edges.weights.min() > 0
    assert edges.weights.max() <= 1
    assert (edges.sources != edges.targets).all()


@pytest.mark.parametrize("rows", [np.zeros(40, dtype=int), np.arange(120) // 3], ids=["all equal", "triplets"])
def test_duplicate_cells_make_a_graph_too(rows):
    """scanpy's own answer hangs on rounding noise here, so only what must hold of any graph is asked."""
    matrix = cells(40)[rows]
    edges = graph_of(matrix)
    assert np.isfinite(edges.weights).all()
    found = Leiden(edges).communities(42)
    assert len(found) == len(matrix)
    if rows.any():
        assert adjusted_rand_score(rows, found) > 0

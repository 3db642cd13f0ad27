"""Exact nearest neighbors: equal to brute force in float64, whatever the scale, the ties or the blocks."""

import tracemalloc

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import random as random_sparse
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from cellgauge.metrics.knn import distances
from cellgauge.metrics.knn import exact as neighbors
from cellgauge.metrics.knn import smallest as candidates
from cellgauge.metrics.knn.exact import nearest_neighbors, neighborhoods


def cells(n=700, dims=30, seed=0, offset=0.0, scale=1.0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(0, 3, (8, dims))
    matrix = centres[generator.integers(0, 8, n)] + generator.normal(size=(n, dims))
    return (offset + scale * matrix).astype(np.float32)


def brute_force(references, queries=None):
    references = references.astype(np.float64)
    return cdist(references if queries is None else queries.astype(np.float64), references)


SIZES = [97, 97, 97, 97, 97, 15]
"""The blocks of 500 cells."""


@pytest.fixture
def small_blocks(monkeypatch):
    """Make blocks so small that some hundred cells take several of either kind."""
    monkeypatch.setattr(distances, "MOST_REFERENCES", 97)
    monkeypatch.setattr(distances, "PRODUCT_BYTES", 20_000)
    monkeypatch.setattr(distances, "TILE_EDGE", 97)
    for module in (neighbors, candidates):
        monkeypatch.setattr(module, "CACHE_ROWS", 7)


@pytest.mark.parametrize("k", [1, 2, 15, 200, 700])
def test_neighbors_among_themselves_are_those_of_scikit_learn(k):
    matrix = cells()
    indices, found = nearest_neighbors(matrix, k)
    expected, order = (
        NearestNeighbors(algorithm="brute").fit(matrix.astype(np.float64)).kneighbors(n_neighbors=max(k - 1, 1))
    )
    assert (indices[:, 0] == np.arange(len(matrix))).all()
    assert (found[:, 0] == 0).all()
    if k > 1:
        assert (indices[:, 1:] == order).all()
        # both in float64, so only the last bits of |x|^2 + |y|^2 - 2xy in the library's distances may differ
        np.testing.assert_allclose(found[:, 1:], expected, rtol=1e-9)


def test_neighbors_of_queries_are_those_of_scikit_learn():
    references, queries = cells(seed=1), cells(n=90, seed=2)
    indices, found = nearest_neighbors(references, 5, queries)
    expected, order = (
        NearestNeighbors(n_neighbors=5, algorithm="brute").fit(references.astype(np.float64)).kneighbors(queries)
    )
    assert (indices == order).all()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert (np.sort(neighborhoods(references, 5, queries)) == np.sort(order)).all()


def test_neighborhoods_are_the_same_sets():
    matrix = cells()
    expected = np.argsort(brute_force(matrix), axis=1)[:, :200]
    assert (np.sort(neighborhoods(matrix, 200)) == np.sort(expected)).all()


def test_blocks_change_nothing(small_blocks):
    matrix = cells(n=500)
    truth = brute_force(matrix)
    indices, found = nearest_neighbors(matrix, 15)
    assert (indices == np.argsort(truth, axis=1)[:, :15]).all()
    np.testing.assert_allclose(found, np.sort(truth, axis=1)[:, :15], rtol=1e-12)
    assert (np.sort(neighborhoods(matrix, 60)) == np.sort(np.argsort(truth, axis=1)[:, :60])).all()


@pytest.mark.parametrize("offset, scale", [(1e4, 1e-2), (0, 1e-30), (0, 1e30), (-300, 1)])
def test_cells_far_from_the_origin_or_of_any_scale_are_searched_exactly(offset, scale):
    matrix = cells(offset=offset, scale=scale)
    truth = np.sort(brute_force(matrix), axis=1)
    _, found = nearest_neighbors(matrix, 15)
    np.testing.assert_allclose(found, truth[:, :15], rtol=1e-9)
    members = np.take_along_axis(brute_force(matrix), neighborhoods(matrix, 100).astype(np.int64), axis=1)
    np.testing.assert_allclose(np.sort(members), truth[:, :100], rtol=1e-9)


def test_what_float32_cannot_prove_is_searched_in_float64():
    """Two tight clusters far apart: within one, float32 products are all noise."""
    matrix = cells(n=400, scale=1e-5)
    matrix[200:] += 30
    expected = np.sort(brute_force(matrix), axis=1)[:, :15]
    _, found = nearest_neighbors(matrix, 15)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    _, found = nearest_neighbors(matrix, 15, matrix[:50])  # queries are searched for in rows, not in tiles
    np.testing.assert_allclose(found, expected[:50], rtol=1e-9)


def test_an_error_bound_of_nothing_would_be_noticed(monkeypatch):
    """The proof matters: without it, the search of the tight clusters goes wrong."""
    matrix = cells(n=400, scale=1e-5)
    matrix[200:] += 30
    monkeypatch.setattr(neighbors, "_proven", lambda approximate, *_, **__: np.ones(len(approximate), dtype=bool))
    _, found = nearest_neighbors(matrix, 15)
    assert not np.allclose(found, np.sort(brute_force(matrix), axis=1)[:, :15], rtol=1e-9, atol=0)


@given(
    arrays(np.float32, st.tuples(st.integers(2, 60), st.integers(1, 4)), elements=st.integers(-2, 2)),
    st.integers(1, 60),
)
@settings(max_examples=examples(25))
def test_with_ties_and_duplicates_the_distances_are_still_the_smallest(matrix, k):
    k = min(k, len(matrix))
    truth = brute_force(matrix)
    indices, found = nearest_neighbors(matrix, k)
    np.testing.assert_allclose(found, np.sort(truth, axis=1)[:, :k], atol=1e-12)
    np.testing.assert_allclose(found, np.take_along_axis(truth, indices, axis=1), atol=1e-12)
    assert (indices[:, 0] == np.arange(len(matrix))).all()
    members = neighborhoods(matrix, k)
    assert all(len(set(row)) == k and cell in row for cell, row in enumerate(members.tolist()))
    within = np.sort(np.take_along_axis(truth, members.astype(np.int64), axis=1))
    np.testing.assert_allclose(within, np.sort(truth, axis=1)[:, :k], atol=1e-12)


@pytest.mark.parametrize("dims", [1, 5])
def test_a_constant_embedding_has_neighbors_at_distance_zero(dims):
    matrix = np.full((80, dims), 0.1, dtype=np.float32)
    indices, found = nearest_neighbors(matrix, 15)
    assert (found == 0).all()
    assert (indices[:, 0] == np.arange(80)).all()
    assert all(len(set(row)) == 15 for row in indices.tolist())


def test_sparse_rows_have_the_neighbors_of_the_same_rows_dense(small_blocks):
    references = random_sparse(300, 400, 0.1, "csr", np.float32, np.random.default_rng(0))
    queries = random_sparse(50, 400, 0.1, "csr", np.float32, np.random.default_rng(1))
    indices, found = nearest_neighbors(references, 5, queries)
    truth = brute_force(references.toarray(), queries.toarray())
    assert (indices == np.argsort(truth, axis=1)[:, :5]).all()
    np.testing.assert_allclose(found, np.sort(truth, axis=1)[:, :5], rtol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 5.0, 1e4])
def test_saying_that_rows_are_centred_changes_nothing_even_where_it_is_wrong(small_blocks, offset):
    references, queries = cells(offset=offset), cells(n=90, seed=1, offset=offset)
    before = references.copy(), queries.copy()
    for options in ({}, {"queries": queries}):
        expected, found = (
            nearest_neighbors(references, 5, **options),
            nearest_neighbors(references, 5, **options, centred=True),
        )
        assert (found[0] == expected[0]).all()
        assert (found[1] == expected[1]).all()
    assert (references == before[0]).all()
    assert (queries == before[1]).all()


@pytest.mark.parametrize("k", [2, 60])
def test_the_order_of_the_search_changes_nothing(small_blocks, k):
    matrix = cells(n=500)
    expected = np.sort(neighborhoods(matrix, k))
    for order in (np.argsort(matrix[:, 0]), np.random.default_rng(0).permutation(500)):
        assert (np.sort(neighborhoods(matrix, k, order=order)) == expected).all()


def test_every_distance_among_themselves_is_multiplied_once(monkeypatch, small_blocks):
    multiplied = []
    products = distances.inner_products

    def counted(queries, references, buffer):
        multiplied.append(len(queries) * len(references))
        return products(queries, references, buffer)

    monkeypatch.setattr(distances, "inner_products", counted)
    nearest_neighbors(cells(n=500), 15)
    assert sum(multiplied) == sum(a * b for i, a in enumerate(SIZES) for b in SIZES[i:])


@pytest.mark.parametrize("k", [0, 11])
def test_more_neighbors_than_cells_are_refused(k):
    with pytest.raises(ValueError, match=f"{k} nearest neighbors asked for among 10 rows"):
        nearest_neighbors(cells(n=10), k)


def test_memory_is_bounded_by_the_blocks(monkeypatch):
    monkeypatch.setattr(distances, "PRODUCT_BYTES", 1 << 20)
    matrix = cells(n=5000, dims=16)
    tracemalloc.start()
    nearest_neighbors(matrix, 15)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20  # all distances at once would take 100 MB

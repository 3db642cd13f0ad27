"""The smallest values of every row, from tiles that serve both their sides."""

import tracemalloc

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellgauge.metrics.knn.distances import block_pairs, slices
from cellgauge.metrics.knn.smallest import NOTHING, Candidates, columns_of, keys_of, values_of


def smallest(matrix, wanted, edge):
    """Send a symmetric matrix by in tiles; return columns and values of all rows."""
    found = Candidates(len(matrix), wanted, edge)
    for part, other in block_pairs(len(matrix), edge):
        found.take(part, other, matrix[part, other])
    blocks = [found.smallest(part) for part in slices(len(matrix), edge)]
    return (np.concatenate(parts) for parts in zip(*blocks, strict=True))


def symmetric(n, seed=0):
    upper = np.triu(np.random.default_rng(seed).normal(size=(n, n)).astype(np.float32))
    return upper + np.triu(upper, 1).T


def check(matrix, wanted, edge):
    columns, values = smallest(matrix, wanted, edge)
    assert columns.shape == (len(matrix), min(wanted, len(matrix)))
    assert (values == np.sort(matrix, axis=1)[:, :wanted]).all()
    assert (values == np.take_along_axis(matrix, columns, axis=1)).all()
    assert all(len(set(row)) == len(row) for row in columns.tolist())


@pytest.mark.parametrize("edge", [7, 32, 100, 300])
@pytest.mark.parametrize("wanted", [1, 5, 40, 150, 300, 400])
def test_they_are_those_of_a_sort(edge, wanted):
    check(symmetric(300), wanted, edge)


@given(
    arrays(np.int8, st.tuples(st.integers(1, 40), st.just(2)), elements=st.integers(-2, 2)),
    st.integers(1, 45),
    st.integers(1, 20),
)
@settings(max_examples=examples(50))
def test_ties_are_cut_to_what_is_wanted(points, wanted, edge):
    points = points.astype(np.float32)
    check(((points[:, None] - points) ** 2).sum(axis=2), wanted, edge)


@given(
    arrays(np.float32, st.integers(0, 50), elements=st.floats(allow_nan=False, width=32)),
    st.integers(0, 2**31 - 51),
)
def test_keys_are_in_the_order_of_values_and_then_of_columns(values, first_column):
    columns = np.random.default_rng(0).permutation(len(values)) + first_column
    keys = keys_of(values, columns)
    assert (values_of(keys) == values).all()
    assert (columns_of(keys) == columns).all()
    assert (keys < NOTHING).all()
    below = np.where(np.signbit(values), 0, 1)  # -0 and 0 are the same float, but not the same key
    assert (np.argsort(keys) == np.lexsort((columns, below, values))).all()


@pytest.mark.parametrize("spread", [0, 1])
def test_values_do_not_pile_up(spread):
    """Also where all cells lie at one point, and every value on the rim."""
    tile = spread * np.random.default_rng(0).random((200, 200), dtype=np.float32)
    found = Candidates(20_000, 10, 200)
    tracemalloc.start()
    for part, other in block_pairs(20_000, 200):
        found.take(part, other, tile)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20  # 20,000 x 10 candidates of 18 bytes are 4 MB; all pairs would be 4 GB

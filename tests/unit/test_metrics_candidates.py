"""The smallest values of every row, from tiles that serve both their sides."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellgauge.metrics import candidates
from cellgauge.metrics.candidates import Candidates
from cellgauge.metrics.distances import block_pairs, slices


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


def test_rims_are_drawn_in_on_the_way(monkeypatch):
    drawn = []
    rims = candidates._rims
    monkeypatch.setattr(candidates, "_rims", lambda *args: drawn.append(args[0].shape) or rims(*args))
    check(symmetric(400), 10, 20)
    assert len(drawn) > 3 * 20  # the first tile and the end are two of each block's


@given(
    arrays(np.int8, st.tuples(st.integers(1, 40), st.just(2)), elements=st.integers(-2, 2)),
    st.integers(1, 45),
    st.integers(1, 20),
)
@settings(max_examples=80)
def test_ties_are_cut_to_what_is_wanted(points, wanted, edge):
    points = points.astype(np.float32)
    check(((points[:, None] - points) ** 2).sum(axis=2), wanted, edge)


def test_equal_values_do_not_pile_up():
    """All cells at one point: every value lies on the rim."""
    tile = np.zeros((200, 200), dtype=np.float32)
    found = Candidates(20_000, 10, 200)
    tracemalloc.start()
    for part, other in block_pairs(20_000, 200):
        found.take(part, other, tile)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20  # 20,000 x 10 candidates of 10 bytes are 2 MB; all pairs would be 4 GB

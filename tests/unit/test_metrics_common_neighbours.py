"""Neighbours in folds from one search in common: the sets that a search of every fold finds, whatever the cells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellgauge.metrics import common_neighbours, distances
from cellgauge.metrics.classifiers import k_nearest_neighbours, standardize
from cellgauge.metrics.common_neighbours import (
    Proposals,
    ProposedInFold,
    common_axes,
    neighbourhoods_in_fold,
    propose,
    propose_where_worthwhile,
    worthwhile,
)
from cellgauge.metrics.neighbours import nearest_neighbours, neighbourhoods


def cells(n=2000, dims=50, seed=0):
    """Cells of eight types in 15 latent dimensions, with noise: an embedding."""
    generator = np.random.default_rng(seed)
    latent = generator.normal(0, 2, (8, 15))[generator.integers(0, 8, n)] + generator.normal(size=(n, 15))
    matrix = latent @ generator.normal(size=(15, dims)) + 0.5 * generator.normal(size=(n, dims))
    return matrix.astype(np.float32)


def dealt(n, n_folds=5, seed=0):
    return np.random.default_rng(seed).permutation(n) % n_folds


def proposals_of(matrix, n_proposed=64):
    return propose(*common_axes(matrix, np.arange(len(matrix))), n_proposed)


class Folds:
    """Searches every fold both ways, notes what was proven, and fails where the ways differ."""

    def __init__(self, matrix, folds, k=5, proposals=None, warranted=True):
        proposals = proposals or proposals_of(matrix)
        proven = []
        self.same = True
        for fold in range(folds.max() + 1):
            train, test = np.flatnonzero((folds != fold) & (folds >= 0)), np.flatnonzero(folds == fold)
            features = matrix[train], matrix[test]
            proposed = ProposedInFold(proposals, train, test, standardize(*features))
            found = neighbourhoods_in_fold(features[0], k, features[1], proposed)
            expected = neighbourhoods(features[0], k, features[1], centred=True)
            assert found.dtype == expected.dtype
            self.same &= bool((np.sort(found) == np.sort(expected)).all())
            search = common_neighbours._InFold(features[0], k, features[1], proposed)
            proven.append(search.nearest(slice(0, len(test)))[1])
        self.proven = np.concatenate(proven).mean()
        assert self.same or not warranted


@pytest.fixture(autouse=True)
def pairs_are_cheap(monkeypatch):
    """Look at all distances that can prove anything, however few the cells."""
    monkeypatch.setattr(common_neighbours, "PAIR_COST", 0)


@pytest.mark.parametrize("n, dims, k", [(2000, 50, 5), (1500, 512, 5), (1000, 10, 1), (1000, 30, 20)])
def test_random_folds_are_proven_and_equal(n, dims, k):
    assert Folds(cells(n, dims), dealt(n), k).proven > 0.9


def test_donors_that_shift_and_scale_are_proven_in_part_and_equal():
    matrix, generator = cells(1200), np.random.default_rng(1)
    donors = generator.integers(0, 5, len(matrix))
    matrix *= generator.uniform(0.6, 1.5, (5, 50)).astype(np.float32)[donors]
    matrix += generator.normal(0, 1, (5, 50)).astype(np.float32)[donors]
    folds = np.where(generator.random(len(matrix)) < 0.1, -1, donors)  # some of unknown donor, in no fold
    assert 0.02 < Folds(matrix, folds).proven < 0.98


@pytest.mark.parametrize("offset, scale", [(1e4, 1e-2), (0, 1e-25), (0, 1e25), (-300, 1)])
def test_cells_far_from_the_origin_or_of_any_scale(offset, scale):
    matrix = (offset + scale * cells(900).astype(np.float64)).astype(np.float32)
    assert Folds(matrix, dealt(900)).proven > 0.8


@pytest.mark.parametrize("scale", [1e-37, 1e36])
def test_at_the_edges_of_float32_nothing_is_proven(scale):
    matrix = (scale * cells(300).astype(np.float64)).astype(np.float32)
    _, common = common_axes(matrix, np.arange(300))
    assert propose_where_worthwhile(matrix, np.arange(300), [dealt(300)], 5) is None
    proposals = Proposals(**{**proposals_of(cells(300)).arrays(), "scale": common})
    assert Folds(matrix, dealt(300), proposals=proposals).proven == 0


def test_axes_of_unlike_scales_and_constant_ones():
    matrix = cells(900) * np.logspace(-4, 4, 50, dtype=np.float32)
    matrix[:, [3, 7]] = 0, 1e8
    scaled, scale = common_axes(matrix, np.arange(900))
    assert (scale[[3, 7]] == 1).all() and (scaled[:, [3, 7]] == 0).all()
    np.testing.assert_allclose(np.delete(scaled, [3, 7], axis=1).std(axis=0), 1, rtol=1e-5)
    assert Folds(matrix, dealt(900)).proven > 0.9


def with_rare_features(matrix, *schemes):
    """Give one cell of every fold a feature that no other cell has: it is constant in the training cells of that fold."""
    rare = [np.flatnonzero(folds == fold)[0] for folds in schemes for fold in range(folds.max() + 1)]
    matrix = matrix.copy()
    matrix[:, : len(rare)] = 0
    matrix[rare, np.arange(len(rare))] = 1
    return matrix


def test_where_features_are_rare_nothing_is_proven_and_all_is_found():
    folds = dealt(600)
    assert Folds(with_rare_features(cells(600), folds), folds).proven == 0
    assert Folds(with_rare_features(cells(600), folds), dealt(600, seed=1)).proven > 0


def test_ties_are_decided_as_by_a_search_of_the_fold():
    matrix = cells(400)
    Folds(np.repeat(matrix, 3, axis=0), dealt(1200))
    matrix[200:] = matrix[:200]
    Folds(matrix, dealt(400))
    Folds(np.random.default_rng(0).integers(0, 2, (500, 8)).astype(np.float32), dealt(500))
    Folds(np.full((100, 4), 0.1, dtype=np.float32), dealt(100))


@given(
    arrays(np.float32, st.tuples(st.integers(12, 60), st.integers(1, 4)), elements=st.integers(-3, 3)),
    st.integers(1, 6),
    st.integers(1, 70),
)
@settings(max_examples=60, deadline=None)
def test_small_numbers_of_few_values(matrix, k, n_proposed):
    Folds(matrix, dealt(len(matrix), 3), k, proposals_of(matrix, n_proposed))


@pytest.mark.parametrize("n", [8, 30, 65])
def test_few_cells_are_all_proposed_and_all_proven(n):
    matrix = cells(n)
    proposals = proposals_of(matrix)
    assert proposals.indices.shape == (n, n - 1)
    assert (np.sort(np.column_stack([proposals.indices, np.arange(n)])) == np.arange(n)).all()
    assert Folds(matrix, dealt(n), 5, proposals).proven == 1


def test_more_neighbours_than_training_cells_are_refused():
    matrix, train, test = cells(10), np.arange(4), np.arange(4, 10)
    proposed = ProposedInFold(proposals_of(matrix), train, test, np.ones(50))
    with pytest.raises(ValueError, match="5 nearest neighbours asked for among 4 rows"):
        k_nearest_neighbours(matrix[train], np.zeros(4, dtype=int), matrix[test], 2, proposed=proposed)


def test_the_bound_on_scales_matters(monkeypatch):
    """Donors whose axes differ: taken for equal, cells that were not proposed would be missed."""
    matrix, donors = cells(1000), np.arange(1000) % 2
    matrix[:, :25] *= np.where(donors, 4, 0.25).astype(np.float32)[:, None]
    assert Folds(matrix, donors).proven < 0.5
    monkeypatch.setattr(common_neighbours, "_ratios", lambda *scales: (1.0, 1.0))
    assert not Folds(matrix, donors, warranted=False).same


def test_the_bound_on_rounding_matters(monkeypatch):
    """Tight clusters far apart: within one, distances by float32 products are all noise."""
    matrix = cells(600) * np.float32(1e-3)
    matrix[300:] += 30
    assert Folds(matrix, dealt(600)).proven < 0.1

    class Exact:
        def __init__(self, norms, *_):
            self.least = self.most = lambda squared: squared

    monkeypatch.setattr(common_neighbours, "ErrorBound", Exact)
    monkeypatch.setattr(common_neighbours, "ROUNDING", 0)
    assert not Folds(matrix, dealt(600), warranted=False).same


def test_proposals_are_the_nearest_in_common_axes(monkeypatch):
    matrix = cells(700)
    scaled, scale = common_axes(matrix, np.arange(700))
    expected, true = nearest_neighbours(scaled, 41)
    order = np.random.default_rng(0).permutation(700)
    for edge in (1024, 97):
        monkeypatch.setattr(distances, "TILE_EDGE", edge)
        found = propose(scaled, scale, 40, order)
        assert (found.indices == expected[:, 1:]).mean() > 0.99
        np.testing.assert_allclose(np.sqrt(found.squared), true[:, 1:], rtol=1e-4)
        np.testing.assert_allclose(found.norms, (scaled.astype(np.float64) ** 2).sum(axis=1))
        assert found.indices.dtype == np.int32


def test_arrays_bring_the_proposals_back_and_tell_of_which_cells_they_are():
    proposals = proposals_of(cells(100))
    again = Proposals(**proposals.arrays())
    assert all((again.arrays()[name] == array).all() for name, array in proposals.arrays().items())
    assert again.match(100, 50)
    assert not again.match(99, 50)
    assert not again.match(100, 49)


def test_a_search_in_common_is_made_where_it_proves_enough(monkeypatch):
    monkeypatch.setattr(common_neighbours, "FEWEST_CELLS", 1000)
    rows = np.arange(1, 2000)
    matrix, random, other = cells(), dealt(1999), dealt(1999, seed=1)
    found = propose_where_worthwhile(matrix, rows, [random, other], 5)
    expected = propose(*common_axes(matrix[rows], np.arange(1999)))
    assert (found.indices == expected.indices).all()
    assert propose_where_worthwhile(matrix, rows[:900], [random[:900], other[:900]], 5) is None  # too few cells
    halves = random % 2
    assert propose_where_worthwhile(matrix, rows, [halves], 5) is None  # costs more than it could spare
    rare = with_rare_features(matrix[rows], random, other)
    assert propose_where_worthwhile(rare, np.arange(1999), [random, other], 5) is None
    scaled, _ = common_axes(matrix, rows)
    assert worthwhile(scaled, [random, other], 5)
    assert not worthwhile(scaled, [random, other], 60)  # more than can be proven
    assert not worthwhile(np.concatenate([scaled[1:], scaled[1:2]]), [random, other], 5)  # equal cells
    monkeypatch.setattr(common_neighbours, "PAIR_COST", 1000)
    assert not worthwhile(scaled, [random, other], 5)


def test_the_sample_foretells_what_is_proven():
    """What is estimated to be spared is what the folds then are spared, in products of cells."""
    matrix, donors = cells(1500), dealt(1500)
    matrix *= np.linspace(0.85, 1.2, 5, dtype=np.float32)[donors][:, None]
    scaled, _ = common_axes(matrix, np.arange(1500))
    indices, near = nearest_neighbours(scaled, 65, centred=True)
    spared = common_neighbours._spared(scaled, donors, np.arange(1500), indices[:, 1:], near[:, 1:], 5)
    assert spared / (0.8 * 1500**2) == pytest.approx(Folds(matrix, donors).proven, abs=0.05)

"""Entropy of groups in neighborhoods, and what to expect of it."""

import numpy as np
import pytest
from scipy.stats import entropy

from cellgauge.metrics.entropy import entropy_of_counts, expected_entropy, neighbor_counts
from cellgauge.metrics.knn.exact import neighborhoods


def neighborhood_entropy(neighbors, groups):
    names, codes = np.unique(groups, return_inverse=True)
    return entropy_of_counts(neighbor_counts(neighbors, codes, len(names)))


def test_entropy_follows_the_definition():
    generator = np.random.default_rng(0)
    groups = generator.choice(np.asarray(["human", "mouse", "chicken"], dtype=object), 300, p=[0.6, 0.3, 0.1])
    neighbors = np.stack([generator.permutation(300)[:25] for _ in range(300)])
    names = np.unique(groups)
    counts = np.stack([(groups[neighbors] == name).sum(axis=1) for name in names], axis=1)
    expected = entropy(counts, axis=1) / np.log(3)
    np.testing.assert_allclose(neighborhood_entropy(neighbors, groups), expected, atol=1e-14)


def test_entropy_bounds():
    groups = np.asarray(["a", "b"] * 10)
    same = np.arange(20)[:, None] + np.zeros((1, 4), dtype=int)
    assert (neighborhood_entropy(same, groups) == 0).all()
    even = np.tile([0, 1, 2, 3], (20, 1))
    np.testing.assert_allclose(neighborhood_entropy(even, groups), 1)


def test_one_group_is_refused():
    with pytest.raises(ValueError, match="at least two groups"):
        neighborhood_entropy(np.zeros((3, 2), dtype=int), np.asarray(["a"] * 3))


@pytest.mark.parametrize("sizes, k", [((60, 40), 20), ((90, 7, 3), 30), ((25, 25, 25, 25), 60)])
def test_expected_entropy_is_what_random_neighborhoods_have(sizes, k):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    generator = np.random.default_rng(1)
    draws = [
        neighborhood_entropy(np.stack([generator.permutation(len(groups))[:k] for _ in groups]), groups).mean()
        for _ in range(60)
    ]
    error = np.std(draws) / np.sqrt(len(draws))
    assert expected_entropy(sizes, k) == pytest.approx(np.mean(draws), abs=5 * error)
    # below the entropy of the proportions by about (groups - 1)(1 - k/n) / 2k nats
    shares = np.asarray(sizes) / sum(sizes)
    bias = (len(sizes) - 1) * (1 - k / sum(sizes)) / (2 * k) / np.log(len(sizes))
    ceiling = entropy(shares) / np.log(len(sizes))
    assert ceiling - 2 * bias < expected_entropy(sizes, k) < ceiling


def test_expected_entropy_of_mixed_cells_in_an_embedding():
    """Species that mean nothing in space: observed and expected agree, with the cell itself among its neighbors."""
    generator = np.random.default_rng(2)
    species = generator.choice(["a", "b", "c"], 1500, p=[0.7, 0.2, 0.1])
    matrix = generator.normal(size=(1500, 5)).astype(np.float32)
    observed = neighborhood_entropy(neighborhoods(matrix, 50), species).mean()
    assert observed == pytest.approx(expected_entropy(np.unique(species, return_counts=True)[1], 50), abs=0.01)


def test_neighborhoods_of_all_cells_have_the_entropy_of_the_proportions():
    assert expected_entropy((90, 5, 5), 100) == pytest.approx(entropy([0.9, 0.05, 0.05]) / np.log(3), abs=1e-12)
    assert expected_entropy((1, 1), 2) == pytest.approx(1)
    assert expected_entropy((1, 1), 1) == 0

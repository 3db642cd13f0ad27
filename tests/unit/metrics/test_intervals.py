"""Intervals and tests of means: how often they hold the truth, by simulation, for every kind of unit that the tables have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, ttest_1samp
from scipy.stats import t as student

from cellgauge.metrics.intervals import (
    contributions,
    estimates,
    holm,
    interval,
    of_folds,
    p_values,
    pseudo_values,
)

N = 8000
UNITS = {
    "normal": (lambda rng, size: rng.normal(size=size), 0.0),
    "uniform": (lambda rng, size: rng.random(size), 0.5),
    "left-skewed as F1": (lambda rng, size: rng.beta(8, 2, size), 0.8),
    "right-skewed as errors": (lambda rng, size: rng.gamma(2, size=size), 2.0),
    "heavy tails": (lambda rng, size: rng.standard_t(3, size), 0.0),
}
"""Units as scores of conditions, labels, seeds, tissues and donors are; with their mean."""


SHARES = {
    "F1": (lambda rng, size: rng.beta(8, 2, size), 0.8),
    "AUROC": (lambda rng, size: rng.beta(9.5, 0.5, size), 0.95),
    "accuracy": (lambda rng, size: rng.beta(19, 1, size), 0.95),
    "ARI": (lambda rng, size: rng.beta(2, 2, size), 0.5),
    "calibration error": (lambda rng, size: rng.beta(1, 12, size), 1 / 13),
}
"""Units that lie between 0 and 1, some of them close to a bound with a long tail away from it; with their mean."""


def one_stratum(values, added=None):
    added = contributions(values) if added is None else added
    return estimates(values.mean(axis=1), added, np.zeros(values.shape[1], dtype=int))


def coverage(of, truth):
    low, high = interval(of)
    return float(np.mean((low <= truth) & (truth <= high)))


@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.parametrize("n", [5, 6, 8, 12, 26, 50])
def test_intervals_of_means_cover_93_to_97_percent(kind, n):
    draw, truth = UNITS[kind]
    found = coverage(one_stratum(draw(np.random.default_rng(n), (N, n))), truth)
    assert 0.93 <= found <= 0.97, f"{kind}, n {n}: {found:.3f}"


@pytest.mark.parametrize("kind", SHARES)
@pytest.mark.parametrize("n", [5, 6, 8, 12, 26])
@pytest.mark.parametrize("scale", [1, 2])
def test_intervals_of_means_of_bounded_values_cover_also_near_a_bound(kind, n, scale):
    draw, truth = SHARES[kind]
    of = one_stratum(scale * (draw(np.random.default_rng(n), (N, n)) - 0.5))
    low, high = interval(of, -scale / 2, scale / 2)
    truth = scale * (truth - 0.5)
    assert (-scale / 2 <= low).all() and (low <= of.value + 1e-12).all() and (high <= scale / 2).all()
    assert 0.93 <= np.mean((low <= truth) & (truth <= high)) <= 0.97
    if (kind, n) == ("AUROC", 5):
        assert coverage(of, truth) < 0.93, "without the bounds they would not"


def test_differences_of_two_models_are_told_apart_by_chance_in_one_of_twenty_at_most():
    """What is hard for one model is hard for the other: skewed units, in good part shared."""
    rng = np.random.default_rng(0)
    for n in (5, 8, 26):
        hard = rng.beta(8, 2, (N, n))
        first, second = (hard + 0.05 * rng.gamma(2, size=(N, n)) for _ in range(2))
        of = one_stratum(first - second)
        assert np.mean(p_values(of) < 0.05) < 0.06
        assert 0.93 <= coverage(of, 0.0) <= 0.97


@pytest.mark.parametrize("n_donors", [5, 8, 12])
def test_intervals_over_donors_of_unequal_size_cover(n_donors):
    """The mean over cells of donors that differ, from the jackknife of whole donors."""
    rng = np.random.default_rng(n_donors)
    effects = rng.normal(size=(N // 2, n_donors))
    sizes = rng.integers(30, 120, (N // 2, n_donors))
    sums = sizes * effects + np.sqrt(sizes) * rng.normal(size=effects.shape)
    whole = sums.sum(axis=1) / sizes.sum(axis=1)
    without = (whole * sizes.sum(axis=1))[:, None] - sums
    without /= sizes.sum(axis=1, keepdims=True) - sizes
    added = contributions(pseudo_values(whole, without))
    found = coverage(estimates(whole, added, np.zeros(n_donors, dtype=int)), 0.0)
    assert 0.93 <= found <= 0.97, found


@pytest.mark.parametrize("sizes", [(5, 5), (5, 5, 5), (4, 8), (3, 3, 3), (12, 5)])
def test_means_over_few_splits_cover_by_the_units_of_all(sizes):
    rng = np.random.default_rng(sum(sizes))
    parts = [rng.normal(size=(N, n)) for n in sizes]
    values = np.mean([part.mean(axis=1) for part in parts], axis=0)
    added = np.hstack([contributions(part) / len(sizes) for part in parts])
    found = coverage(estimates(values, added, np.repeat(np.arange(len(sizes)), sizes)), 0.0)
    assert 0.93 <= found <= (0.97 if max(sizes) > 3 else 0.975), found


def cross_validated(rng, n_cells, n_dims, distance, n_folds=5):
    """The accuracy of nearest centroids on each fold."""
    labels = np.arange(n_cells) % 2
    cells = rng.normal(size=(n_cells, n_dims))
    cells[:, 0] += distance * labels
    fold = rng.permutation(n_cells) % n_folds
    values = []
    for number in range(n_folds):
        train, test = fold != number, fold == number
        first, second = (cells[train & (labels == code)].mean(axis=0) for code in (0, 1))
        nearer = ((cells[test] - second) ** 2).sum(axis=1) < ((cells[test] - first) ** 2).sum(axis=1)
        values.append(np.mean(nearer == labels[test]))
    return values


@pytest.mark.parametrize("n_cells, n_dims, distance", [(60, 20, 1.0), (200, 20, 1.5)])
def test_intervals_over_folds_cover_although_folds_share_training_cells(n_cells, n_dims, distance):
    """At least 93 %: the correction supposes errors that are alike by a fifth, and covers more where they are less so."""
    rng = np.random.default_rng(5)
    values = np.array([cross_validated(rng, n_cells, n_dims, distance) for _ in range(1200)])
    truth = values.mean()
    assert 0.93 <= coverage(one_stratum(values, of_folds(values, 5)), truth) <= 0.995
    if n_cells == 60:
        assert coverage(one_stratum(values), truth) < 0.93, "without the correction they would not"


def test_folds_whose_errors_are_alike_by_a_fifth_are_covered_as_they_should():
    rng = np.random.default_rng(6)
    values = np.sqrt(0.8) * rng.normal(size=(N, 5)) + np.sqrt(0.2) * rng.normal(size=(N, 1))
    assert 0.93 <= coverage(one_stratum(values, of_folds(values, 5)), 0.0) <= 0.97


def test_below_five_units_there_is_no_interval_and_no_test():
    for n in (2, 3, 4):
        of = one_stratum(np.random.default_rng(0).normal(size=(3, n)))
        assert not of.known.any() and np.isnan(interval(of)).all() and np.isnan(p_values(of)).all()


def test_the_test_is_students():
    values = np.random.default_rng(1).normal(0.3, 1, (20, 9))
    assert p_values(one_stratum(values)) == pytest.approx(ttest_1samp(values, 0, axis=1).pvalue)


@given(st.lists(st.floats(-1, 1), min_size=5, max_size=30), st.floats(-5, 5), st.floats(0.1, 10))
def test_an_interval_holds_its_estimate_reaches_as_far_as_students_and_moves_with_the_values(values, shift, scale):
    matrix = np.array([values])
    of = one_stratum(matrix)
    (low,), (high,) = interval(of)
    reach = student.ppf(0.975, len(values) - 1) * matrix.std(ddof=1) / np.sqrt(len(values))
    assert low - 1e-9 <= of.value[0] - reach and of.value[0] + reach <= high + 1e-9
    moved = interval(one_stratum(shift + scale * matrix))
    assert moved[0][0] == pytest.approx(shift + scale * low, abs=1e-5)
    turned = interval(one_stratum(-matrix))
    assert (turned[0][0], turned[1][0]) == (pytest.approx(-high, abs=1e-6), pytest.approx(-low, abs=1e-6))


def test_equal_values_have_an_interval_of_no_width():
    low, high = interval(one_stratum(np.full((1, 5), 0.5)))
    assert (low, high) == (0.5, 0.5)


def test_holm_steps_down():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).tolist() == [1, 1]
    p = np.random.default_rng(5).random(30) / 20
    assert (holm(p) >= false_discovery_control(p) - 1e-12).all()

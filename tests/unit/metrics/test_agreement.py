"""ARI, NMI and AMI from a contingency table: scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score

from cellgauge.metrics.agreement import adjusted_mutual_info, adjusted_rand_index, contingency, normalized_mutual_info


def check(first, second):
    table = contingency(np.asarray(first), np.asarray(second))
    # the same sums in another order: some rounding of float64 at most
    assert adjusted_rand_index(table) == pytest.approx(adjusted_rand_score(first, second), abs=1e-13)
    assert normalized_mutual_info(table) == pytest.approx(normalized_mutual_info_score(first, second), abs=1e-13)
    # differences of logarithms of factorials of some thousands
    assert adjusted_mutual_info(table) == pytest.approx(adjusted_mutual_info_score(first, second), abs=1e-9)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 5), min_size=n, max_size=n)] * 2)))
def test_small_partitions(pair):
    check(*pair)


def test_many_cells():
    generator = np.random.default_rng(0)
    first = generator.integers(0, 40, 120_000)
    second = np.where(generator.random(120_000) < 0.6, first, generator.integers(0, 900, 120_000))
    check(first, second)  # pairs of cells no longer fit 32 bits


def test_chance_tells_nothing_however_many_clusters_there_are():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, 500)
    for n_clusters in (5, 50, 250):
        table = contingency(labels, generator.integers(0, n_clusters, 500))
        assert abs(adjusted_mutual_info(table)) < 0.02
    assert normalized_mutual_info(table) > 0.2  # NMI takes 250 clusters by chance for information


def test_single_cells_are_equal_to_themselves():
    assert adjusted_mutual_info(contingency(np.arange(9), np.arange(9)[::-1])) == pytest.approx(1)


def test_labels_are_text_and_names_of_groups_do_not_matter():
    labels = np.asarray(["T cell", "B cell", "B cell", "monocyte", "T cell", "B cell"], dtype=object)
    groups = np.asarray([1, 0, 0, 2, 1, 2])
    check(labels, groups)
    renamed = np.asarray([7, -1, 3])[groups]
    assert adjusted_rand_index(contingency(labels, renamed)) == adjusted_rand_index(contingency(labels, groups))


def test_bounds():
    labels = np.arange(60) % 4
    assert adjusted_rand_index(contingency(labels, 3 - labels)) == 1
    assert normalized_mutual_info(contingency(labels, 3 - labels)) == pytest.approx(1)
    assert adjusted_rand_index(contingency(labels, np.zeros(60))) == 0
    assert normalized_mutual_info(contingency(labels, np.zeros(60))) == 0

"""Silhouettes: scikit-learn's widths, scib-metrics' scaling."""

import tracemalloc

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import pairwise_distances, silhouette_samples

from cellgauge.metrics import silhouette
from cellgauge.metrics.knn import distances
from cellgauge.metrics.silhouette import batch_silhouettes, batch_widths, bras_widths, silhouette_widths

# Each float32 distance may be off by 1e-4 of itself where it is short against the cell's distance to the centre, and far
# less elsewhere; errors have either sign, so a mean over some hundred cells keeps 1e-6 of them at most.
PER_CELL, MEAN = 1e-5, 1e-6


def cells(n=600, dims=20, seed=0, groups=6, spread=2.0):
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, groups, n)
    matrix = generator.normal(0, spread, (groups, dims))[codes] + generator.normal(size=(n, dims))
    return matrix.astype(np.float32), np.asarray([f"type {code}" for code in codes], dtype=object)


def check(matrix, labels):
    expected = silhouette_samples(matrix.astype(np.float64), labels)
    found = silhouette_widths(matrix, labels)
    np.testing.assert_allclose(found, expected, atol=PER_CELL)
    assert found.mean() == pytest.approx(expected.mean(), abs=MEAN)


@pytest.mark.parametrize("dims", [1, 2, 20, 300])
def test_widths_are_those_of_scikit_learn(dims):
    check(*cells(dims=dims))


@pytest.mark.parametrize("offset, scale", [(1e3, 1.0), (0, 1e-30), (0, 1e30), (-50, 0.1)])
def test_far_from_the_origin_and_at_any_scale(offset, scale):
    matrix, labels = cells()
    check((offset + scale * matrix).astype(np.float32), labels)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 300), st.integers(1, 300), st.integers(2, 9), st.integers(8, 64), st.integers(0, 99))
def test_some_cells_among_all_have_the_widths_that_they_have_with_all(n, n_asked, groups, edge, seed):
    matrix, _ = cells(n=n, seed=seed)
    labels = np.random.default_rng(seed).integers(0, groups, n)
    labels[:2] = (0, 1)
    asked = np.sort(np.random.default_rng(seed).choice(n, min(n, n_asked), replace=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "TILE_EDGE", edge)
        found = silhouette_widths(matrix, labels, of=asked)
    np.testing.assert_allclose(found, silhouette_widths(matrix, labels)[asked], atol=PER_CELL)


def test_tight_clusters_far_apart():
    """Most distances are then a millionth of the lengths, of which a float32 product keeps no digit."""
    matrix, labels = cells(spread=0.5)
    matrix = (1e-4 * matrix).astype(np.float32)
    matrix[300:] += 3
    check(matrix, labels)


def test_one_point_per_label_is_a_perfect_silhouette():
    _, labels = cells()
    codes = np.unique(labels, return_inverse=True)[1]
    assert (silhouette_widths(np.eye(6, dtype=np.float32)[codes], labels) == 1).all()


def test_a_few_near_pairs_are_mended_one_by_one(monkeypatch):
    matrix, labels = cells()
    matrix[1::100] = matrix[::100] + np.float32(1e-3)
    mended = []
    pairs = silhouette.pair_distances
    monkeypatch.setattr(silhouette, "pair_distances", lambda *args: mended.append(len(args[1])) or pairs(*args))
    check(matrix, labels)
    assert 0 < sum(mended) < 0.01 * len(matrix) ** 2


@pytest.mark.parametrize("halved", [True, False])
def test_blocks_change_nothing(monkeypatch, halved):
    matrix, labels = cells()
    whole = silhouette_widths(matrix, labels)
    monkeypatch.setattr(distances, "TILE_EDGE", 83)
    monkeypatch.setattr(silhouette, "SUMS_BYTES", 8 * 600 * 6 if halved else 8 * 50 * 6)
    np.testing.assert_allclose(silhouette_widths(matrix, labels), whole, atol=1e-6)
    check(matrix, labels)
    check((matrix + np.float32(1e3)).astype(np.float32), labels)


def test_memory_is_bounded_by_the_blocks(monkeypatch):
    monkeypatch.setattr(silhouette, "SUMS_BYTES", 1 << 20)
    matrix = cells(n=4000)[0]
    tracemalloc.start()
    silhouette_widths(matrix, np.arange(4000) // 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20  # all distances at once would take 64 MB, all sums as much


def test_a_constant_embedding_has_width_zero():
    _, labels = cells()
    assert (silhouette_widths(np.full((600, 7), 0.1, dtype=np.float32), labels) == 0).all()


def test_a_cell_alone_in_its_group_has_width_zero():
    matrix, labels = cells(n=50)
    labels[3] = "alone"
    check(matrix, labels)
    assert silhouette_widths(matrix, labels)[3] == 0
    assert (silhouette_widths(matrix, np.arange(50)) == 0).all()  # all alone: scikit-learn refuses, scib-metrics says 0


@given(
    arrays(np.float32, st.tuples(st.integers(4, 30), st.integers(1, 3)), elements=st.integers(-3, 3)),
    st.randoms(use_true_random=False),
)
@settings(max_examples=examples(25))
def test_with_duplicates(matrix, random):
    labels = np.asarray([0, 1, *(random.randrange(3) for _ in range(len(matrix) - 2))])
    np.testing.assert_allclose(
        silhouette_widths(matrix, labels), silhouette_samples(matrix.astype(np.float64), labels), atol=PER_CELL
    )


def test_one_group_is_refused():
    with pytest.raises(ValueError, match="at least two groups"):
        silhouette_widths(cells(n=10)[0], np.zeros(10))


def label_silhouette(matrix, labels):
    return (silhouette_widths(matrix, labels).mean() + 1) / 2


def test_the_mean_width_is_that_of_scikit_learn():
    matrix, labels = cells()
    expected = (silhouette_samples(matrix.astype(np.float64), labels).mean() + 1) / 2
    assert label_silhouette(matrix, labels) == pytest.approx(expected, abs=MEAN)
    shuffled = np.random.default_rng(0).permutation(labels)
    assert label_silhouette(matrix, shuffled) == pytest.approx(0.5, abs=0.05)
    assert label_silhouette(matrix, labels) > 0.6


@pytest.mark.parametrize("change", ["rotate", "permute", "scale", "shift"])
def test_what_does_not_matter(change):
    matrix, labels = cells()
    before = label_silhouette(matrix, labels)
    if change == "rotate":
        matrix = matrix @ np.linalg.qr(np.random.default_rng(1).normal(size=(20, 20)))[0].astype(np.float32)
    elif change == "permute":
        order = np.random.default_rng(1).permutation(len(matrix))
        matrix, labels = matrix[order], labels[order]
    else:
        matrix = matrix * np.float32(8) if change == "scale" else matrix + np.float32(20)
    assert label_silhouette(matrix, labels) == pytest.approx(before, abs=MEAN)


# --- batches within labels -------------------------------------------------------------------------------------------


def plain_batch_silhouettes(matrix, labels, batches):
    """The definition in scib-metrics, with scikit-learn's widths."""
    values = {}
    for label in np.unique(labels):
        chosen = labels == label
        n_batches = len(np.unique(batches[chosen]))
        if n_batches not in (1, chosen.sum()):
            widths = silhouette_samples(matrix[chosen].astype(np.float64), batches[chosen])
            values[label] = (1 - np.abs(widths)).mean()
    return values


def test_batch_silhouettes_follow_the_definition():
    matrix, labels = cells()
    batches = np.random.default_rng(3).choice(np.asarray(["human", "mouse", "chicken"], dtype=object), len(matrix))
    matrix[batches == "mouse"] += 1
    batches[labels == "type 0"] = "human"  # one batch
    labels[:3], batches[:3] = "rare", ["human", "mouse", "chicken"]  # each cell a batch of its own
    labels[3:6], batches[3:6] = "small", ["human", "human", "mouse"]
    found, expected = (
        batch_silhouettes(batch_widths(matrix, labels, batches), labels),
        plain_batch_silhouettes(matrix, labels, batches),
    )
    assert list(found) == list(expected)
    assert "small" in found
    assert not {"type 0", "rare"} & set(found)
    for label, value in expected.items():
        assert found[label] == pytest.approx(value, abs=1e-5)  # of as few as three cells
    assert np.mean(list(found.values())) == pytest.approx(np.mean(list(expected.values())), abs=MEAN)


def test_batches_that_mix_score_near_one_and_batches_apart_near_zero():
    matrix, labels = cells(spread=0)
    batches = np.random.default_rng(3).choice(np.asarray(["a", "b"], dtype=object), len(matrix))
    assert min(batch_silhouettes(batch_widths(matrix, labels, batches), labels).values()) > 0.95
    matrix[batches == "b"] += 100
    assert max(batch_silhouettes(batch_widths(matrix, labels, batches), labels).values()) < 0.05


# --- BRAS ------------------------------------------------------------------------------------------------------------


def bras(matrix, labels, batches):
    return batch_silhouettes(bras_widths(matrix, labels, batches), labels)


def plain_bras(matrix, labels, batches):
    """The definition, cell by cell: cosine distances, against the cells of all other batches together."""
    values = {}
    for label in np.unique(labels):
        rows, own = matrix[labels == label].astype(np.float64), batches[labels == label]
        if len(np.unique(own)) in (1, len(own)):
            continue
        distances, terms = pairwise_distances(rows, metric="cosine"), []
        for i in range(len(rows)):
            same = own == own[i]
            b = distances[i, ~same].mean()
            same[i] = False
            a = distances[i, same].mean() if same.any() else b  # a cell alone in its batch has width 0
            terms.append(1 - abs(b - a) / max(a, b) if max(a, b) > 1e-12 else 1.0)
        values[str(label)] = np.mean(terms)
    return values


def uneven_cells():
    """Four labels in three batches of unequal sizes; one label in one batch alone, one batch with a single cell of another."""
    generator, n = np.random.default_rng(5), 240
    labels = np.asarray(["a", "b", "c", "d"])[generator.integers(0, 4, n)]
    batches = np.asarray(["x", "y", "z"])[generator.choice(3, n, p=[0.5, 0.35, 0.15])]
    matrix = (
        generator.normal(0, 2, (4, 8))[np.unique(labels, return_inverse=True)[1]] + generator.normal(size=(n, 8)) + 1
    )
    matrix += np.outer(batches == "z", np.full(8, 1.5))
    batches[labels == "d"] = "x"
    batches[np.flatnonzero((labels == "c") & (batches == "z"))[1:]] = "y"
    return matrix.astype(np.float32), labels, batches


def test_bras_is_that_of_scib_metrics():
    """Values of scib_metrics.bras 0.6.1, which computes in float32; tests/integration/test_scib.py asks the library itself."""
    of_labels = bras(*uneven_cells())
    theirs = {"a": 0.7950505614, "b": 0.8329847455, "c": 0.8307477832}
    assert of_labels == pytest.approx(theirs, abs=2e-7)
    assert np.mean(list(of_labels.values())) == pytest.approx(0.8195943832, abs=2e-7)


@given(
    arrays(np.float32, st.tuples(st.integers(2, 40), st.integers(1, 5)), elements=st.floats(-4, 4, width=16)),
    st.randoms(use_true_random=False),
    st.sampled_from([1.0, 1e-30, 1e30]),
)
@settings(max_examples=examples(50))
def test_bras_is_the_plain_definition(matrix, random, size):
    labels, batches = (np.asarray([random.choice("pqr"[:n]) for _ in matrix]) for n in (2, 3))
    expected = plain_bras(matrix, labels, batches)
    assert bras((matrix * np.float32(size)).astype(np.float32), labels, batches) == pytest.approx(expected, abs=1e-6)


def test_bras_in_blocks(monkeypatch):
    matrix, labels, batches = uneven_cells()
    whole = bras(matrix, labels, batches)
    monkeypatch.setattr(silhouette, "DIRECTIONS", 7)
    assert bras(matrix, labels, batches) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("n_pairs", [1, 3])
def test_batches_that_mix_in_pairs_and_are_apart_are_seen_by_bras_alone(n_pairs):
    generator = np.random.default_rng(0)
    batches = np.arange(600) % (2 * n_pairs + 2)
    matrix = generator.normal(1, 0.1, (600, 12)).astype(np.float32)
    matrix[np.arange(600), batches // 2] += 4
    labels = np.full(600, "one")
    assert batch_silhouettes(batch_widths(matrix, labels, batches), labels)["one"] > 0.95
    assert bras(matrix, labels, batches)["one"] < 0.3


def test_bras_of_a_single_point_and_of_the_origin():
    labels, batches = np.full(60, "one"), np.arange(60) % 3
    for value in (0.0, 3.3, -1e-20):
        assert bras(np.full((60, 5), value, dtype=np.float32), labels, batches) == {"one": 1.0}
    matrix = np.random.default_rng(0).normal(3, 1, (60, 5)).astype(np.float32)
    before = bras(matrix, labels, batches)["one"]
    matrix[0] = 0  # one cell without a direction does not make the label a perfect one
    assert before - 0.3 < bras(matrix, labels, batches)["one"] < before

"""The clustering task: what it yields, for which profile, and for odd data."""

import numpy as np
import pytest

from cellgauge.core.errors import CellgaugeError
from cellgauge.tasks.cells import CellsToScore, NotScorable
from cellgauge.tasks.clustering import neighbors as neighbors
from cellgauge.tasks.clustering import scores as clustering

BOTH = ("reference", "corrected")


def cells(n=300, dims=8, seed=0, types=5):
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, types, n)
    matrix = generator.normal(0, 1.2, (types, dims))[codes] + generator.normal(size=(n, dims))
    labels = np.asarray([f"type {code}" for code in codes], dtype=object)
    return CellsToScore(matrix.astype(np.float32), {"label": labels})


def score(cells, profiles=BOTH, seed=42, **params):
    return list(clustering.score(cells, profiles=profiles, seed=seed, **params))


def values(scores, profile, **wanted):
    rows = [
        s for s in scores if s.profile == profile and all(getattr(s, key) == value for key, value in wanted.items())
    ]
    return {s.metric: s.value for s in rows}


def test_reference_is_the_first_seed_of_corrected_and_the_silhouette_is_shared():
    scores = score(cells())
    reference, first = values(scores, "reference"), values(scores, "corrected", seed=42)
    mean = values(scores, "corrected", seed=None)
    assert set(reference) == {"ari", "nmi", "n_clusters", "silhouette"}
    assert {name: reference[name] for name in first} == first
    assert reference["silhouette"] == mean["silhouette"]


def test_corrected_has_a_row_per_seed_their_mean_and_their_deviation():
    scores = score(cells(), ["corrected"], n_seeds=4)
    per_seed = [values(scores, "corrected", seed=seed) for seed in (42, 43, 44, 45)]
    mean = values(scores, "corrected", seed=None)
    assert len(scores) == 3 * 5 + 2 + 1
    for name in ("ari", "nmi", "n_clusters"):
        assert mean[name] == pytest.approx(np.mean([found[name] for found in per_seed]))
    for name in ("ari", "nmi"):
        assert len({found[name] for found in per_seed}) > 1
        assert mean[f"{name}_sd"] == pytest.approx(np.std([found[name] for found in per_seed], ddof=1))


def test_distances_are_gone_through_once(monkeypatch):
    calls = []
    for name in ("neighbors_and_widths", "nearest_neighbors", "silhouette_widths"):
        real = getattr(neighbors, name)
        monkeypatch.setattr(
            neighbors, name, lambda *args, name=name, real=real, **how: calls.append(name) or real(*args, **how)
        )
    for metrics, expected in (
        (("ari", "nmi", "silhouette"), "neighbors_and_widths"),
        (("ari",), "nearest_neighbors"),
        (("silhouette",), "silhouette_widths"),
    ):
        calls.clear()
        score(cells(), metrics=metrics)
        assert calls == [expected]


def test_single_metrics_are_the_same_as_among_all():
    everything = values(score(cells()), "reference")
    assert values(score(cells(), metrics=["silhouette"]), "reference") == {"silhouette": everything["silhouette"]}
    assert values(score(cells(), metrics=["nmi"]), "reference") == {
        "nmi": everything["nmi"],
        "n_clusters": everything["n_clusters"],
    }


def test_the_seed_of_the_options_counts():
    assert (
        values(score(cells(), ["reference"], seed=44), "reference")["ari"]
        == (values(score(cells(), ["corrected"]), "corrected", seed=44)["ari"])
    )


def test_labels_in_the_embedding_score_better_than_shuffled_ones():
    data = cells()
    shuffled = CellsToScore(data.matrix, {"label": np.random.default_rng(1).permutation(data.obs["label"])})
    good, bad = values(score(data), "reference"), values(score(shuffled), "reference")
    assert good["ari"] > 0.4 > 0.1 > abs(bad["ari"])
    assert good["nmi"] > bad["nmi"]
    assert good["silhouette"] > 0.5 > bad["silhouette"]


def test_permuted_cells_and_a_rotated_embedding_keep_the_silhouette():
    data = cells()
    order = np.random.default_rng(1).permutation(300)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))[0].astype(np.float32)
    moved = CellsToScore((data.matrix @ turn)[order], {"label": data.obs["label"][order]})
    before, after = (values(score(d, metrics=["silhouette"]), "corrected") for d in (data, moved))
    assert after["silhouette"] == pytest.approx(before["silhouette"], abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 9, 15, 16])
def test_fewer_cells_than_neighbors_are_scored(n):
    data = cells(n)
    data.obs["label"][:] = ["a", "b"] * (n // 2) + ["a"] * (n % 2)
    for found in (values(score(data), profile) for profile in BOTH):
        assert -0.5 <= found["ari"] <= 1
        assert 0 <= found["nmi"] <= 1
        assert 0 <= found["silhouette"] <= 1


@pytest.mark.parametrize("matrix", [np.zeros((60, 3)), np.arange(60.0)[:, None], np.arange(60)[:, None] // 3])
def test_degenerate_embeddings_are_scored(matrix):
    labels = np.asarray(["a", "b", "c"] * 20, dtype=object)
    found = values(score(CellsToScore(matrix.astype(np.float32), {"label": labels})), "reference")
    assert abs(found["ari"]) < 0.2
    assert found["silhouette"] == pytest.approx(0.5, abs=0.05)


def test_one_label_is_not_scorable():
    with pytest.raises(NotScorable, match="all 40 cells carry the label 'T cell'"):
        score(CellsToScore(np.zeros((40, 3), np.float32), {"label": np.full(40, "T cell", dtype=object)}))


def test_an_unknown_metric_is_named():
    with pytest.raises(CellgaugeError, match="unknown metric 'purity'; there are ari, nmi, silhouette"):
        score(cells(), metrics=["ari", "purity"])

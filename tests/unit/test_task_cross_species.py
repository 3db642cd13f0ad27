"""The cross-species task: entropy and silhouette of species, as observed and against expectation."""

import numpy as np
import pytest

from cellgauge.tasks.cells import CellsToScore, NotScorable
from cellgauge.tasks.cross_species import neighbors as neighbors
from cellgauge.tasks.cross_species import scores as cross_species

BOTH = ("reference", "corrected")


def cells(sizes=(240, 160), apart=0.0, seed=0, dims=6):
    """Three labels; species `apart` from each other along every dimension."""
    generator = np.random.default_rng(seed)
    species = np.repeat([f"species {i}" for i in range(len(sizes))], sizes).astype(object)
    codes = generator.integers(0, 3, len(species))
    matrix = generator.normal(0, 3, (3, dims))[codes] + generator.normal(size=(len(species), dims))
    matrix += apart * np.repeat(np.arange(len(sizes)), sizes)[:, None]
    labels = np.asarray([f"type {code}" for code in codes], dtype=object)
    return CellsToScore(matrix.astype(np.float32), {"label": labels, "organism": species})


def score(cells, profiles=BOTH, seed=42, **params):
    return list(cross_species.score(cells, profiles=profiles, seed=seed, **params))


def one(scores, metric, profile, subset="", condition="", seed=None):
    wanted = (metric, profile, subset, condition, seed)
    (found,) = [s for s in scores if (s.metric, s.profile, s.subset, s.condition, s.seed) == wanted]
    return found


def test_reference_is_the_plain_definition():
    data = cells()
    distances = np.linalg.norm(data.matrix[:, None].astype(float) - data.matrix[None], axis=2)
    first = (data.obs["organism"] == "species 0")[np.argsort(distances, axis=1)[:, :200]].mean(axis=1)
    shares = np.stack([first, 1 - first])
    entropy = -(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares))).sum(axis=0) / np.log(2)
    assert one(score(data), "entropy_per_cell", "reference").value == pytest.approx(entropy.mean(), abs=1e-12)


def test_corrected_of_all_cells_shares_search_and_value_with_reference(monkeypatch):
    searches = []
    search = neighbors.neighborhoods
    monkeypatch.setattr(
        neighbors, "neighborhoods", lambda *args, **how: searches.append(len(args[0])) or search(*args, **how)
    )
    scores = score(cells(), n_draws=2)
    assert searches == [400, 320, 320]
    for metric in ("entropy_per_cell", "batch_silhouette"):
        assert one(scores, metric, "reference").value == one(scores, metric, "corrected").value


def test_mixed_species_reach_their_expectation_and_separate_ones_do_not():
    mixed, separate = (score(cells((900, 300), apart), n_neighbors=60) for apart in (0, 40))
    assert one(mixed, "entropy_per_cell", "corrected").value < 0.85  # 3 to 1 can never reach 1
    for subset in ("", "balanced"):
        assert one(mixed, "entropy_ratio", "corrected", subset).value == pytest.approx(1, abs=0.03)
        assert one(separate, "entropy_ratio", "corrected", subset).value == pytest.approx(0, abs=0.01)
    assert one(mixed, "entropy_per_cell", "corrected", "balanced").value > 0.97
    assert one(mixed, "batch_silhouette", "corrected").value > 0.9
    assert one(separate, "batch_silhouette", "corrected").value < 0.2


def test_balanced_draws_and_their_mean():
    scores = score(cells(), ["corrected"], n_neighbors=50, n_draws=4)
    for metric in ("entropy_per_cell", "entropy_expected", "entropy_ratio"):
        draws = [one(scores, metric, "corrected", "balanced", seed=seed).value for seed in (42, 43, 44, 45)]
        assert one(scores, metric, "corrected", "balanced").value == pytest.approx(np.mean(draws))
    assert len(set(draws)) == 4


def test_species_of_equal_size_are_not_drawn_again(monkeypatch):
    monkeypatch.setattr(neighbors, "balanced_subsample", None)
    scores = score(cells((200, 200)))
    balanced, whole = (one(scores, "entropy_per_cell", "corrected", subset).value for subset in ("balanced", ""))
    assert balanced == whole


def test_entropy_per_label_averages_to_the_whole():
    data = cells()
    scores = score(data, ["corrected"])
    names, counts = np.unique(data.obs["label"], return_counts=True)
    per_label = [one(scores, "entropy_per_cell", "corrected", condition=name).value for name in names]
    assert np.average(per_label, weights=counts) == pytest.approx(one(scores, "entropy_per_cell", "corrected").value)


def test_fewer_cells_than_neighbors():
    """0.10.2 raises there; corrected takes all cells and says that the ratio means nothing."""
    scores = score(cells((70, 50)))
    reference = one(scores, "entropy_per_cell", "reference")
    assert (reference.status, reference.value) == ("not_applicable", None)
    assert "120 cells" in reference.reason
    assert "200 neighbors" in reference.reason
    corrected = one(scores, "entropy_per_cell", "corrected")
    shares = np.asarray([70, 50]) / 120
    assert corrected.value == pytest.approx(-(shares * np.log2(shares)).sum())
    assert "neighborhoods of 120 instead of 200" in corrected.reason
    ratio = one(scores, "entropy_ratio", "corrected")
    assert ratio.status == "not_applicable"
    assert one(scores, "batch_silhouette", "reference").status == "ok"


@pytest.mark.parametrize("sizes", [(150, 100), (120, 81), (100, 100)])
def test_between_k_and_twice_as_many_cells(sizes):
    scores = score(cells(sizes))
    assert one(scores, "entropy_per_cell", "reference").status == "ok"
    everything = sum(sizes) == 200
    assert one(scores, "entropy_ratio", "corrected").status == ("not_applicable" if everything else "ok")


def test_labels_that_species_do_not_share_are_counted_not_raised():
    data = cells()
    data.obs["label"][:240][data.obs["label"][:240] == "type 2"] = "human only"
    scores = score(data)
    shared, alone = (one(scores, f"labels_{which}", "corrected") for which in ("shared", "not_shared"))
    assert (shared.value, alone.value) == (2, 2)
    assert alone.reason == "in one species only: human only, type 2"
    conditions = {s.condition for s in scores if s.metric == "batch_silhouette" and s.condition}
    assert conditions == {"type 0", "type 1"}
    per_label = [one(scores, "batch_silhouette", "corrected", condition=name).value for name in sorted(conditions)]
    assert one(scores, "batch_silhouette", "reference").value == pytest.approx(np.mean(per_label))


def test_no_shared_label_is_not_applicable_and_the_entropy_still_there():
    data = cells()
    data.obs["label"][:] = data.obs["organism"]
    scores = score(data)
    for profile in BOTH:
        assert one(scores, "batch_silhouette", profile).status == "not_applicable"
        assert one(scores, "entropy_per_cell", profile).status == "ok"
    assert one(scores, "labels_shared", "corrected").value == 0


def test_one_species_is_not_scorable():
    with pytest.raises(NotScorable, match="all 50 cells are of the species species 0"):
        score(cells((50,)))


def test_order_of_cells_and_names_of_species_do_not_matter():
    data = cells((300, 200, 100))
    order = np.random.default_rng(1).permutation(600)
    names = {"species 0": "z", "species 1": "y", "species 2": "x"}
    other = CellsToScore(
        data.matrix[order],
        {
            "label": data.obs["label"][order],
            "organism": np.asarray([names[name] for name in data.obs["organism"][order]], dtype=object),
        },
    )
    for metric in ("entropy_per_cell", "batch_silhouette"):
        before, after = (one(score(d, ["reference"]), metric, "reference").value for d in (data, other))
        assert after == pytest.approx(before, abs=1e-7)

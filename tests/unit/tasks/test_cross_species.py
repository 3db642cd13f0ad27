"""The cross-species task: label transfer, mixing within labels, and the reference's entropy and silhouette."""

from dataclasses import replace

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cellgauge.tasks.cells import CellsToScore, NotScorable
from cellgauge.tasks.cross_species import neighbors as neighbors
from cellgauge.tasks.cross_species import scores as cross_species
from cellgauge.tasks.cross_species import transfer

BOTH = ("reference", "corrected")
SPECIES = ("human", "mouse", "chicken", "opossum")
HEADLINE = "transfer_f1"


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


def one(scores, metric, profile="corrected", condition="", classifier=None):
    if classifier is None:
        classifier = "mean" if metric.startswith("transfer") else ""
    key = (metric, profile, condition, classifier)
    (row,) = [s for s in scores if (s.metric, s.profile, s.condition, s.classifier) == key]
    return row


def value(scores, metric, *args, **kwargs):
    return one(scores, metric, *args, **kwargs).value


# --- profile reference -----------------------------------------------------------------------------------------------


def test_reference_is_the_plain_definition():
    data = cells()
    distances = np.linalg.norm(data.matrix[:, None].astype(float) - data.matrix[None], axis=2)
    first = (data.obs["organism"] == "species 0")[np.argsort(distances, axis=1)[:, :200]].mean(axis=1)
    shares = np.stack([first, 1 - first])
    entropy = -(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares))).sum(axis=0) / np.log(2)
    assert value(score(data), "entropy_per_cell", "reference") == pytest.approx(entropy.mean(), abs=1e-12)


def test_reference_needs_as_many_cells_as_neighbors():
    """0.10.2 raises there."""
    scores = score(cells((70, 50)))
    row = one(scores, "entropy_per_cell", "reference")
    assert (row.status, row.value) == ("not_applicable", None)
    assert row.reason == "there are only 120 cells, and each needs 200 neighbors"
    assert one(scores, "batch_silhouette", "reference").status == "ok"
    assert one(score(cells((100, 100))), "entropy_per_cell", "reference").status == "ok"


@pytest.mark.parametrize("profile, searches", [("reference", 1), ("corrected", 3)])
def test_a_profile_searches_for_itself_alone(monkeypatch, profile, searches):
    sizes = []
    search = neighbors.neighborhoods
    monkeypatch.setattr(
        neighbors, "neighborhoods", lambda *args, **how: sizes.append(len(args[0])) or search(*args, **how)
    )
    scores = score(cells(), [profile])
    assert len(sizes) == searches and sum(sizes) == 400
    assert {s.profile for s in scores} == {profile}
    both = [s for s in score(cells()) if s.profile == profile]
    assert scores == both


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
    before, after = score(data), score(other)
    for metric in ("entropy_per_cell", "batch_silhouette"):
        assert value(after, metric, "reference") == pytest.approx(value(before, metric, "reference"), abs=1e-7)
    for metric in ("bras", "entropy_ratio", "transfer_f1", "transfer_balanced_accuracy"):
        assert value(after, metric) == pytest.approx(value(before, metric), abs=1e-7)


def test_one_species_is_not_scorable():
    with pytest.raises(NotScorable, match="all 50 cells are of one species, species 0"):
        score(cells((50,)))


# --- planted worlds --------------------------------------------------------------------------------------------------


def planted(world, seed=0, n=60, dims=20, species=SPECIES, n_labels=4):
    """Cells of which the right order is known: `perfect` > `pairs` >= `apart` > `noise` > `wrong`."""
    generator = np.random.default_rng(seed)
    centers = generator.normal(10, 8, (n_labels, dims))
    far = np.r_[np.full(5, 6.0), np.zeros(dims - 5)]
    steps = {"pairs": [0, 0, 1, 1], "apart": [0, 1, 2, 3]}.get(world, [0, 0, 0, 0])
    of_species, of_label = (codes.ravel() for codes in np.indices((len(species), n_labels)).repeat(n, axis=2))
    place = (of_label + of_species) % n_labels if world == "wrong" else of_label
    matrix = (10 if world == "noise" else centers[place]) + generator.normal(size=(len(of_label), dims))
    matrix += np.outer(np.asarray(steps)[of_species], far)
    if world == "one point":
        matrix[:] = 3.3
    labels = np.asarray([f"type {code}" for code in of_label], dtype=object)
    return CellsToScore(
        matrix.astype(np.float32), {"label": labels, "organism": np.asarray(species, dtype=object)[of_species]}
    )


@pytest.fixture(scope="module", params=[0, 1])
def worlds(request):
    names = ("perfect", "pairs", "apart", "noise", "wrong", "one point")
    scored = {name: score(planted(name, request.param), ["corrected"], n_neighbors=50) for name in names}
    return {
        name: {m: value(rows, m) for m in (HEADLINE, "transfer_balanced_accuracy", "bras", "entropy_ratio")}
        for name, rows in scored.items()
    }


def test_the_headline_puts_worlds_in_their_order(worlds):
    f1 = {name: values[HEADLINE] for name, values in worlds.items()}
    assert f1["perfect"] == f1["pairs"] == 1
    assert 0.8 < f1["apart"] <= 1
    assert f1["noise"] == pytest.approx(1 / 4, abs=0.04)
    assert f1["one point"] == pytest.approx(0.1, abs=1e-9)  # one label given to all: F1 .4 of one of four labels
    assert f1["wrong"] == 0


def test_balanced_accuracy_of_worlds(worlds):
    accuracy = {name: values["transfer_balanced_accuracy"] for name, values in worlds.items()}
    assert accuracy["perfect"] == accuracy["pairs"] == 1
    assert accuracy["noise"] == pytest.approx(1 / 4, abs=0.04)
    assert accuracy["one point"] == 1 / 4
    assert accuracy["wrong"] == 0


def test_bras_sees_that_pairs_of_species_are_apart(worlds):
    bras = {name: values["bras"] for name, values in worlds.items()}
    assert bras["perfect"] > 0.95
    assert bras["pairs"] < 0.5
    assert bras["apart"] < 0.3
    assert bras["wrong"] < 0.1


def test_the_entropy_sees_what_is_apart_and_what_lies_on_another_type(worlds):
    ratio = {name: values["entropy_ratio"] for name, values in worlds.items()}
    assert ratio["perfect"] == pytest.approx(1, abs=0.02)
    assert ratio["pairs"] == pytest.approx(0.5, abs=0.02)  # 1 of 2 bits
    assert ratio["apart"] == pytest.approx(0, abs=1e-3)
    assert ratio["wrong"] == pytest.approx(0, abs=1e-3)


def test_noise_and_a_single_point_mix_like_cards_so_mixing_is_no_headline(worlds):
    for name in ("noise", "one point"):
        assert worlds[name]["bras"] > 0.95
        assert worlds[name]["entropy_ratio"] == pytest.approx(1, abs=0.05)


def test_the_headline_comes_first_in_profile_corrected():
    rows = [s for s in score(cells()) if s.profile == "corrected"]
    assert (rows[0].metric, rows[0].classifier, rows[0].condition) == (HEADLINE, "mean", "")


@given(st.lists(st.integers(12, 60), min_size=8, max_size=8), st.integers(0, 1000))
@settings(max_examples=examples(8), deadline=None)
def test_unequal_proportions_are_not_punished(sizes, seed):
    """Species and labels as uneven as can be, each type where it belongs."""
    data = planted("perfect", seed, species=SPECIES)
    keep = np.concatenate(
        [
            np.flatnonzero((data.obs["organism"] == species) & (data.obs["label"] == label))[: sizes[(3 * i + j) % 8]]
            for i, species in enumerate(SPECIES)
            for j, label in enumerate(np.unique(data.obs["label"]))
        ]
    )
    data = CellsToScore(data.matrix[keep], {name: column[keep] for name, column in data.obs.items()})
    scores = score(data, ["corrected"])
    assert value(scores, HEADLINE) > 0.999
    assert value(scores, "entropy_ratio") == pytest.approx(1, abs=0.08)
    assert value(scores, "bras") > 0.9


# --- entropy within labels -------------------------------------------------------------------------------------------


def test_entropy_within_labels_by_hand():
    data = cells((120, 80), apart=0.5)
    species = np.unique(data.obs["organism"], return_inverse=True)[1]
    ratios = {}
    for label in np.unique(data.obs["label"]):
        rows = data.obs["label"] == label
        own = species[rows]
        k = min(np.bincount(own))
        nearest = np.argsort(np.linalg.norm(data.matrix[rows][:, None] - data.matrix[rows][None], axis=2), axis=1)
        generator = np.random.default_rng(0)
        at_random = np.argsort(generator.random((40_000, len(own))), axis=1)[:, :k]
        observed, expected = (_entropy(own[chosen]).mean() for chosen in (nearest[:, :k], at_random))
        ratios[label] = observed / expected
    scores = score(data, ["corrected"])
    for label, ratio in ratios.items():
        assert value(scores, "entropy_ratio", condition=label) == pytest.approx(ratio, abs=2e-3)
    assert value(scores, "entropy_ratio") == pytest.approx(np.mean(list(ratios.values())), abs=2e-3)


def _entropy(codes):
    share = codes.mean(axis=1)
    shares = np.stack([share, 1 - share])
    return -(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares))).sum(axis=0)


def test_a_species_with_few_cells_of_a_label_is_no_part_of_its_entropy():
    data = cells((150, 150, 40))
    labels, species = data.obs["label"], data.obs["organism"]
    few = np.flatnonzero((labels == "type 1") & (species == "species 2"))
    keep = np.setdiff1d(np.arange(340), few[9:])
    trimmed = CellsToScore(data.matrix[keep], {name: column[keep] for name, column in data.obs.items()})
    without = np.setdiff1d(np.arange(340), few)
    none = CellsToScore(data.matrix[without], {name: column[without] for name, column in data.obs.items()})
    first, second = (value(score(d, ["corrected"]), "entropy_ratio", condition="type 1") for d in (trimmed, none))
    assert first == pytest.approx(second, abs=1e-12)


# --- label transfer --------------------------------------------------------------------------------------------------


def by_library(data, train, test, labels):
    """F1 and balanced accuracy of both classifiers by scikit-learn."""
    species, names, matrix = data.obs["organism"], data.obs["label"].astype(str), data.matrix
    first, second = ((species == name) & np.isin(names, labels) for name in (train, test))
    results = {}
    for name, model in (("logistic_regression", LogisticRegression()), ("knn", KNeighborsClassifier(5))):
        fitted = make_pipeline(StandardScaler(), model).fit(matrix[first], names[first])
        predicted = fitted.predict(matrix[second])
        results[name] = (
            f1_score(names[second], predicted, average="macro", labels=labels),
            balanced_accuracy_score(names[second], predicted),
        )
    return results


@pytest.fixture(scope="module")
def blurred():
    """Species and types that overlap, so that no value is 0 or 1; axes of unlike scale."""
    data = cells((120, 90, 70), apart=0.7, dims=5)
    generator = np.random.default_rng(3)
    matrix = (data.matrix + 2 * generator.normal(size=data.matrix.shape)) * [1, 10, 0.1, 1, 3]
    return replace(data, matrix=matrix.astype(np.float32))


def test_transfer_is_what_scikit_learn_says(blurred):
    scores = score(blurred, ["corrected"])
    labels = ["type 0", "type 1", "type 2"]
    names = [f"species {i}" for i in range(3)]
    pairs = [(a, b) for a in names for b in names if a != b]
    expected = {f"{a} to {b}": by_library(blurred, a, b, labels) for a, b in pairs}
    assert 0.3 < expected["species 0 to species 1"]["knn"][0] < 0.99
    for pair, of_classifiers in expected.items():
        for place, metric in enumerate(("transfer_f1", "transfer_balanced_accuracy")):
            for name, values in of_classifiers.items():
                assert value(scores, metric, condition=pair, classifier=name) == pytest.approx(values[place], abs=1e-9)
            mean = np.mean([values[place] for values in of_classifiers.values()])
            assert value(scores, metric, condition=pair) == pytest.approx(mean, abs=1e-9)
    for place, metric in enumerate(("transfer_f1", "transfer_balanced_accuracy")):
        mean = np.mean([values[place] for by in expected.values() for values in by.values()])
        assert value(scores, metric) == pytest.approx(mean, abs=1e-9)
    assert {s.condition for s in scores if s.metric == "transfer_f1" and s.condition} == set(expected)


def test_labels_that_a_pair_does_not_share_are_not_asked_about_and_told(blurred):
    data = replace(blurred, obs={name: column.copy() for name, column in blurred.obs.items()})
    labels, species = data.obs["label"], data.obs["organism"]
    labels[(labels == "type 2") & (species == "species 0")] = "human only"
    few = np.flatnonzero((labels == "type 0") & (species == "species 2"))[9:]
    labels[few] = "rare"
    scores = score(data, ["corrected"])
    shared = {"species 0 to species 1": ["type 0", "type 1"], "species 1 to species 2": ["type 1", "type 2"]}
    for pair, asked in shared.items():
        expected = by_library(data, *pair.split(" to "), asked)
        assert value(scores, "transfer_f1", condition=pair, classifier="knn") == pytest.approx(expected["knn"][0])
        assert value(scores, "labels_shared", condition=pair) == 2
    reason = one(scores, "labels_shared", condition="species 1 to species 2").reason
    n = 9 + len(few)
    assert reason == f"without {n} cells of the test species, of labels that are not shared: rare, type 0"
    # human and the third species share one label alone: nothing to tell apart
    assert value(scores, "labels_shared", condition="species 0 to species 2") == 1
    conditions = {s.condition for s in scores if s.metric == "transfer_f1" and s.condition}
    assert len(conditions) == 4 and "species 0 to species 2" not in conditions
    row = one(scores, "transfer_f1")
    assert row.reason == (
        "without pairs that share fewer than two labels: species 0 to species 2, species 2 to species 0"
    )
    assert row.value == pytest.approx(np.mean([value(scores, "transfer_f1", condition=c) for c in conditions]))
    assert one(scores, "labels_not_shared").reason == "in one species only: human only, rare"


def test_without_a_shared_label_nothing_is_transferred_or_mixed():
    data = cells()
    data.obs["label"][:] = data.obs["organism"]
    scores = score(data)
    assert one(scores, "entropy_per_cell", "reference").status == "ok"
    assert one(scores, "batch_silhouette", "reference").status == "not_applicable"
    rows = {s.metric: s for s in scores if s.profile == "corrected" and not s.condition}
    for metric in ("transfer_f1", "transfer_balanced_accuracy"):
        assert rows[metric].status == "not_applicable" and rows[metric].classifier == ""
        assert rows[metric].reason == "no two species share two labels of at least 10 cells in each"
    for metric in ("bras", "entropy_ratio"):
        assert rows[metric].status == "not_applicable"
        assert rows[metric].reason == "no label has enough cells of two species"
    assert rows["labels_shared"].value == 0


class SplitOf:
    """What `CellsToScore.left_out` asks of a split."""

    def __init__(self, name, columns):
        self.name = self.organism = name
        self.columns = tuple(columns)
        self.cells = np.arange(len(columns["label"]))
        self._columns = columns

    def column(self, name):
        return self._columns[name]


def without_rows(data, missing):
    """The same cells, of which a model could not embed some."""
    names = list(dict.fromkeys(data.obs["organism"]))
    splits = [SplitOf(n, {c: v[data.obs["organism"] == n] for c, v in data.obs.items()}) for n in names]
    embedded = np.full(data.n_cells, True)
    embedded[missing] = False
    obs = {name: column[embedded] for name, column in data.obs.items()}
    left_out = {name: column[~embedded] for name, column in data.obs.items()} if len(missing) else {}
    return CellsToScore(data.matrix[embedded], obs, left_out, splits, embedded)


def test_cells_without_a_row_count_as_named_wrong():
    data = planted("perfect", species=SPECIES[:2])
    of_mouse = np.flatnonzero((data.obs["organism"] == "mouse") & (data.obs["label"] == "type 1"))
    scores = score(without_rows(data, of_mouse[:15]), ["corrected"])
    assert value(scores, "transfer_balanced_accuracy", condition="human to mouse") == pytest.approx(1 - 15 / 60 / 4)
    f1 = (3 + 2 * 45 / (60 + 45)) / 4
    assert value(scores, "transfer_f1", condition="human to mouse") == pytest.approx(f1)
    assert value(scores, "transfer_f1", condition="mouse to human") == 1


@given(st.data())
@settings(max_examples=examples(8), deadline=None)
def test_leaving_out_what_is_hard_never_wins(data):
    """Cells of whole labels, of single species, any of them: the fewer a perfect model embeds, the lower its headline."""
    whole = planted("perfect", n=20, species=SPECIES[:3])
    missing = data.draw(st.sets(st.integers(0, whole.n_cells - 1), max_size=40))
    label = data.draw(st.sampled_from(["", "type 0", "type 3"]))
    species = data.draw(st.sampled_from(SPECIES[:3]))
    missing |= set(np.flatnonzero((whole.obs["label"] == label) & (whole.obs["organism"] == species)).tolist())
    scores = score(without_rows(whole, sorted(missing)), ["corrected"])
    best = value(score(whole, ["corrected"]), HEADLINE)
    assert best > 0.999
    assert value(scores, HEADLINE) <= best
    assert value(scores, "labels_shared", condition="human to mouse") == 4
    if missing:
        assert value(scores, "transfer_balanced_accuracy") < best


def test_a_training_species_of_one_label_names_it_and_of_none_nothing():
    data = planted("perfect", species=SPECIES[:2])
    human = data.obs["organism"] == "human"
    only = score(without_rows(data, np.flatnonzero(human & (data.obs["label"] != "type 2"))), ["corrected"])
    assert value(only, "transfer_balanced_accuracy", condition="human to mouse") == pytest.approx(1 / 4)
    assert value(only, "transfer_balanced_accuracy", condition="mouse to human") == pytest.approx(1 / 4)


# --- donors ----------------------------------------------------------------------------------------------------------


def test_scores_without_each_donor_of_the_test_species(blurred):
    donors = np.asarray([f"d{i % 5}" for i in range(blurred.n_cells)], dtype=object)
    scores = score(replace(blurred, obs={**blurred.obs, "donor": donors}), ["corrected"])
    plain = score(blurred, ["corrected"])
    for metric in ("transfer_f1", "transfer_balanced_accuracy"):
        for classifier in ("mean", "logistic_regression", "knn"):
            mean = value(scores, metric, classifier=classifier)
            assert mean == pytest.approx(value(plain, metric, classifier=classifier), abs=1e-12)
            without = {
                s.condition: s.value for s in scores if (s.metric, s.classifier) == (f"{metric}_without", classifier)
            }
            assert set(without) == {f"{name}/d{i}" for name in set(blurred.obs["organism"]) for i in range(5)}
            assert mean - 0.2 < min(without.values()) < mean < max(without.values()) < mean + 0.2
    assert not [s for s in plain if s.metric.endswith("_without")]


def test_a_pair_without_a_donor_is_the_pair_without_its_cells(blurred):
    """Plainly: only the test cells of the donor go, what was trained stays."""
    donors = np.asarray([f"d{i % 3}" for i in range(blurred.n_cells)], dtype=object)
    data = replace(blurred, obs={**blurred.obs, "donor": donors})
    question = transfer.Question.of(data, 10)
    answers = transfer.transferred(data.matrix.copy(), question, 5)
    key = ("transfer_balanced_accuracy_without", "knn")
    rows = {s.condition: s.value for s in transfer.scores(data, question, answers) if (s.metric, s.classifier) == key}
    for name, value_without in rows.items():
        species, donor = name.split("/")
        recalls = []
        for pair in question.scored_pairs:
            members = np.isin(question.labels, pair.shared) & (question.species == pair.test)
            if question.species_names[pair.test] == species:
                members &= donors != donor
            given = answers["knn"][pair.train]
            labels = np.unique(question.labels[members])
            recalls.append(np.mean([(given[members & (question.labels == k)] == k).mean() for k in labels]))
        assert value_without == pytest.approx(np.mean(recalls))
    assert len(rows) == 3 * len(question.species_names)


def test_an_unknown_donor_or_a_species_of_one_leaves_no_interval(blurred):
    for donors in (np.where(np.arange(280) == 7, "", "d"), blurred.obs["organism"]):
        rows = score(replace(blurred, obs={**blurred.obs, "donor": donors.astype(object)}), ["corrected"])
        assert not [s for s in rows if s.metric.endswith("_without")]

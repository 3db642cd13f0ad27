"""The label prediction task: folds, profiles, means, donors, expression features, and everything that can fail."""

import itertools
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import tiny
from scipy.sparse import csr_matrix
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, brier_score_loss
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cellgauge.core.errors import CellgaugeError
from cellgauge.files.split import Split
from cellgauge.tasks.cells import CellsToScore, NotScorable
from cellgauge.tasks.label_prediction import scores as label_prediction
from cellgauge.tasks.label_prediction.scores import CLASSIFIERS
from cellgauge.tasks.label_prediction.scores import METRICS as METRICS_OF

BOTH = ("reference", "corrected")
METRICS = METRICS_OF["reference"]
SHARED = [metric for metric in METRICS if metric in METRICS_OF["corrected"]]
ALWAYS = [metric for metric in METRICS_OF["corrected"] if metric != "f1_rare"]
FAST = {"n_trees": 10}


def cells(sizes=(80, 60, 40), dims=6, seed=0, donors=4, spread=1.0):
    generator = np.random.default_rng(seed)
    codes = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    matrix = generator.normal(0, spread, (len(sizes), dims))[codes] + generator.normal(size=(len(codes), dims))
    obs = {"label": np.asarray([f"type {code}" for code in codes], dtype=object)}
    if donors:
        obs["donor"] = np.asarray([f"donor {i}" for i in generator.integers(0, donors, len(codes))], dtype=object)
    return CellsToScore(matrix.astype(np.float32), obs)


def score(cells, profiles=BOTH, seed=42, **params):
    return list(label_prediction.score(cells, profiles=profiles, seed=seed, **{**FAST, **params}))


def pick(scores, metric, profile="reference", classifier="", subset="", fold=None):
    wanted = (metric, profile, classifier, subset, fold)
    (found,) = [
        s for s in scores if (s.metric, s.profile, s.classifier, s.subset, s.fold) == wanted and not s.condition
    ]
    return found


def plain(matrix, labels, average, n_trees=10):
    """cz-benchmarks 0.10.2's recipe, in scikit-learn's words: classifier -> metric -> folds."""
    codes = np.unique(labels, return_inverse=True)[1]
    pipelines = {
        "logistic_regression": make_pipeline(StandardScaler(), LogisticRegression()),
        "knn": make_pipeline(StandardScaler(), KNeighborsClassifier()),
        "random_forest": RandomForestClassifier(n_trees, random_state=42),
    }
    scoring = {
        "accuracy": "accuracy",
        **{name: name if average == "binary" else f"{name}_macro" for name in ("f1", "precision", "recall")},
        "auroc": "roc_auc" if average == "binary" else "roc_auc_ovr",
    }
    folds = StratifiedKFold(5, shuffle=True, random_state=42)
    found = {name: cross_validate(p, matrix, codes, cv=folds, scoring=scoring) for name, p in pipelines.items()}
    return {name: {metric: list(result[f"test_{metric}"]) for metric in METRICS} for name, result in found.items()}


@pytest.mark.parametrize("sizes, average", [((80, 60, 40), "macro"), ((90, 60), "binary")])
@pytest.mark.filterwarnings("ignore")
def test_reference_equals_the_recipe_in_scikit_learn(sizes, average):
    data = cells(sizes)
    expected, scores = plain(data.matrix, data.obs["label"], average), score(data, ["reference"])
    for classifier in CLASSIFIERS:
        for metric in METRICS:
            folds = [pick(scores, metric, classifier=classifier, fold=fold).value for fold in range(5)]
            assert folds == pytest.approx(expected[classifier][metric], abs=1e-12)
            mean = pick(scores, metric, classifier=classifier).value
            assert mean == pytest.approx(np.mean(expected[classifier][metric]), abs=1e-12)
    for metric in METRICS:
        whole = np.mean([expected[classifier][metric] for classifier in CLASSIFIERS])
        assert pick(scores, metric, classifier="mean").value == pytest.approx(whole, abs=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_two_classes_are_averaged_in_the_corrected_profile():
    data = cells((90, 60))
    macro, binary = (plain(data.matrix, data.obs["label"], average) for average in ("macro", "binary"))
    scores = score(data)
    for metric, ours in (("f1", "f1"), ("precision", "precision"), ("recall", "balanced_accuracy")):
        found = pick(scores, ours, "corrected", "knn", "random_folds").value
        assert found == pytest.approx(np.mean(macro["knn"][metric]), abs=1e-12)
        assert found != pytest.approx(np.mean(binary["knn"][metric]), abs=1e-6)
    assert pick(scores, "auroc", "corrected", "knn", "random_folds").value == pytest.approx(
        np.mean(binary["knn"]["auroc"]), abs=1e-12
    )


def test_random_folds_are_fitted_once_for_both_profiles(monkeypatch):
    fitted = []
    fit = label_prediction.random_forest
    monkeypatch.setattr(label_prediction, "random_forest", lambda *a, **options: fitted.append(a) or fit(*a, **options))
    scores = score(cells(donors=0))
    assert len(fitted) == 5
    for classifier in CLASSIFIERS:
        for metric in SHARED:
            pair = [
                pick(scores, metric, p, classifier, s).value
                for p, s in (("reference", ""), ("corrected", "random_folds"))
            ]
            assert pair[0] == pytest.approx(pair[1], abs=1e-12)


def test_small_classes_are_dropped_and_counted():
    data = cells((50, 30, 9, 10, 1))
    scores = score(data)
    for profile in BOTH:
        assert pick(scores, "n_classes", profile).value == 3
        assert pick(scores, "n_classes_dropped", profile).value == 2
        assert pick(scores, "n_cells_dropped", profile).value == 10
    kept = np.isin(data.obs["label"], ["type 0", "type 1", "type 3"])
    alone = score(CellsToScore(data.matrix[kept], {name: column[kept] for name, column in data.obs.items()}))
    assert pick(alone, "f1", classifier="knn").value == pick(scores, "f1", classifier="knn").value


@pytest.mark.parametrize("sizes, n_large", [((60,), 1), ((60, 9), 1), ((9, 9, 9), 0)])
def test_fewer_than_two_large_labels_are_not_scorable(sizes, n_large):
    with pytest.raises(NotScorable, match=f"{n_large} of {len(sizes)} labels have at least 10 cells"):
        score(cells(sizes))


def test_means_and_indicators():
    scores = score(cells())
    for profile, subset in (("reference", ""), ("corrected", "random_folds"), ("corrected", "donor_folds")):
        for classifier in CLASSIFIERS:
            n_folds = 4 if subset == "donor_folds" else 5
            assert pick(scores, "folds_succeeded", profile, classifier, subset).value == n_folds
            metric = "recall" if profile == "reference" else "balanced_accuracy"
            folds = [pick(scores, metric, profile, classifier, subset, fold).value for fold in range(n_folds)]
            assert pick(scores, metric, profile, classifier, subset).value == pytest.approx(np.mean(folds))
        assert 1 <= pick(scores, "iterations", profile, "logistic_regression", subset).value <= 100


def test_a_good_embedding_beats_noise_and_a_rotation_changes_little():
    data = cells(spread=3)
    noise = CellsToScore(np.random.default_rng(1).normal(size=data.matrix.shape).astype(np.float32), data.obs)
    good, bad = (pick(score(d), "f1", classifier="mean").value for d in (data, noise))
    assert good > 0.9
    assert bad < 0.5
    assert pick(score(data), "auroc", classifier="mean").value > 0.95


def test_a_scaled_and_shifted_embedding_scores_the_same():
    data = cells()
    moved = CellsToScore(data.matrix * np.float32(64) + np.float32(256), data.obs)
    for metric in METRICS:
        before, after = (pick(score(d), metric, classifier="knn").value for d in (data, moved))
        assert after == pytest.approx(before, abs=1e-12)


# --- donors ----------------------------------------------------------------------------------------------------------


def test_donor_folds_hold_out_donors():
    """Labels that follow a shift of the donor: known donors are easy, new ones impossible."""
    generator = np.random.default_rng(0)
    donors, codes = np.repeat(np.arange(5), 60), generator.integers(0, 2, 300)
    # every donor has a place of its own, and there the labels lie on sides that mean nothing elsewhere
    side = np.asarray([1, -1, 1, -1, 1])[donors] * (2 * codes - 1)
    matrix = (
        np.stack([20.0 * donors, 3.0 * side, generator.normal(size=300)], axis=1) + generator.normal(size=(300, 3)) / 2
    )
    obs = {"label": codes.astype(str).astype(object), "donor": donors.astype(str).astype(object)}
    scores = score(CellsToScore(matrix.astype(np.float32), obs))
    assert pick(scores, "accuracy", "corrected", "knn", "random_folds").value > 0.9
    assert pick(scores, "accuracy", "corrected", "knn", "donor_folds").value < 0.6


@pytest.mark.parametrize("donors, n_folds", [(2, 2), (3, 3), (8, 5)])
def test_there_are_as_many_folds_as_donors_up_to_five(donors, n_folds):
    scores = score(cells(donors=donors))
    assert pick(scores, "folds_succeeded", "corrected", "knn", "donor_folds").value == n_folds


@pytest.mark.parametrize(
    "donor, reason",
    [(None, "no column 'donor'"), ("d1", "all cells are of one donor, d1"), ("", "the donor of no cell is known")],
)
def test_without_several_donors_the_reason_stands_in_a_row(donor, reason):
    data = cells(donors=0)
    if donor is not None:
        data.obs["donor"] = np.full(len(data.matrix), donor, dtype=object)
    (row,) = [s for s in score(data) if s.subset == "donor_folds"]
    assert (row.status, row.profile) == ("not_applicable", "corrected")
    assert reason in row.reason


def test_each_score_of_held_out_donors_stands_without_one_donor_after_the_other():
    data = cells(donors=8, spread=2.0)
    data.obs["donor"][:20] = ""
    scores = score(data)
    without = [s for s in scores if s.metric.endswith("_without")]
    assert len(without) == 8 * len(ALWAYS) * 4 and {(s.profile, s.subset) for s in without} == {
        ("corrected", "donor_folds")
    }
    assert {s.condition for s in without} == {f"donor {n}" for n in range(8)}
    whole = pick(scores, "accuracy", "corrected", "knn", "donor_folds").value
    values = [s.value for s in without if (s.metric, s.classifier) == ("accuracy_without", "knn")]
    assert min(values) < whole < max(values)
    assert pick(scores, "n_donors", "corrected", subset="donor_folds").value == 8


def test_cells_of_unknown_donor_are_left_out_and_counted():
    data = cells(donors=3)
    data.obs["donor"][:30] = ""
    known = data.obs["donor"] != ""
    scores = score(data)
    row = pick(scores, "accuracy", "corrected", "knn", "donor_folds")
    assert row.reason == "without 30 cells of unknown donor"
    rest = CellsToScore(data.matrix[known], {name: column[known] for name, column in data.obs.items()})
    assert pick(score(rest), "accuracy", "corrected", "knn", "donor_folds").value == row.value


def test_a_class_of_one_donor_counts_as_errors_and_leaves_the_auroc():
    data = cells((100, 80, 30), donors=3, spread=8)
    data.obs["donor"][data.obs["label"] == "type 2"] = "donor 0"
    scores = score(data)
    held_out = [
        fold
        for fold in range(3)
        if pick(scores, "classes_not_in_training", "corrected", subset="donor_folds", fold=fold).value
    ]
    assert len(held_out) == 1
    for fold in range(3):
        row = {m: pick(scores, m, "corrected", "knn", "donor_folds", fold).value for m in ALWAYS}
        absent = pick(scores, "classes_not_in_test", "corrected", subset="donor_folds", fold=fold).value
        if fold in held_out:
            assert absent == 0
            assert row["balanced_accuracy"] == pytest.approx(
                2 / 3, abs=0.02
            )  # two classes all right, the third all wrong
            assert row["auroc"] > 0.8  # of the two classes that training knows
        else:
            assert absent == 1
            assert row["balanced_accuracy"] > 0.98  # over the two classes that are there


def test_a_fold_that_cannot_be_fitted_is_a_row_with_its_reason():
    """Two donors of one class each: whichever is held out, training has a single class."""
    data = cells((60, 60), donors=0)
    data.obs["donor"] = np.where(data.obs["label"] == "type 0", "d0", "d1").astype(object)
    scores = score(data)
    for fold in range(2):
        row = pick(scores, "accuracy", "corrected", "logistic_regression", "donor_folds", fold)
        assert (row.status, row.value) == ("failed", None)
        assert row.reason.startswith(f"fold {fold}: ")
        assert "class" in row.reason
    mean = pick(scores, "accuracy", "corrected", "logistic_regression", "donor_folds")
    assert (mean.status, mean.reason) == ("failed", "none of 2 folds succeeded")
    assert pick(scores, "folds_succeeded", "corrected", "logistic_regression", "donor_folds").value == 0
    assert pick(scores, "folds_succeeded", "corrected", "knn", "donor_folds").value == 2
    assert pick(scores, "accuracy", "corrected", "knn", "donor_folds").value == 0
    auroc = pick(scores, "auroc", "corrected", "knn", "donor_folds", 0)
    assert auroc.status == "failed"
    over_all = pick(scores, "accuracy", "corrected", "mean", "donor_folds")
    assert over_all.reason == "mean without logistic_regression"
    assert all(s.status == "ok" for s in scores if s.profile == "reference")


def test_the_mean_is_over_the_folds_that_succeeded(monkeypatch):
    fit, calls = label_prediction.k_nearest_neighbors, []

    def failing(*args, **options):
        calls.append(args)
        if len(calls) in (2, 4):
            raise ValueError("no luck")
        return fit(*args, **options)

    monkeypatch.setattr(label_prediction, "k_nearest_neighbors", failing)
    scores = score(cells(), ["reference"])
    rows = [pick(scores, "f1", classifier="knn", fold=fold) for fold in range(5)]
    assert [row.status for row in rows] == ["ok", "failed", "ok", "failed", "ok"]
    assert rows[1].reason == "fold 1: no luck"
    mean = pick(scores, "f1", classifier="knn")
    assert mean.value == pytest.approx(np.mean([rows[fold].value for fold in (0, 2, 4)]))
    assert mean.reason == "mean over 3 of 5 folds, the others failed"
    assert pick(scores, "folds_succeeded", classifier="knn").value == 3
    others = [pick(scores, "f1", classifier=c, fold=f).value for c in CLASSIFIERS if c != "knn" for f in range(5)]
    every = np.mean([*others, *(rows[fold].value for fold in (0, 2, 4))])
    assert pick(scores, "f1", classifier="mean").value == pytest.approx(every)  # pandas' mean over rows, as upstream


@pytest.mark.parametrize("threads", ["1", "3", "8"])
def test_processes_of_their_own_change_nothing(monkeypatch, threads):
    """Large enough that the forest is ours: then every library has its process, and every thread its folds."""
    data = cells((400, 300, 200), dims=40)
    options = {"n_trees": 100}
    monkeypatch.setattr("cellgauge.core.forked.FORKS", False)
    here = score(data, **options)
    monkeypatch.setattr("cellgauge.core.forked.FORKS", True)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    calls, run = [], label_prediction.run_apart
    monkeypatch.setattr(label_prediction, "run_apart", lambda parts, *n: calls.append(len(parts)) or run(parts, *n))
    assert score(data, **options) == here
    assert calls == [min(int(threads), 5), 1]


# --- what corrected adds ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_corrected_scores_are_scikit_learns():
    data = cells((90, 60, 40), spread=0.6)
    scores, codes = score(data, classifiers=["knn"]), np.unique(data.obs["label"], return_inverse=True)[1]
    pipeline = make_pipeline(StandardScaler(), KNeighborsClassifier())
    for fold, (train, test) in enumerate(StratifiedKFold(5, shuffle=True, random_state=42).split(data.matrix, codes)):
        fitted = pipeline.fit(data.matrix[train], codes[train])
        predicted, probabilities = fitted.predict(data.matrix[test]), fitted.predict_proba(data.matrix[test])
        expected = {
            "balanced_accuracy": balanced_accuracy_score(codes[test], predicted),
            "brier": brier_score_loss(codes[test], probabilities, scale_by_half=False),
            "calibration_error": plain_calibration_error(codes[test], probabilities),
        }
        for metric, value in expected.items():
            found = pick(scores, metric, "corrected", "knn", "random_folds", fold).value
            assert found == pytest.approx(value, abs=1e-12), metric


def plain_calibration_error(truth, probabilities):
    """Guo et al. (2017), equation 3, bin by bin."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    total = 0.0
    for low, high in itertools.pairwise(np.linspace(0, 1, 16)):
        chosen = (confidence > low + 1e-12) & (confidence <= high + 1e-12)
        if chosen.any():
            total += chosen.mean() * abs(right[chosen].mean() - confidence[chosen].mean())
    return total


def test_rare_labels_have_a_score_of_their_own():
    data = cells((1500, 600, 15), donors=0, spread=3.0)
    scores = score(data, classifiers=["knn"])
    assert pick(scores, "n_classes_rare", "corrected").value == 1
    of_label = {s.condition: s.value for s in scores if s.metric == "f1" and s.condition}
    folds = [pick(scores, "f1_rare", "corrected", "knn", "random_folds", fold).value for fold in range(5)]
    assert pick(scores, "f1_rare", "corrected", "knn", "random_folds").value == pytest.approx(np.mean(folds))
    assert np.mean(folds) == pytest.approx(of_label["type 2"], abs=0.1)
    data.matrix[data.obs["label"] == "type 2"] = data.matrix[data.obs["label"] == "type 0"][:15]  # in a common label
    merged = score(data, classifiers=["knn"])
    assert pick(merged, "f1_rare", "corrected", "knn", "random_folds").value < 0.2
    assert pick(merged, "accuracy", "corrected", "knn", "random_folds").value > 0.95


def test_without_rare_labels_one_row_says_so():
    rows = [s for s in score(cells(donors=0)) if s.metric == "f1_rare"]
    assert [(s.classifier, s.status) for s in rows] == [("mean", "not_applicable")]
    assert rows[0].reason == "every label that is predicted has at least 1% of the cells"


@pytest.mark.parametrize("limit, n_converged", [(2, 0), (1000, 5)])
def test_a_regression_that_is_stopped_is_told_in_every_row_that_rests_on_it(monkeypatch, limit, n_converged):
    monkeypatch.setattr(label_prediction, "REFERENCE_ITERATIONS", 1)
    scores = score(cells(donors=0), max_iterations=limit)
    where = ("corrected", "logistic_regression", "random_folds")
    assert pick(scores, "folds_converged", *where).value == n_converged
    notes = [pick(scores, "f1", *where, fold).reason for fold in range(5)] + [pick(scores, "f1", *where).reason]
    told = "logistic_regression did not converge in 5 of 5 folds" if not n_converged else ""
    assert set(notes) == {told}
    assert (pick(scores, "iterations", "reference", "logistic_regression").value == 1) and (
        pick(scores, "iterations", *where).value == limit if not n_converged else True
    )


def test_common_units_are_not_scaled_in_corrected_alone():
    """Genes of noise with little variance beside two that tell the labels: scaled, the noise drowns them."""
    generator = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], 60)
    signal = 4 * np.eye(3)[codes] + generator.normal(size=(180, 3))
    matrix = np.hstack([signal, generator.normal(0, 0.05, (180, 300))]).astype(np.float32)
    data = CellsToScore(matrix, {"label": codes.astype(str).astype(object)})
    scaled, plain_units = score(data), score(replace(data, common_units=True))
    of = ("corrected", "knn", "random_folds")
    assert pick(plain_units, "f1", *of).value > 0.9 > pick(scaled, "f1", *of).value + 0.1
    for classifier in CLASSIFIERS:
        assert pick(scaled, "f1", classifier=classifier) == pick(plain_units, "f1", classifier=classifier)
    of = ("corrected", "random_forest", "random_folds")
    assert pick(plain_units, "f1", *of) == pick(scaled, "f1", *of)


# --- cells that the model did not embed ------------------------------------------------------------------------------


def without(data, gone):
    """The same cells, some of them without a row."""
    obs, left_out = ({name: column[rows] for name, column in data.obs.items()} for rows in (~gone, gone))
    return CellsToScore(data.matrix[~gone], obs, left_out, has_row=~gone)


def test_the_folds_are_those_of_all_cells(monkeypatch):
    """A forest that answers by chance would do: every cell's prediction is that of the full run, where training is the same."""
    data = cells((60, 60, 60), donors=0, spread=8)
    gone = np.random.default_rng(0).random(180) < 0.3
    full, part = score(data, classifiers=["knn"]), score(without(data, gone), classifiers=["knn"])
    codes = np.unique(data.obs["label"], return_inverse=True)[1]
    for fold, (_, test) in enumerate(StratifiedKFold(5, shuffle=True, random_state=42).split(codes, codes)):
        assert pick(full, "accuracy", "corrected", "knn", "random_folds", fold).value == 1
        found = pick(part, "accuracy", "corrected", "knn", "random_folds", fold).value
        assert found == pytest.approx((~gone[test]).mean())


def test_the_reference_knows_nothing_of_cells_left_out():
    data = cells(donors=0)
    gone = np.random.default_rng(0).random(180) < 0.3
    alone = CellsToScore(data.matrix[~gone], {"label": data.obs["label"][~gone]})
    expected = [s for s in score(alone) if s.profile == "reference"]
    assert [s for s in score(without(data, gone)) if s.profile == "reference"] == expected


def test_a_label_left_out_as_a_whole_counts_in_every_mean():
    data = cells((60, 60, 60), donors=3, spread=8)
    scores = score(without(data, data.obs["label"] == "type 1"))
    assert pick(scores, "n_classes", "reference").value == 2
    assert pick(scores, "n_classes", "corrected").value == 3
    for subset in ("random_folds", "donor_folds"):
        for metric in ("accuracy", "balanced_accuracy", "auroc"):
            assert pick(scores, metric, "corrected", "knn", subset).value < 0.7, metric
        assert pick(scores, "f1", "corrected", "knn", subset).value < 0.6
        assert pick(scores, "brier", "corrected", "knn", subset).value == pytest.approx(2 / 3, abs=0.02)
        assert pick(scores, "calibration_error", "corrected", "knn", subset).value == pytest.approx(1 / 3, abs=0.02)
    of_label = {s.condition: s.value for s in scores if s.metric == "f1" and s.subset == "random_folds" and s.condition}
    assert of_label["type 1"] == 0


def test_where_only_the_reference_cannot_be_scored_corrected_is():
    data = cells((60, 60, 60), donors=0, spread=8)
    scores = score(without(data, data.obs["label"] != "type 1"), classifiers=["knn"])
    (row,) = [s for s in scores if s.profile == "reference"]
    assert row.status == "not_applicable" and "1 of 1 labels" in row.reason
    assert pick(scores, "accuracy", "corrected", "knn", "random_folds").value == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize("spread", [1.0, 3.0])
@pytest.mark.parametrize("which", ["hardest", "by label", "any"])
def test_no_cells_are_worth_leaving_out(which, spread):
    """By chance, by label, or the hardest cells, in worlds whose labels can be told, apart or overlapping.

    On average over worlds: what is trained without some cells differs, by a few cells of 160 in single worlds. Where labels
    cannot be told at all, a classifier that is trained without the cells that lie wrong does guess better.
    """
    metrics = {"accuracy": 1, "balanced_accuracy": 1, "f1": 1, "auroc": 1, "brier": -1}
    gains = []
    for seed in range(6):
        world = cells((40, 40, 40, 40), dims=4, seed=seed, donors=0, spread=spread)
        labels = np.unique(world.obs["label"])
        centers = np.stack([world.matrix[world.obs["label"] == label].mean(axis=0) for label in labels])
        codes = np.unique(world.obs["label"], return_inverse=True)[1]
        distances = np.linalg.norm(world.matrix[:, None] - centers, axis=2)
        margin = (
            np.partition(distances, 1, axis=1)[:, 1] - distances[np.arange(160), codes]
        )  # negative: nearer to another
        order = {
            "hardest": np.argsort(margin),
            "by label": np.argsort(codes, kind="stable"),
            "any": np.random.default_rng(seed).permutation(160),
        }[which]
        gone = np.isin(np.arange(160), order[: 20 * (seed + 1)])
        whole, cut = (score(d, ["corrected"], classifiers=["knn"]) for d in (world, without(world, gone)))
        values = [[pick(s, m, "corrected", "knn", "random_folds").value for m in metrics] for s in (whole, cut)]
        gains.append((np.subtract(values[1], values[0])) * list(metrics.values()))
    assert (np.mean(gains, axis=0) < 0).all(), dict(zip(metrics, np.mean(gains, axis=0), strict=True))


# --- options and features --------------------------------------------------------------------------------------------


def test_classifiers_can_be_left_out():
    data = cells()
    everything, two = score(data), score(data, classifiers=["knn", "logistic_regression"])
    for classifier in ("knn", "logistic_regression"):
        assert pick(two, "f1", classifier=classifier).value == pick(everything, "f1", classifier=classifier).value
    assert not [s for s in two if s.classifier == "random_forest"]
    assert pick(two, "f1", classifier="mean").reason == "mean without random_forest"


@pytest.mark.parametrize(
    "params, message",
    [
        ({"classifiers": ["svm"]}, "unknown classifier 'svm'"),
        ({"classifiers": []}, "no classifier is named"),
        ({"min_class_size": 3}, "min_class_size is 3, but 5 folds"),
    ],
)
def test_options_that_make_no_sense(params, message):
    with pytest.raises(CellgaugeError, match=message):
        score(cells(), **params)


@pytest.fixture
def expression(tmp_path):
    """Cells of a split file that are scored on their counts; every tenth was not embedded."""
    split = Split.open(tiny.split_file(tmp_path))
    kept = np.arange(len(split.cells)) % 10 > 0
    matrix = np.random.default_rng(0).normal(size=(kept.sum(), 2)).astype(np.float32)
    columns = {name: split.column(name) for name in ("label", "donor")}
    obs, left_out = ({name: column[rows] for name, column in columns.items()} for rows in (kept, ~kept))
    return CellsToScore(matrix, obs, left_out, (split,), kept, reference_on_counts=True)


def test_the_reference_is_scored_on_expression_dense_and_centred(expression):
    dense = expression.expression().toarray()
    scores, same = score(expression), score(CellsToScore(dense, expression.obs), ["reference"])
    for classifier in (*CLASSIFIERS, "mean"):
        row = pick(scores, "f1", "reference", classifier)
        assert row.value == pick(same, "f1", "reference", classifier).value
        assert row.reason == "classifiers trained on raw counts, not on the PCA"
        assert row.status == "ok"
    assert np.isfinite(pick(scores, "auroc", classifier="knn", fold=0).value)


def test_corrected_is_scored_on_the_embedding_whatever_the_reference_sees(expression, monkeypatch):
    embedded = replace(expression, reference_on_counts=False)
    expected = [s for s in score(embedded) if s.profile == "corrected"]
    assert [s for s in score(expression) if s.profile == "corrected"] == expected
    monkeypatch.setattr(CellsToScore, "expression", None)  # nor are the counts read for it
    assert score(expression, ["corrected"]) == expected


def test_expression_above_the_limit_is_used_sparse_and_says_so(expression):
    dense, sparse = score(expression), score(expression, max_dense_gb=1e-6)
    size = 4e-9 * 108 * 60
    for classifier in (*CLASSIFIERS, "mean"):
        row = pick(sparse, "accuracy", classifier=classifier)
        assert row.reason == (
            "classifiers trained on raw counts, not on the PCA, and not centered: "
            f"dense counts would take {size:.3g} GB, limit 1e-06 GB"
        )
        assert row.status == "ok"
    # distances do not change by centring, and a forest does not see it; only logistic regression may
    for classifier in ("knn", "random_forest"):
        assert (
            pick(sparse, "accuracy", classifier=classifier).value
            == pick(dense, "accuracy", classifier=classifier).value
        )
    assert pick(sparse, "accuracy", classifier="logistic_regression").value == pytest.approx(
        pick(dense, "accuracy", classifier="logistic_regression").value, abs=0.05
    )


def test_a_sparse_matrix_is_never_made_dense(expression, monkeypatch):
    """But for a block of rows. (Logistic regression is left out: its solver keeps some twenty vectors of all genes.)"""
    parts = expression.expression()
    wide = csr_matrix((parts.data, parts.indices, parts.indptr), (108, 20_000))
    monkeypatch.setattr(CellsToScore, "expression", lambda self: wide.copy())
    monkeypatch.setattr("cellgauge.metrics.knn.distances.ROWS_BYTES", 1 << 18)
    options = {"max_dense_gb": 0.001, "classifiers": ["knn", "random_forest"]}
    score(expression, ["reference"], **options)
    tracemalloc.start()
    score(expression, ["reference"], **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6 < 108 * 20_000 * 4


# --- large splits ----------------------------------------------------------------------------------------------------


def test_up_to_the_limit_and_beside_the_reference_all_cells_are_asked_about():
    data = cells()
    assert score(data, ["corrected"], exact_up_to=180) == score(data, ["corrected"])
    assert score(data, BOTH, exact_up_to=50) == score(data, BOTH)


def test_beyond_the_limit_a_sample_is_asked_about_and_every_row_says_so(monkeypatch):
    data = cells((400, 300, 200), dims=10, spread=1.5, donors=5)
    asked, trained = [], {}
    plain_fit = label_prediction._fit

    def fit(name, fit, train, test, fold, classes, profiles):
        asked.append(len(fold.test))
        trained.setdefault(name, []).append(len(train))
        if name != "random_forest":  # scaled by the cells that the classifier is trained on
            np.testing.assert_allclose([train.mean(axis=0), train.var(axis=0)], [[0] * 10, [1] * 10], atol=1e-4)
        return plain_fit(name, fit, train, test, fold, classes, profiles)

    monkeypatch.setattr(label_prediction, "_fit", fit)
    estimated, exact = score(data, ["corrected"], exact_up_to=300), score(data, ["corrected"])
    of_folds, n = [row for row in estimated if row.fold is not None and row.metric == "accuracy"], len(CLASSIFIERS)
    assert sum(asked[: 10 * n]) == 2 * n * 300 and sum(asked[10 * n :]) == 2 * n * 900
    assert trained["knn"][:10] == trained["knn"][10:]  # all training cells
    for name in ("logistic_regression", "random_forest"):
        assert sum(trained[name][:10]) == 2 * 4 * 300
    note = "tested and trained on a sample of 300 of 900 cells; nearest neighbors are searched among all training cells"
    assert len(of_folds) == 10 * n and all(row.reason == note for row in of_folds)
    for subset in ("random_folds", "donor_folds"):
        for name in CLASSIFIERS:
            rows = [pick(scores, "accuracy", "corrected", name, subset) for scores in (estimated, exact)]
            assert (
                rows[0].value == pytest.approx(rows[1].value, abs=0.08)
                and note in rows[0].reason
                and not rows[1].reason
            )


def test_a_fold_without_a_sampled_cell_to_train_on_is_a_row_with_the_reason():
    rows = score(cells(), ["corrected"], exact_up_to=1)
    reasons = {row.reason for row in rows if row.fold is not None and row.metric == "accuracy"}
    assert any("has 0 training and 1 test cells" in reason for reason in reasons)
    assert not any(row.value is not None for row in rows if row.classifier and row.metric == "accuracy")


def test_neighbors_of_the_sampled_cells_are_those_without_a_limit(monkeypatch):
    data, predictions, plain = cells((300, 200, 100), donors=5), [], label_prediction.k_nearest_neighbors

    def keep(train, codes, test, n_classes, **options):
        predicted = plain(train, codes, test, n_classes, **options)
        rows = zip(test.tolist(), predicted.probabilities, strict=True)
        predictions.append({tuple(row): tuple(probabilities) for row, probabilities in rows})
        return predicted

    monkeypatch.setattr(label_prediction, "k_nearest_neighbors", keep)
    score(data, ["corrected"], classifiers=["knn"])
    n_fits = len(predictions)
    score(data, ["corrected"], classifiers=["knn"], exact_up_to=200)
    whole, sampled = predictions[:n_fits], predictions[n_fits:]
    assert len(sampled) == n_fits == 10 and sum(map(len, sampled)) == 2 * 200
    for all_cells, some in zip(whole, sampled, strict=True):
        for row, probabilities in some.items():
            np.testing.assert_allclose(probabilities, all_cells[row], atol=1e-5)


def test_cells_that_were_not_embedded_are_sampled_too():
    """As the others they count as wrong, as often as they are drawn."""
    data = cells((300, 300), dims=4, spread=4.0, donors=0)
    lost = np.arange(600) % 3 == 0
    obs = {name: column[~lost] for name, column in data.obs.items()}
    left_out = {name: column[lost] for name, column in data.obs.items()}
    part = replace(data, matrix=data.matrix[~lost], obs=obs, left_out=left_out, has_row=~lost)
    rows = score(part, ["corrected"], classifiers=["knn"], exact_up_to=200)
    accuracy = pick(rows, "accuracy", "corrected", "knn", "random_folds").value
    assert accuracy == pytest.approx(2 / 3, abs=0.1)

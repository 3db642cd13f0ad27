"""The label prediction task: folds, profiles, means, donors, expression features, and everything that can fail."""

import tracemalloc

import numpy as np
import pytest
import tiny
from scipy.sparse import csr_matrix
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cellgauge.core.errors import CellgaugeError
from cellgauge.files.split import Split
from cellgauge.tasks.cells import CellsToScore, NotScorable
from cellgauge.tasks.label_prediction import scores as label_prediction
from cellgauge.tasks.label_prediction.scores import CLASSIFIERS, METRICS

BOTH = ("reference", "corrected")
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
    for metric in ("f1", "precision", "recall"):
        found = pick(scores, metric, "corrected", "knn", "random_folds").value
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
        for metric in METRICS:
            pair = [
                pick(scores, metric, p, classifier, s).value
                for p, s in (("reference", ""), ("corrected", "random_folds"))
            ]
            assert pair[0] == pair[1]


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
            folds = [pick(scores, "recall", profile, classifier, subset, fold).value for fold in range(n_folds)]
            assert pick(scores, "recall", profile, classifier, subset).value == pytest.approx(np.mean(folds))
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
    assert len(without) == 8 * len(METRICS) * 4 and {(s.profile, s.subset) for s in without} == {
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
        row = {m: pick(scores, m, "corrected", "knn", "donor_folds", fold).value for m in METRICS}
        absent = pick(scores, "classes_not_in_test", "corrected", subset="donor_folds", fold=fold).value
        if fold in held_out:
            assert absent == 0
            assert row["recall"] == pytest.approx(2 / 3, abs=0.02)  # two classes all right, the third all wrong
            assert row["auroc"] > 0.8  # of the two classes that training knows
        else:
            assert absent == 1
            assert row["recall"] > 0.98  # over the two classes that are there


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
    obs = {name: split.column(name)[kept] for name in ("label", "donor")}
    return CellsToScore(np.zeros((kept.sum(), 2), np.float32), obs, 0, (split,), kept, uses_expression=True)


def test_expression_is_used_dense_and_centred(expression):
    dense = expression.expression().toarray()
    scores, same = score(expression), score(CellsToScore(dense, expression.obs))
    for profile, subset in (("reference", ""), ("corrected", "random_folds"), ("corrected", "donor_folds")):
        for classifier in (*CLASSIFIERS, "mean"):
            row = pick(scores, "f1", profile, classifier, subset)
            assert row.value == pick(same, "f1", profile, classifier, subset).value
            assert row.reason == "expression matrix, dense and centred"
            assert row.status == "ok"
    assert np.isfinite(pick(scores, "auroc", classifier="knn", fold=0).value)


def test_expression_above_the_limit_is_used_sparse_and_says_so(expression):
    dense, sparse = score(expression), score(expression, max_dense_gb=1e-6)
    size = 4e-9 * 108 * 60
    for classifier in (*CLASSIFIERS, "mean"):
        row = pick(sparse, "accuracy", classifier=classifier)
        assert row.reason == (
            f"expression matrix, sparse and not centred: dense would take {size:.3g} GB, limit 1e-06 GB"
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

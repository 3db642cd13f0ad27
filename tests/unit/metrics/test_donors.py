"""Scores without a donor equal scoring the cells of all others, and are as unlike as donors differ."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score, roc_auc_score

from cellgauge.metrics.agreement import adjusted_rand_index, contingency, normalized_mutual_info
from cellgauge.metrics.donors import (
    DonorCounts,
    agreements_without,
    confidence_gaps,
    means_without,
    predictions_without,
)

METRICS = ("accuracy", "balanced_accuracy", "f1", "f1_rare", "precision", "auroc", "brier", "calibration_error")
RARE = np.arange(4) > 1
N_CLASSES = 4
TRAINED = np.full(N_CLASSES, True)


def predictions(n_donors, n_cells, seed, skill=0.6):
    """Cells of some donors, one of whom lacks a class: truth, predicted, probabilities with ties, donors."""
    generator = np.random.default_rng(seed)
    truth, donors = generator.integers(0, N_CLASSES, n_cells), generator.integers(0, n_donors, n_cells)
    truth[(donors == 0) & (truth == 1)] = 2
    probabilities = np.round(generator.dirichlet(np.ones(N_CLASSES), n_cells) + skill * np.eye(N_CLASSES)[truth] / 2, 1)
    return truth, probabilities.argmax(axis=1), probabilities, donors


NOBODY = np.zeros(0, dtype=int), np.zeros(0, dtype=int)
"""Codes and donors of cells without a row, where all have one."""


def counted(truth, predicted, probabilities, donors, trained=TRAINED, left_out=NOBODY):
    return DonorCounts.of(truth, predicted, probabilities, donors, trained, RARE, left_out)


def plain(truth, predicted, probabilities, trained):
    present = np.unique(truth)
    of_present = {"labels": present, "average": None, "zero_division": 0}
    areas = [
        roc_auc_score(truth == code, probabilities[:, code]) for code in present if trained[code] and len(present) > 1
    ]
    f1 = f1_score(truth, predicted, **of_present)
    rare = f1[RARE[present]]
    bins, gaps = confidence_gaps(truth, predicted, probabilities)
    return {
        "accuracy": accuracy_score(truth, predicted),
        "balanced_accuracy": recall_score(truth, predicted, **of_present).mean(),
        "f1": f1.mean(),
        "f1_rare": rare.mean() if len(rare) else np.nan,
        "precision": precision_score(truth, predicted, **of_present).mean(),
        "auroc": np.mean(areas) if areas else np.nan,
        "brier": ((probabilities - np.eye(N_CLASSES)[truth]) ** 2).sum(axis=1).mean(),
        "calibration_error": np.abs(np.bincount(bins, gaps)).sum() / len(truth),
    }


@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.sampled_from([1, 2, 8]))
def test_scores_of_all_cells_are_those_of_scikit_learn(seed, n_cells, decimals):
    """With few decimals most probabilities are tied, as those of the nearest neighbors are."""
    generator = np.random.default_rng(seed)
    truth, predicted = generator.integers(0, N_CLASSES, (2, n_cells))
    probabilities = np.round(generator.dirichlet(np.ones(N_CLASSES), n_cells), decimals)
    counts = counted(truth, predicted, probabilities, np.zeros(n_cells, dtype=int))
    scores = {name: values[0] for name, values in counts.scores(np.ones((1, 1), dtype=int)).items()}
    assert scores == pytest.approx(plain(truth, predicted, probabilities, TRAINED), abs=1e-13, nan_ok=True)


def test_means_over_some_of_the_classes():
    truth, predicted, probabilities, donors = predictions(1, 60, seed=3)
    scores = counted(truth, predicted, probabilities, donors).scores(np.ones((1, 1), dtype=int), [2])
    third = {"labels": [2], "average": None}
    assert scores["f1"] == f1_score(truth, predicted, **third)
    assert scores["balanced_accuracy"] == recall_score(truth, predicted, **third)
    assert scores["auroc"] == pytest.approx(roc_auc_score(truth == 2, probabilities[:, 2]), abs=1e-13)
    assert scores["accuracy"] == accuracy_score(truth, predicted)


def plain_without(folds, left_out, metric):
    values, weights = [], []
    for (truth, predicted, probabilities, donors), trained in folds:
        rows = donors != left_out
        value = plain(truth[rows], predicted[rows], probabilities[rows], trained)[metric] if rows.any() else np.nan
        if not np.isnan(value):
            values.append(value)
            weights.append(np.mean(np.unique(donors) != left_out))
    return np.average(values, weights=weights)


def test_scores_without_a_donor_equal_scoring_the_others():
    of_classifiers, folds = {}, {}
    for place, name in enumerate(("knn", "random_forest")):
        folds[name] = []
        for fold, n_donors in enumerate((3, 2, 1)):
            truth, predicted, probabilities, donors = predictions(n_donors, 60, seed=10 * place + fold)
            trained = np.arange(N_CLASSES) != fold
            folds[name].append(((truth, predicted, probabilities, donors + (0, 3, 5)[fold]), trained))
        of_classifiers[name] = [counted(*cells, trained) for cells, trained in folds[name]]
    values = predictions_without(of_classifiers, 6)
    assert set(values) == {(name, metric) for name in ("knn", "random_forest", "mean") for metric in METRICS}
    for metric in METRICS:
        written = {name: [plain_without(own, donor, metric) for donor in range(6)] for name, own in folds.items()}
        written["mean"] = np.mean(list(written.values()), axis=0)
        for name, expected in written.items():
            assert values[name, metric] == pytest.approx(expected, abs=1e-9), (name, metric)


def test_agreements_and_means_without_a_donor_equal_those_of_the_others():
    generator = np.random.default_rng(1)
    labels, donors = generator.integers(0, 4, 300), generator.integers(0, 5, 300).astype(str)
    partitions = [np.where(generator.random(300) < 0.6, labels, generator.integers(0, 6, 300)) for _ in range(2)]
    agreements = {"ari": adjusted_rand_index, "nmi": normalized_mutual_info}
    values = agreements_without(labels, partitions, donors, agreements)
    widths = generator.normal(size=300)
    means = means_without(widths, donors)
    for donor in "01234":
        rows = donors != donor
        for name, agreement in agreements.items():
            expected = np.mean([agreement(contingency(labels[rows], groups[rows])) for groups in partitions])
            assert values[name][donor] == pytest.approx(expected, abs=1e-12)
        assert means[donor] == pytest.approx(widths[rows].mean())


def test_a_score_that_no_donor_defines_is_left_out():
    truth, predicted, probabilities, donors = predictions(3, 60, seed=1)
    values = predictions_without({"knn": [counted(truth, predicted, probabilities, donors, ~TRAINED)]}, 3)
    assert {metric for name, metric in values if name == "knn"} == set(METRICS) - {"auroc"}


# --- cells without a row ---------------------------------------------------------------------------------------------


def whole(truth, predicted, probabilities, donors, left_out=NOBODY):
    counts = counted(truth, predicted, probabilities, donors, left_out=left_out)
    return {name: values[0] for name, values in counts.scores(np.ones((1, len(counts.donors)), dtype=int)).items()}


@given(st.integers(0, 10_000), st.floats(0, 3), st.floats(0.01, 1), st.sampled_from(["any", "wrong", "right", "all"]))
def test_no_prediction_is_worth_leaving_out(seed, skill, share, which):
    """Exactly, where nothing is trained anew: of whatever cells, at whatever skill."""
    cells = truth, predicted, _, donors = predictions(3, 60, seed, skill)
    chosen = {"any": truth == truth, "wrong": truth != predicted, "right": truth == predicted, "all": truth == truth}
    gone = chosen[which] & (np.random.default_rng(seed).random(60) < (1 if which == "all" else share))
    full = whole(*cells)
    cut = whole(*(part[~gone] for part in cells), (truth[gone], donors[gone]))
    for metric in ("accuracy", "balanced_accuracy", "auroc"):
        assert cut[metric] <= full[metric] + 1e-12, metric
    for metric in ("brier", "calibration_error"):
        assert cut[metric] >= full[metric] - 1e-12, metric
    unassigned = np.where(gone, N_CLASSES, predicted)
    present = np.unique(truth)
    averaged = {"labels": present, "average": "macro", "zero_division": 0}
    assert cut["accuracy"] == pytest.approx((unassigned == truth).mean())
    assert cut["balanced_accuracy"] == pytest.approx(mean_recall(truth, unassigned, present))
    # what is given to nobody claims something here
    assert cut["f1"] <= f1_score(truth, unassigned, **averaged) + 1e-12
    assert cut["precision"] <= precision_score(truth, unassigned, **averaged) + 1e-12


def mean_recall(truth, predicted, present):
    return np.mean([(predicted[truth == code] == code).mean() for code in present])


def test_wrong_cells_of_equal_labels_are_not_worth_leaving_out_in_f1_and_precision():
    """Every label is given to two cells of the next one: left out, they claim a share of all labels instead."""
    truth = np.repeat(np.arange(N_CLASSES), 10)
    predicted = np.where(np.tile(np.arange(10), N_CLASSES) < 2, (truth + 1) % N_CLASSES, truth)
    probabilities, donors = np.eye(N_CLASSES)[predicted], np.zeros(40, dtype=int)
    cells = truth, predicted, probabilities, donors
    full = whole(*cells)
    gone = truth != predicted
    cut = whole(*(part[~gone] for part in cells), (truth[gone], donors[gone]))
    assert full["f1"] == full["precision"] == cut["f1"] == cut["precision"] == 0.8
    given_to_nobody = f1_score(truth, np.where(gone, N_CLASSES, predicted), labels=range(N_CLASSES), average="macro")
    assert given_to_nobody == pytest.approx(8 / 9)  # what leaving them out would win
    half = gone & (truth < 2)
    cut = whole(*(part[~half] for part in cells), (truth[half], donors[half]))
    assert cut["f1"] < full["f1"] + 0.005 and cut["precision"] < full["precision"] + 0.01


def test_nothing_embedded_is_the_worst_of_all():
    truth = np.repeat(np.arange(N_CLASSES), 5)
    nothing = np.zeros(0, dtype=int), np.zeros(0, dtype=int), np.zeros((0, N_CLASSES)), np.zeros(0, dtype=int)
    scores = whole(*nothing, (truth, np.zeros(20, dtype=int)))
    assert scores == {**dict.fromkeys(METRICS, 0.0), "brier": 2.0, "calibration_error": 1.0}

"""Scores without a donor equal scoring the cells of all others, and are as unlike as donors differ."""

import numpy as np
import pytest

from cellgauge.metrics.agreement import adjusted_rand_index, contingency, normalized_mutual_info
from cellgauge.metrics.classification import accuracy, auroc_per_class, class_scores, confusion_matrix
from cellgauge.metrics.donors import DonorCounts, agreements_without, means_without, predictions_without

METRICS = ("accuracy", "f1", "precision", "recall", "auroc")
N_CLASSES = 4


def predictions(n_donors, n_cells, seed, skill=0.6):
    """Cells of some donors, one of whom lacks a class: truth, predicted, probabilities with ties, donors."""
    generator = np.random.default_rng(seed)
    truth, donors = generator.integers(0, N_CLASSES, n_cells), generator.integers(0, n_donors, n_cells)
    truth[(donors == 0) & (truth == 1)] = 2
    probabilities = np.round(generator.dirichlet(np.ones(N_CLASSES), n_cells) + skill * np.eye(N_CLASSES)[truth] / 2, 1)
    return truth, probabilities.argmax(axis=1), probabilities, donors


def plain(truth, predicted, probabilities, trained):
    confusion = confusion_matrix(truth, predicted, N_CLASSES)
    present = confusion.sum(axis=1) > 0
    areas = auroc_per_class(truth, probabilities)
    areas = areas[trained & ~np.isnan(areas)]
    means = {name: values[present].mean() for name, values in class_scores(confusion).items()}
    return {"accuracy": accuracy(confusion), **means, "auroc": areas.mean() if len(areas) else np.nan}


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
        of_classifiers[name] = [DonorCounts.of(*cells, trained) for cells, trained in folds[name]]
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
    counts = DonorCounts.of(truth, predicted, probabilities, donors, np.full(N_CLASSES, False))
    values = predictions_without({"knn": [counts]}, 3)
    assert {metric for name, metric in values if name == "knn"} == set(METRICS) - {"auroc"}

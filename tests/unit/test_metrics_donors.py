"""Scores over draws of donors equal writing each draw out, and are as unsure as donors differ."""

import numpy as np
import pytest

from cellgauge.metrics.bootstrap import draw_counts, percentile_interval
from cellgauge.metrics.classification import accuracy, auroc_per_class, class_scores, confusion_matrix
from cellgauge.metrics.donors import DonorCounts, prediction_intervals

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


def plain_interval(folds, counts, metric):
    def over_folds(drawn):
        values, weights = [], []
        for (truth, predicted, probabilities, donors), trained in folds:
            own = np.unique(donors)
            rows = np.concatenate([np.flatnonzero(donors == d) for d in own for _ in range(drawn[d])] or [[]]).astype(
                int
            )
            value = plain(truth[rows], predicted[rows], probabilities[rows], trained)[metric] if len(rows) else np.nan
            if not np.isnan(value):
                values.append(value)
                weights.append(drawn[own].mean())
        return np.average(values, weights=weights) if values else np.nan

    draws = np.array([over_folds(drawn) for drawn in counts])
    whole = over_folds(np.ones(counts.shape[1], dtype=int))
    return draws, whole


def test_the_draws_equal_writing_each_of_them_out():
    of_classifiers, folds = {}, {}
    for place, name in enumerate(("knn", "random_forest")):
        folds[name] = []
        for fold, n_donors in enumerate((3, 2, 1)):
            truth, predicted, probabilities, donors = predictions(n_donors, 60, seed=10 * place + fold)
            trained = np.arange(N_CLASSES) != fold
            folds[name].append(((truth, predicted, probabilities, donors + (0, 3, 5)[fold]), trained))
        of_classifiers[name] = [DonorCounts.of(*cells, trained) for cells, trained in folds[name]]
    found = prediction_intervals(of_classifiers, 6, 42)
    counts = draw_counts(6, 400, 42)
    assert set(found) == {(name, metric) for name in ("knn", "random_forest", "mean") for metric in METRICS}
    for metric in METRICS:
        written = {name: plain_interval(own, counts, metric) for name, own in folds.items()}
        written["mean"] = tuple(np.mean([one, other], axis=0) for one, other in zip(*written.values(), strict=True))
        for name, (draws, whole) in written.items():
            assert np.isfinite(draws).all()
            assert found[name, metric] == pytest.approx(percentile_interval(draws, whole), abs=1e-9), (name, metric)


def test_the_more_donors_differ_the_wider_the_interval():
    """Ten donors, half of them hard: cells drawn one by one would not know."""
    generator = np.random.default_rng(3)
    donors = np.repeat(np.arange(10), 100)
    truth = generator.integers(0, 2, 1000)
    right = generator.random(1000) < np.where(donors % 2, 0.95, 0.65)
    predicted = np.where(right, truth, 1 - truth)
    probabilities = np.eye(2)[predicted]
    trained = np.full(2, True)

    def width(groups, metric):
        folds = [groups % 5 == fold for fold in range(5)]
        counts = [DonorCounts.of(truth[f], predicted[f], probabilities[f], groups[f], trained) for f in folds]
        low, high = prediction_intervals({"knn": counts}, int(groups.max()) + 1, 42)["knn", metric]
        assert low < right.mean() < high
        return high - low

    for metric in ("accuracy", "f1"):
        assert width(donors, metric) > 2.5 * width(np.arange(1000), metric)


def test_a_score_that_no_donor_defines_has_no_interval():
    truth, predicted, probabilities, donors = predictions(3, 60, seed=1)
    counts = DonorCounts.of(truth, predicted, probabilities, donors, np.full(N_CLASSES, False))
    found = prediction_intervals({"knn": [counts]}, 3, 42)
    assert {metric for name, metric in found if name == "knn"} == set(METRICS) - {"auroc"}

"""Label transfer: a classifier trained on the cells of one species names the labels of another's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np

from cellgauge.files.score import Score
from cellgauge.metrics.classifiers import k_nearest_neighbors, logistic_regression, standardize
from cellgauge.tasks.cells import CellsToScore, without_donors

CLASSIFIERS = ("logistic_regression", "knn")
METRICS = ("transfer_f1", "transfer_balanced_accuracy")
ITERATIONS = "iterations"
MAX_ITERATIONS = 1000
NONE = -1
"""In place of the code of a label, where a cell was predicted none."""


@dataclass(frozen=True)
class Pair:
    """An ordered pair of species, by their codes, and the labels (codes, ascending) that classifiers are asked about."""

    train: int
    test: int
    shared: tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """Who is asked about which cells: all cells of the splits, embedded or not, those without a row at the end."""

    # species_names, label_names: str, ascending
    species_names: np.ndarray
    label_names: np.ndarray
    # species, labels: codes of all cells, shape (n_cells,)
    species: np.ndarray
    labels: np.ndarray
    # a label is shared by two species if each has so many cells of it, embedded or not: what a model cannot embed makes
    # its question no easier
    min_class_size: int

    @classmethod
    def of(cls, cells: CellsToScore, min_class_size: int) -> Question:
        """Ask about the cells of a task."""
        (species_names, species), (label_names, labels) = (
            np.unique(_of_all(cells, column), return_inverse=True) for column in ("organism", "label")
        )
        return cls(species_names, label_names, species, labels, min_class_size)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Cells of each species and label, int64, shape (n_species, n_labels)."""
        shape = len(self.species_names), len(self.label_names)
        return np.bincount(self.species * shape[1] + self.labels, minlength=shape[0] * shape[1]).reshape(shape)

    @cached_property
    def pairs(self) -> list[Pair]:
        """All ordered pairs of species."""
        large = self.sizes >= self.min_class_size
        return [
            Pair(train, test, tuple(np.flatnonzero(large[train] & large[test]).tolist()))
            for train, test in permutations(range(len(self.species_names)), 2)
        ]

    @property
    def scored_pairs(self) -> list[Pair]:
        """The pairs that share two labels or more: with one, every answer is right."""
        return [pair for pair in self.pairs if len(pair.shared) > 1]

    def name(self, pair: Pair) -> str:
        """Return the name of a pair in score rows."""
        return f"{self.species_names[pair.train]} to {self.species_names[pair.test]}"

    def rows(self, species: Sequence[int], shared: Sequence[int], n_cells: int | None = None) -> np.ndarray:
        """Return the cells (the first `n_cells` of them) of some species that carry one of the labels, ascending."""
        chosen = np.isin(self.species[:n_cells], species) & np.isin(self.labels[:n_cells], shared)
        return np.flatnonzero(chosen)


def _of_all(cells: CellsToScore, column: str) -> np.ndarray:
    """Return a column of the cells that are embedded, followed by that of those that are not."""
    return np.concatenate([cells.obs[column], cells.left_out.get(column, [])])


def transferred(
    matrix: np.ndarray, question: Question, knn_neighbors: int, device: str | None = None
) -> dict[str, np.ndarray]:
    """Train on each species and name the cells of all others.

    Axes are scaled to variance 1 on the training cells, as in label prediction. Test species that share the same labels with
    the training species are asked together.

    Args:
        matrix: float32, finite, shape (n_cells, n_dims): the first cells of `question`, those that are embedded.

    Returns:
        By classifier the code of the label that it gives each cell, int32, shape (n_species, n_cells), by training species;
        NONE where it was not asked. `iterations`: the most that logistic regression took, int64, shape (1,).
    """
    answers = {name: np.full((len(question.species_names), len(matrix)), NONE, dtype=np.int32) for name in CLASSIFIERS}
    together: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for pair in question.scored_pairs:
        together.setdefault((pair.train, pair.shared), []).append(pair.test)
    iterations = 0
    for (species, shared), tests in together.items():
        train, test = (question.rows(chosen, shared, len(matrix)) for chosen in ([species], tests))
        if not len(train) or not len(test):
            continue
        present, codes = np.unique(question.labels[train], return_inverse=True)
        if len(present) == 1:  # the model could not embed the others
            for answer in answers.values():
                answer[species, test] = present[0]
            continue
        features = matrix[train], matrix[test]
        standardize(*features)
        fold = features[0], codes, features[1], len(present)
        (regression,) = logistic_regression(*fold, [MAX_ITERATIONS], device)
        nearest = k_nearest_neighbors(*fold, min(knn_neighbors, len(train)), device)
        for name, prediction in zip(CLASSIFIERS, (regression, nearest), strict=True):
            answers[name][species, test] = present[prediction.classes]
        iterations = max(iterations, regression.iterations)
    return {**answers, ITERATIONS: np.array([iterations])}


# --- from labels given to rows ---------------------------------------------------------------------------------------


def scores(cells: CellsToScore, question: Question, answers: Mapping[str, np.ndarray]) -> Iterator[Score]:
    """Yield macro F1 and balanced accuracy: the mean over pairs, the same without each donor, and every pair.

    A cell without a row counts as named wrong. The mean over the classifiers comes first.
    """
    names = [question.name(pair) for pair in question.scored_pairs]
    if not names:
        reason = f"no two species share two labels of at least {question.min_class_size} cells in each"
        for metric in METRICS:
            yield Score(metric, profile="corrected", status="not_applicable", reason=reason)
    else:
        missing = [question.name(pair) for pair in question.pairs if len(pair.shared) < 2]
        note = f"without pairs that share fewer than two labels: {', '.join(missing)}" if missing else ""
        donors = Donors.of(cells, question)
        values = _values(question, answers, donors)
        for classifier in ("mean", *CLASSIFIERS):
            for metric in METRICS:
                of_pairs = values[classifier][metric]
                where = {"profile": "corrected", "classifier": classifier}
                whole = [float(of_pair[0]) for of_pair in of_pairs]
                yield Score(metric, float(np.mean(whole)), **where, reason=note)
                for name, value in zip(names, whole, strict=True):
                    yield Score(metric, value, **where, condition=name)
                yield from without_donors(metric, _without(question, of_pairs, donors), classifier=classifier)
        iterations = float(answers[ITERATIONS][0])
        yield Score("iterations", iterations, "corrected", classifier="logistic_regression")
    yield from _shared(question)


def _shared(question: Question) -> Iterator[Score]:
    """Yield how many labels each pair shares, with the labels of the test species that are not asked about."""
    for pair in question.pairs:
        left = np.setdiff1d(np.flatnonzero(question.sizes[pair.test]), pair.shared)
        n_cells, labels = question.sizes[pair.test, left].sum(), ", ".join(question.label_names[left])
        reason = f"without {n_cells} cells of the test species, of labels that are not shared: {labels}"
        where = {"condition": question.name(pair), "reason": reason if len(left) else ""}
        yield Score("labels_shared", float(len(pair.shared)), "corrected", **where)


@dataclass(frozen=True)
class Donors:
    """The donors of each species, where every species has two or more; otherwise one nameless donor of all its cells."""

    names: Sequence[Sequence[str]]  # those of each species, by its code; empty where no donor can be left out
    codes: np.ndarray  # the position of each cell's donor among those of its species, int64, shape (n_cells,)

    @classmethod
    def of(cls, cells: CellsToScore, question: Question) -> Donors:
        """Return the donors of all cells, embedded or not."""
        nameless = cls([[] for _ in question.species_names], np.zeros(len(question.species), dtype=np.int64))
        if "donor" not in cells.obs:
            return nameless
        column, codes, names = _of_all(cells, "donor"), nameless.codes.copy(), []
        for species in range(len(question.species_names)):
            members = question.species == species
            present, codes[members] = np.unique(column[members], return_inverse=True)
            names.append([str(name) for name in present])
        known = not (column == "").any() and min(map(len, names)) > 1
        return cls(names, codes) if known else nameless

    def choices(self, species: int) -> np.ndarray:
        """Return all donors of a species, then all but each: 1 where a donor is chosen, int64, shape (1 + n, n)."""
        n = max(len(self.names[species]), 1)
        everyone = np.ones((1, n), dtype=np.int64)
        return np.vstack([everyone, everyone - np.eye(n, dtype=np.int64)]) if self.names[species] else everyone


def _values(
    question: Question, answers: Mapping[str, np.ndarray], donors: Donors
) -> dict[str, dict[str, list[np.ndarray]]]:
    """Return by classifier ("mean" of them, too) and metric the values of every pair: of all cells, then without each donor
    of its test species, shape (1 + n_donors,).
    """
    values: dict[str, dict[str, list[np.ndarray]]] = {}
    for classifier in CLASSIFIERS:
        labels = np.full((len(question.species_names), len(question.species)), NONE)
        labels[:, : answers[classifier].shape[1]] = answers[classifier]
        of_pairs = [
            _of_pair(question, pair, labels[pair.train], donors.codes, donors.choices(pair.test))
            for pair in question.scored_pairs
        ]
        values[classifier] = dict(zip(METRICS, map(list, zip(*of_pairs, strict=True)), strict=True))
    values["mean"] = {
        metric: [np.mean(parts, axis=0) for parts in zip(*(values[name][metric] for name in CLASSIFIERS), strict=True)]
        for metric in METRICS
    }
    return values


def _without(question: Question, of_pairs: Sequence[np.ndarray], donors: Donors) -> dict[str, float]:
    """Return the mean over pairs without each donor, by species/donor; where it is undefined there is none."""
    means = {}
    for species, names in enumerate(donors.names):
        for place, name in enumerate(names, 1):
            parts = [
                of_pair[place] if pair.test == species else of_pair[0]
                for pair, of_pair in zip(question.scored_pairs, of_pairs, strict=True)
            ]
            if np.isfinite(parts).all():
                means[f"{question.species_names[species]}/{name}"] = float(np.mean(parts))
    return means


def _of_pair(
    question: Question, pair: Pair, labels: np.ndarray, donors: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the macro F1 and the balanced accuracy of a pair for each choice of donors.

    Both are means over the shared labels that a chosen donor has; NaN where there is none.
    """
    rows, shared = question.rows([pair.test], pair.shared), np.array(pair.shared)
    truth = np.searchsorted(shared, question.labels[rows])
    predicted = np.where(labels[rows] == NONE, NONE, np.searchsorted(shared, labels[rows]))
    shape = weights.shape[1], len(shared)

    def count(chosen: np.ndarray, labels: np.ndarray) -> np.ndarray:
        places = donors[rows][chosen] * shape[1] + labels[chosen]
        return weights @ np.bincount(places, minlength=shape[0] * shape[1]).reshape(shape)

    true, right = count(truth != NONE, truth), count(truth == predicted, truth)
    claimed = count(predicted != NONE, predicted)
    present = true > 0
    n_present = np.where(present.any(axis=1), present.sum(axis=1), np.nan)
    f1 = np.where(present, 2 * right / np.maximum(true + claimed, 1), 0).sum(axis=1) / n_present
    recall = np.where(present, right / np.maximum(true, 1), 0).sum(axis=1) / n_present
    return f1, recall

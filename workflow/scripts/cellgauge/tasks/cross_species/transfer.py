"""Label transfer: a classifier trained on the cells of one species names the labels of another's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.files.score import Score
from cellgauge.metrics.bootstrap import FEWEST, N_DRAWS, draw_counts, percentile_interval
from cellgauge.metrics.classifiers import Prediction, k_nearest_neighbors, logistic_regression, standardize

if TYPE_CHECKING:
    from cellgauge.tasks.cells import CellsToScore

CLASSIFIERS = ("logistic_regression", "knn")
METRICS = ("transfer_f1", "transfer_balanced_accuracy")
ITERATIONS = "iterations"
NONE = -1
"""In place of the code of a label, where a cell was given none."""


@dataclass(frozen=True)
class Pair:
    """An ordered pair of species, by their codes, and the labels (codes, ascending) that classifiers are asked about."""

    train: int
    test: int
    shared: tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """Who is asked about which cells: all cells of the splits, embedded or not, those without a row at the end.

    Attributes:
        species_names, label_names: str, ascending.
        species, labels: codes of all cells, shape (n_cells,).
        min_class_size: a label is shared by two species if each has so many cells of it, embedded or not: what a model cannot
            embed makes its question no easier.
    """

    species_names: np.ndarray
    label_names: np.ndarray
    species: np.ndarray
    labels: np.ndarray
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
    def asked(self) -> list[Pair]:
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
    for pair in question.asked:
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
        for name, prediction in _predictions(matrix[train], codes, matrix[test], len(present), knn_neighbors, device):
            answers[name][species, test] = present[prediction.classes]
            iterations = max(iterations, prediction.iterations)
    return {**answers, ITERATIONS: np.array([iterations])}


def _predictions(
    train: np.ndarray, codes: np.ndarray, test: np.ndarray, n_classes: int, knn_neighbors: int, device: str | None
) -> Iterator[tuple[str, Prediction]]:
    standardize(train, test)
    yield "logistic_regression", logistic_regression(train, codes, test, n_classes, device)
    k = min(knn_neighbors, len(train))
    yield "knn", k_nearest_neighbors(train, codes, test, n_classes, k, device)


# --- from labels given to rows ---------------------------------------------------------------------------------------


def scores(cells: CellsToScore, question: Question, answers: Mapping[str, np.ndarray], seed: int) -> Iterator[Score]:
    """Yield macro F1 and balanced accuracy: the mean over pairs, its interval over donors, and every pair.

    A cell without a row counts as named wrong. The mean over the classifiers comes first.
    """
    names = [question.name(pair) for pair in question.asked]
    if not names:
        reason = f"no two species share two labels of at least {question.min_class_size} cells in each"
        for metric in METRICS:
            yield Score(metric, profile="corrected", status="not_applicable", reason=reason)
    else:
        missing = [question.name(pair) for pair in question.pairs if len(pair.shared) < 2]
        note = f"without pairs that share fewer than two labels: {', '.join(missing)}" if missing else ""
        donors = _donors(cells, question)
        values = _values(question, answers, donors, seed)
        for classifier in ("mean", *CLASSIFIERS):
            for metric in METRICS:
                draws = values[classifier][metric]
                where = {"profile": "corrected", "classifier": classifier}
                yield Score(metric, float(draws[:, 0].mean()), **where, reason=note)
                for name, value in zip(names, draws[:, 0].tolist(), strict=True):
                    yield Score(metric, value, **where, condition=name)
                if donors is not None:
                    low, high = percentile_interval(draws[:, 1:].mean(axis=0), float(draws[:, 0].mean()))
                    yield Score(f"{metric}_low", low, **where)
                    yield Score(f"{metric}_high", high, **where)
        iterations = float(answers[ITERATIONS][0])
        yield Score("iterations", iterations, "corrected", classifier="logistic_regression")
    yield from _shared(question)


def _shared(question: Question) -> Iterator[Score]:
    """Yield how many labels each pair shares, with the labels of the test species that are not asked about."""
    for pair in question.pairs:
        left = np.setdiff1d(np.flatnonzero(question.sizes[pair.test]), pair.shared)
        n_cells, labels = question.sizes[pair.test, left].sum(), ", ".join(question.label_names[left])
        reason = f"without {n_cells} cells of the test species, of labels that are not shared: {labels}"
        yield Score(
            "labels_shared",
            float(len(pair.shared)),
            "corrected",
            condition=question.name(pair),
            reason=reason if len(left) else "",
        )


def _donors(cells: CellsToScore, question: Question) -> np.ndarray | None:
    """Return the donor of each cell as a code within its species; None where donors are too few or not all known."""
    if "donor" not in cells.obs or (_of_all(cells, "donor") == "").any():
        return None
    names, codes = _of_all(cells, "donor"), np.empty(len(question.species), dtype=np.int64)
    n_donors = []
    for species in range(len(question.species_names)):
        members = question.species == species
        codes[members] = np.unique(names[members], return_inverse=True)[1]
        n_donors.append(int(codes[members].max()) + 1)
    return codes if min(n_donors) > 1 and sum(n_donors) >= FEWEST else None


def _values(
    question: Question, answers: Mapping[str, np.ndarray], donors: np.ndarray | None, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Return by classifier ("mean" of them, too) and metric the values of every pair, shape (n_pairs, 1 + n_draws).

    The first is of all cells, the others are of draws of whole donors of the test species; without donors there are none.
    """
    n_cells = len(question.species)
    if donors is None:
        donors = np.zeros(n_cells, dtype=np.int64)
    weights = []
    for species in range(len(question.species_names)):
        n_donors = int(donors[question.species == species].max()) + 1
        draws = draw_counts(n_donors, N_DRAWS if n_donors > 1 else 0, seed + species)
        weights.append(np.vstack([np.ones((1, n_donors), dtype=np.int64), draws]))
    values: dict[str, dict[str, np.ndarray]] = {}
    for classifier in CLASSIFIERS:
        given = np.full((len(question.species_names), n_cells), NONE)
        given[:, : answers[classifier].shape[1]] = answers[classifier]
        pairs = [_of_pair(question, pair, given[pair.train], donors, weights[pair.test]) for pair in question.asked]
        values[classifier] = dict(zip(METRICS, map(np.array, zip(*pairs, strict=True)), strict=True))
    values["mean"] = {metric: np.mean([values[name][metric] for name in CLASSIFIERS], axis=0) for metric in METRICS}
    return values


def _of_pair(
    question: Question, pair: Pair, given: np.ndarray, donors: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the macro F1 and the balanced accuracy of a pair for each row of weights of donors.

    Both are means over the shared labels that a drawn donor has.
    """
    rows, shared = question.rows([pair.test], pair.shared), np.array(pair.shared)
    truth = np.searchsorted(shared, question.labels[rows])
    predicted = np.where(given[rows] == NONE, NONE, np.searchsorted(shared, given[rows]))
    shape = weights.shape[1], len(shared)

    def count(chosen: np.ndarray, labels: np.ndarray) -> np.ndarray:
        places = donors[rows][chosen] * shape[1] + labels[chosen]
        return weights @ np.bincount(places, minlength=shape[0] * shape[1]).reshape(shape)

    everything = np.full(len(rows), True)
    true, right, claimed = (
        count(everything, truth),
        count(truth == predicted, truth),
        count(predicted != NONE, predicted),
    )
    present = true > 0
    n_present = present.sum(axis=1)
    f1 = np.where(present, 2 * right / np.maximum(true + claimed, 1), 0).sum(axis=1) / n_present
    recall = np.where(present, right / np.maximum(true, 1), 0).sum(axis=1) / n_present
    return f1, recall

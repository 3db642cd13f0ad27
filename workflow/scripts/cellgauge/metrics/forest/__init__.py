"""Random forests that vote exactly as scikit-learn's `RandomForestClassifier`, at a fraction of its cost.

A tree asks of a feature only in which order the cells come. That order is found once, for all trees and folds; scikit-learn
sorts the values of every node anew. Everything that decides is computed as it does it: the same random stream, the same
candidates, the same arithmetic (`forest.kernel`); a test compares the probabilities bit by bit.
"""

from __future__ import annotations

import platform
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from typing import Protocol

import numpy as np

from cellgauge.core.optional_imports import without_optional
from cellgauge.metrics.classifiers import Prediction, spread
from cellgauge.metrics.knn.distances import Matrix, slices

EQUAL_TO = ("1.9",)
"""Releases of scikit-learn whose forests these have been compared with."""
MOST_CLASSES = 256
LEAST_WORK = 500_000
"""Cells times candidate features times trees, see `worthwhile`: some 0.3 seconds per fold in scikit-learn."""
TIE = np.float32(1e-7)
"""Values at most so far apart are not told apart (scikit-learn's FEATURE_THRESHOLD)."""
COLUMNS = 64
"""Columns of a dense matrix that are ordered at a time."""
LARGEST_SEED = np.iinfo(np.int32).max


@cache
def available() -> bool:
    """Return whether the installed scikit-learn, and how it was compiled, are what these forests are equal to.

    On other processors than x86-64 compilers fuse multiplications with additions, and the last bit may differ.
    """
    release = version("scikit-learn").rsplit(".", 1)[0]
    return release in EQUAL_TO and platform.machine().lower() in ("x86_64", "amd64")


def worthwhile(n_cells: int, n_features: int, n_trees: int, n_classes: int) -> bool:
    """Return whether forests of this size are grown here: scikit-learn is as good while loading numba costs more than trees."""
    return n_classes <= MOST_CLASSES and n_cells * n_candidates(n_features) * n_trees >= LEAST_WORK and available()


def n_candidates(n_features: int) -> int:
    """Return how many features a tree considers for a split."""
    return max(1, int(np.sqrt(n_features)))


class RankedFeatures:
    """The order of the cells along every feature.

    Args:
        matrix: float32, finite, dense or CSR without negative values, shape (n, n_features).
        rows: of the matrix, which cells there are.

    Attributes:
        ranks: 0 for all cells with the feature's lowest value (of counts: those without any), different for all others,
            ascending with the value; uint16 or uint32, shape (n_features, n_cells).
        present: of counts, bit c of a feature says whether cell c has any; int64, shape (n_features, n_cells / 64), else empty.
        values: the value of every rank, feature after feature, float32.
        starts: where the values of each feature start, int64, shape (n_features + 1,).
        distinct: of which features all values are told apart, bool, shape (n_features,).
    """

    def __init__(self, matrix: Matrix, rows: np.ndarray) -> None:
        n_features = matrix.shape[1]
        self.ranks = np.empty((n_features, len(rows)), rank_type(len(rows)))
        self.ranks[:] = 0  # not `zeros`: numpy asks for huge pages for `empty` alone, and access is all over the array
        self.present = np.zeros((0, 0), dtype=np.int64)
        self.distinct = np.zeros(n_features, dtype=bool)
        if isinstance(matrix, np.ndarray):
            self._rank_columns(matrix, rows)
        else:
            self._rank_counts(matrix, rows)

    def _rank_columns(self, matrix: np.ndarray, rows: np.ndarray) -> None:
        n_features, n_cells = self.ranks.shape
        self.starts = np.arange(n_features + 1) * n_cells
        self.values = np.empty(n_features * n_cells, dtype=np.float32)
        for part in slices(n_features, COLUMNS):
            for feature, column in enumerate(np.ascontiguousarray(matrix[:, part].T)[:, rows], part.start):
                order = np.argsort(column)
                ordered = column[order]
                n_lowest = np.searchsorted(ordered, ordered[0], side="right")
                self.ranks[feature, order[n_lowest:]] = np.arange(1, n_cells - n_lowest + 1)
                values = self.values[self.starts[feature] : self.starts[feature + 1]]
                values[0] = ordered[0]
                values[1 : n_cells - n_lowest + 1] = ordered[n_lowest:]
                values[n_cells - n_lowest + 1 :] = np.inf  # no cell has these ranks
                self.distinct[feature] = (ordered[1:] > ordered[:-1] + TIE).all()

    def _rank_counts(self, matrix: Matrix, rows: np.ndarray) -> None:
        columns = matrix[rows].tocsc()
        self.starts = columns.indptr.astype(np.int64) + np.arange(len(columns.indptr))  # one more each: the zero
        self.values = np.zeros(self.starts[-1], dtype=np.float32)
        n_features, n_cells = self.ranks.shape
        self.present = np.zeros((n_features, (n_cells >> 6) + 1), dtype=np.int64)
        for feature in range(n_features):
            part = slice(columns.indptr[feature], columns.indptr[feature + 1])
            order = np.argsort(columns.data[part])
            self.values[self.starts[feature] + 1 : self.starts[feature + 1]] = columns.data[part][order]
            self.ranks[feature, columns.indices[part][order]] = np.arange(1, len(order) + 1)
            bits = np.zeros(64 * self.present.shape[1], dtype=bool)
            bits[columns.indices[part]] = True
            self.present[feature] = np.packbits(bits, bitorder="little").view(np.int64)


def rank_type(n_cells: int) -> type:
    """Return the smallest type that holds a rank, which is n_cells at most: of a gene that every cell has."""
    return np.uint16 if n_cells < 2**16 else np.uint32


class ForestFeatures(Protocol):
    """Features that a forest is grown on, without scaling."""

    ranked: RankedFeatures | None
    """The order of the cells along every feature; None where scikit-learn's forest is to be taken."""

    def take(self, rows: np.ndarray) -> Matrix:
        """Return the features of some cells, float32, dense or CSR."""


def random_forest(
    features: ForestFeatures,
    train: np.ndarray,
    codes: np.ndarray,
    test: np.ndarray,
    n_classes: int,
    n_trees: int = 100,
    seed: int = 42,
    n_threads: int = 1,
) -> Prediction:
    """Predict with scikit-learn's `RandomForestClassifier(n_trees, random_state=seed)`, or with ours that equals it.

    Args:
        train, test: rows of `features`.
        codes: classes of the training cells, in 0 .. n_classes - 1, shape (len(train),).
    """
    if features.ranked is not None:
        probabilities = forest_probabilities(features.ranked, train, codes, test, n_classes, n_trees, seed, n_threads)
        return Prediction(probabilities.argmax(axis=1), probabilities)
    with without_optional("pandas"):
        from sklearn.ensemble import RandomForestClassifier

    fitted = RandomForestClassifier(n_estimators=n_trees, random_state=seed).fit(features.take(train), codes)
    probabilities = fitted.predict_proba(features.take(test))
    return Prediction(fitted.classes_[probabilities.argmax(axis=1)], spread(probabilities, fitted.classes_, n_classes))


def forest_probabilities(
    features: RankedFeatures,
    train: np.ndarray,
    codes: np.ndarray,
    test: np.ndarray,
    n_classes: int,
    n_trees: int = 100,
    seed: int = 42,
    n_threads: int = 1,
) -> np.ndarray:
    """Return `RandomForestClassifier(n_trees, random_state=seed).fit(train, codes).predict_proba(test)`.

    Args:
        train, test: which cells of `features` train and which are voted on, int64.
        codes: classes of the training cells, in 0 .. n_classes - 1, shape (len(train),).

    Returns:
        float64, shape (len(test), n_classes); 0 for classes that no training cell has.
    """
    from cellgauge.metrics.forest.kernel import vote, workspace

    n_features, n_cells = features.ranks.shape
    class_bits = np.zeros(n_cells, dtype=np.uint16)
    class_bits[train] = codes << 8
    by_row = np.argsort(train)  # in the order of the rows, what belongs to one node lies close together

    def votes_of_tree(tree_seed: int) -> np.ndarray:
        sample = np.random.RandomState(tree_seed).randint(0, len(train), len(train))
        state = np.random.RandomState(tree_seed).randint(0, LARGEST_SEED)
        weights = np.bincount(sample, minlength=len(train))
        packed = class_bits.copy()
        packed[train] |= weights.astype(np.uint16)
        members = train[by_row][weights[by_row] > 0].astype(np.uint32)
        votes = np.zeros((len(test), n_classes))
        space = workspace(n_features, n_cells, len(members), len(test), n_classes)
        of_features = features.ranks, features.present, features.values, features.starts, features.distinct
        cells = packed, members, test.astype(np.uint32)
        vote(*of_features, *cells, n_classes, n_candidates(n_features), state, votes, space)
        return votes

    generator = np.random.RandomState(seed)
    seeds = [generator.randint(LARGEST_SEED) for _ in range(n_trees)]
    total = np.zeros((len(test), n_classes))
    if n_threads == 1:
        for tree_seed in seeds:
            total += votes_of_tree(tree_seed)
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            for votes in pool.map(votes_of_tree, seeds):  # in order: floating point sums depend on it
                total += votes
    return total / n_trees

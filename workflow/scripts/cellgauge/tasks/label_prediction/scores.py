"""Label prediction: can simple classifiers tell the labels of cells that they were not trained on?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.core.errors import CellgaugeError, one_line
from cellgauge.core.forked import run_apart
from cellgauge.core.optional_imports import without_optional
from cellgauge.core.threads import n_threads
from cellgauge.files.score import Score
from cellgauge.metrics.classification import accuracy, auroc_per_class, class_scores, confusion_matrix
from cellgauge.metrics.classifiers import (
    Prediction,
    k_nearest_neighbors,
    logistic_regression,
    random_forest,
    standardize,
    standardize_counts,
)
from cellgauge.metrics.donors import DonorCounts, predictions_without
from cellgauge.metrics.folds import Folds, held_out_folds, random_folds
from cellgauge.metrics.forest import RankedFeatures, rank_type, worthwhile
from cellgauge.tasks.cells import NotScorable, without_donors

if TYPE_CHECKING:
    from cellgauge.metrics.knn.distances import Matrix
    from cellgauge.tasks.cells import CellsToScore

SCOPE = "split"
NEEDS = ("label",)
METRICS = ("accuracy", "f1", "precision", "recall", "auroc")
CLASSIFIERS = ("logistic_regression", "knn", "random_forest")
RANDOM, DONORS = "random_folds", "donor_folds"


def score(
    cells: CellsToScore,
    *,
    profiles: Sequence[str],
    seed: int,
    classifiers: Sequence[str] = CLASSIFIERS,
    n_folds: int = 5,
    min_class_size: int = 10,
    n_neighbors: int = 5,
    n_trees: int = 100,
    max_dense_gb: float = 4.0,
) -> Iterator[Score]:
    """Yield the scores of cross-validated classifiers: per fold, mean over folds, and mean over classifiers.

    Profile reference averages over classes as cz-benchmarks does: for exactly two classes it scores the second one alone.
    Corrected averages over the classes of the fold's test cells, always, and adds folds that hold out whole donors, with
    each of their scores without one donor after the other.

    Args:
        max_dense_gb: largest dense matrix of expression, in GB (1e9 bytes); beyond it the sparse one is used.

    Raises:
        CellgaugeError: an unknown classifier, or classes allowed that are smaller than the number of folds.
        NotScorable: fewer than two labels have `min_class_size` cells.
    """
    unknown = set(classifiers) - set(CLASSIFIERS)
    if unknown or not classifiers:
        wrong = f"unknown classifier '{min(unknown)}'" if unknown else "no classifier is named"
        raise CellgaugeError(f"label_prediction: {wrong}; there are {', '.join(CLASSIFIERS)}")
    if min_class_size < n_folds:
        raise CellgaugeError(
            f"label_prediction: min_class_size is {min_class_size}, but {n_folds} folds need classes of {n_folds} cells"
        )
    classes = _Classes.of(cells.obs["label"], min_class_size)
    features = _Features.of(cells, classes, max_dense_gb, n_trees)
    fits: dict[str, _Fit] = {
        "logistic_regression": partial(logistic_regression, device=cells.device),
        "knn": partial(k_nearest_neighbors, n_neighbors=n_neighbors, device=cells.device),
        "random_forest": partial(random_forest, features, n_trees=n_trees, seed=seed, n_threads=n_threads()),
    }
    fits = {name: fits[name] for name in CLASSIFIERS if name in classifiers}
    deal = partial(_deal, cells, classes, profiles, n_folds, seed)
    schemes, results = _cross_validate(features, classes, deal, fits, min(n_threads(), n_folds))
    for profile in profiles:
        yield from classes.scores(profile)
        subset = RANDOM if profile == "corrected" else ""
        yield from _scores(results[RANDOM], _values_of(profile, classes), profile, subset, features.note)
        if profile == "corrected":
            yield from _per_class(results[RANDOM], classes, subset)
    if "corrected" in profiles:
        yield from _donor_scores(schemes[DONORS], results[DONORS], classes, features.note)
        yield from _without_donors(schemes[DONORS], results[DONORS])


_Fit = Callable[["Matrix | np.ndarray", np.ndarray, "Matrix | np.ndarray", int], Prediction]
"""Takes features (a random forest: rows) of training cells, their codes, those of test cells, and the number of classes."""


@dataclass(frozen=True)
class _Classes:
    """The labels that are large enough to be predicted.

    Attributes:
        rows: the cells that carry them, ascending.
        codes: their labels as positions in `names`, shape (len(rows),).
        names: the labels, ascending, shape (n,).
        n: how many labels there are.
        n_dropped: how many labels were too small.
        n_cells: how many cells there were before.
    """

    rows: np.ndarray
    codes: np.ndarray
    names: np.ndarray
    n: int
    n_dropped: int
    n_cells: int

    @classmethod
    def of(cls, labels: np.ndarray, min_size: int) -> _Classes:
        names, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        large = sizes >= min_size
        if large.sum() < 2:
            raise NotScorable(
                f"{large.sum()} of {len(names)} labels have at least {min_size} cells, a prediction needs two of them"
            )
        rows = np.flatnonzero(large[codes])
        positions = (np.cumsum(large) - 1)[codes[rows]]
        return cls(rows, positions, names[large], int(large.sum()), int((~large).sum()), len(labels))

    def scores(self, profile: str) -> Iterator[Score]:
        yield Score("n_classes", float(self.n), profile)
        yield Score("n_classes_dropped", float(self.n_dropped), profile)
        yield Score("n_cells_dropped", float(self.n_cells - len(self.rows)), profile)


@dataclass(frozen=True)
class _Features:
    """What classifiers see of the cells: the embedding, or where that is asked for the expression matrix itself.

    Attributes:
        matrix: float32, dense or CSR, shape (n_cells, n_dims).
        rows: the cells that are predicted.
        dense: whether the rows of a CSR matrix are used densely.
        own_forest: whether forests are grown by us, see `forest.worthwhile`.
        note: what the reader of a score must know of the features.
    """

    matrix: Matrix
    rows: np.ndarray
    dense: bool = True
    own_forest: bool = False
    note: str = ""

    @classmethod
    def of(cls, cells: CellsToScore, classes: _Classes, max_dense_gb: float, n_trees: int) -> _Features:
        matrix = cells.expression() if cells.uses_expression else cells.matrix
        rows, n_columns = classes.rows, matrix.shape[1]
        own_forest = worthwhile(len(rows), n_columns, n_trees, classes.n)
        if not cells.uses_expression:
            return cls(matrix, rows, own_forest=own_forest)
        own_forest &= 1e-9 * rank_type(len(rows))().nbytes * len(rows) * n_columns <= max_dense_gb
        own_forest &= matrix.nnz == 0 or float(matrix.data.min()) >= 0
        size = 4e-9 * len(rows) * n_columns
        if size <= max_dense_gb:
            return cls(matrix, rows, True, own_forest, "expression matrix, dense and centred")
        note = f"expression matrix, sparse and not centred: dense would take {size:.3g} GB, limit {max_dense_gb:g} GB"
        return cls(matrix, rows, False, own_forest, note)

    @cached_property
    def _buffer(self) -> np.ndarray:
        return np.empty((len(self.rows), self.matrix.shape[1]), dtype=np.float32)

    def scaled(self, train: np.ndarray, test: np.ndarray) -> tuple[Matrix, Matrix]:
        """Return the features of training and test cells, scaled by the former, good until the next call."""
        if self.dense and not isinstance(self.matrix, np.ndarray):
            return standardize_counts(self.matrix, self.rows[train], self.rows[test], self._buffer)
        features = self.take(train), self.take(test)
        standardize(*features)
        return features

    @cached_property
    def ranked(self) -> RankedFeatures | None:
        """The order of the predicted cells along every feature, for forests."""
        return RankedFeatures(self.matrix, self.rows) if self.own_forest else None

    def take(self, positions: np.ndarray) -> Matrix:
        """Return the features of some of the predicted cells; the caller owns them."""
        chosen = self.matrix[self.rows[positions]]
        return chosen.toarray() if self.dense and not isinstance(chosen, np.ndarray) else chosen


@dataclass(frozen=True)
class _Scheme:
    """Folds dealt in one way, in positions of the predicted cells, or why there are none.

    Attributes:
        donors: the donor of each predicted cell, as a position in `names`, where whole donors are held out.
        names: the donors.
        note: what the reader of a score must know of the folds.
        status, reason: of the row that stands for the scores where there are no folds.
    """

    folds: Folds = field(default_factory=list)
    donors: np.ndarray | None = None
    names: Sequence[str] = ()
    note: str = ""
    status: str = "ok"
    reason: str = ""


@dataclass(frozen=True)
class _Result:
    """One classifier on one fold: what it got right, or why it could not be fitted.

    Attributes:
        confusion: true by predicted classes, shape (n_classes, n_classes).
        areas: under the ROC curve, per class, NaN where undefined; shape (n_classes,).
        trained: whether the class was among the training cells, shape (n_classes,).
        of_donors: the same counted by donor, where whole donors are held out.
    """

    classifier: str
    fold: int
    failure: str = ""
    confusion: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    areas: np.ndarray = field(default_factory=lambda: np.zeros(0))
    trained: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    iterations: int = 0
    of_donors: DonorCounts | None = None


def _cross_validate(
    features: _Features,
    classes: _Classes,
    deal: Callable[[], Mapping[str, _Scheme]],
    fits: Mapping[str, _Fit],
    n_processes: int,
) -> tuple[Mapping[str, _Scheme], dict[str, list[_Result]]]:
    """Fit every classifier on every fold of every scheme, once; return the schemes, and the results of each by fold.

    A forest of ours needs nothing of scikit-learn, and the others nothing of numba: they are fitted in processes of their
    own, so that memory holds one of the libraries at a time. With several processes the others are fitted in as many
    shares of the folds, side by side.
    """
    forest = {name: fit for name, fit in fits.items() if name == "random_forest" and features.own_forest}
    others = {name: fit for name, fit in fits.items() if name not in forest}

    def fit_share(number: int) -> tuple[Mapping[str, _Scheme], dict[str, list[_Result]]]:
        schemes = deal()
        return schemes, {
            name: _fit_folds(features, classes, scheme, others, range(number, len(scheme.folds), n_shares))
            for name, scheme in schemes.items()
        }

    def fit_forest() -> tuple[Mapping[str, _Scheme], dict[str, list[_Result]]]:
        with without_optional("scipy", "cffi"):  # numba imports them for functions that no forest calls
            return schemes, {
                name: _fit_folds(features, classes, scheme, forest, range(len(scheme.folds)))
                for name, scheme in schemes.items()
            }

    n_shares = n_processes if others else 1
    if n_shares == 1 and not forest:
        return fit_share(0)
    parts = run_apart([partial(fit_share, number) for number in range(n_shares)], n_shares)
    schemes = parts[0][0]
    if forest:
        parts += run_apart([fit_forest])
    return schemes, {
        name: sorted((result for _, results in parts for result in results[name]), key=lambda result: result.fold)
        for name in schemes
    }


def _fit_folds(
    features: _Features, classes: _Classes, scheme: _Scheme, fits: Mapping[str, _Fit], numbers: Sequence[int]
) -> list[_Result]:
    """Fit classifiers on some of the folds, all of them on one fold before the next."""
    results = []
    for number in numbers:
        train_rows, test_rows = scheme.folds[number]
        donors = None if scheme.donors is None else scheme.donors[test_rows]
        if not len(train_rows) or not len(test_rows):
            reason = f"fold {number} has {len(train_rows)} training and {len(test_rows)} test cells"
            results += [_Result(name, number, reason) for name in fits]
            continue
        codes, truth = classes.codes[train_rows], classes.codes[test_rows]
        if "random_forest" in fits:
            of_rows = (train_rows, codes, test_rows, truth, classes.n)
            results.append(_fit("random_forest", number, fits["random_forest"], *of_rows, donors))
        scaled = [name for name in fits if name != "random_forest"]
        if scaled:
            train, test = features.scaled(train_rows, test_rows)
            data = (train, codes, test, truth, classes.n, donors)
            results += [_fit(name, number, fits[name], *data) for name in scaled]
    return results


def _fit(
    name: str,
    fold: int,
    fit: _Fit,
    train: Matrix | np.ndarray,
    codes: np.ndarray,
    test: Matrix | np.ndarray,
    truth: np.ndarray,
    n_classes: int,
    donors: np.ndarray | None,
) -> _Result:
    try:
        prediction = fit(train, codes, test, n_classes)
    except ValueError as error:
        return _Result(name, fold, f"fold {fold}: {one_line(error)}")
    trained = np.bincount(codes, minlength=n_classes) > 0
    return _Result(
        name,
        fold,
        confusion=confusion_matrix(truth, prediction.classes, n_classes),
        areas=auroc_per_class(truth, prediction.probabilities),
        trained=trained,
        iterations=prediction.iterations,
        of_donors=None if donors is None else DonorCounts.of(truth, *prediction[:2], donors, trained),
    )


# --- from results to rows --------------------------------------------------------------------------------------------

_Values = Callable[[_Result], dict[str, float]]


def _values_of(profile: str, classes: _Classes) -> _Values:
    return _binary_values if profile == "reference" and classes.n == 2 else _macro_values


def _binary_values(result: _Result) -> dict[str, float]:
    """Score the second class in alphabetical order, as cz-benchmarks does where there are two."""
    scores = class_scores(result.confusion)
    return {
        "accuracy": accuracy(result.confusion),
        **{name: float(values[1]) for name, values in scores.items()},
        "auroc": float(result.areas[1]),
    }


def _macro_values(result: _Result) -> dict[str, float]:
    """Average over the classes of the test cells; the AUROC over those of them that the classifier was trained on."""
    present = result.confusion.sum(axis=1) > 0
    scores = class_scores(result.confusion)
    areas = result.areas[result.trained & ~np.isnan(result.areas)]
    return {
        "accuracy": accuracy(result.confusion),
        **{name: float(values[present].mean()) for name, values in scores.items()},
        "auroc": float(areas.mean()) if len(areas) else np.nan,
    }


def _scores(results: Sequence[_Result], values_of: _Values, profile: str, subset: str, note: str) -> Iterator[Score]:
    """Yield, per classifier, every fold, the mean over the folds that succeeded, and then the mean over classifiers."""
    common = {"profile": profile, "subset": subset}
    found: dict[str, dict[str, list[float]]] = {}
    for name in (name for name in CLASSIFIERS if any(result.classifier == name for result in results)):
        of_classifier = [result for result in results if result.classifier == name]
        succeeded = [result for result in of_classifier if not result.failure]
        found[name] = {metric: [] for metric in METRICS}
        for result in of_classifier:
            yield from _fold_scores(result, values_of, found[name], note, common)
        for metric in METRICS:
            yield _mean(metric, found[name][metric], len(of_classifier), note, {**common, "classifier": name})
        yield Score("folds_succeeded", float(len(succeeded)), **common, classifier=name)
        if name == "logistic_regression" and succeeded:
            most = max(result.iterations for result in succeeded)
            yield Score("iterations", float(most), **common, classifier=name)
    missing = [name for name in CLASSIFIERS if name not in found]
    note = _join(note, f"mean without {', '.join(missing)}" if missing else "")
    for metric in METRICS:
        yield _mean_over_classifiers(metric, found, note, common)


def _fold_scores(
    result: _Result, values_of: _Values, found: Mapping[str, list[float]], note: str, common: Mapping[str, str]
) -> Iterator[Score]:
    where = {**common, "classifier": result.classifier, "fold": result.fold}
    values = {} if result.failure else values_of(result)
    for metric in METRICS:
        value = values.get(metric, np.nan)
        if np.isfinite(value):
            found[metric].append(value)
            yield Score(metric, value, **where, reason=note)
        else:
            reason = result.failure or f"fold {result.fold}: no class known from training divides its test cells"
            yield Score(metric, **where, status="failed", reason=reason)


def _mean(metric: str, values: Sequence[float], n_folds: int, note: str, where: Mapping[str, str]) -> Score:
    if not values:
        return Score(metric, **where, status="failed", reason=f"none of {n_folds} folds succeeded")
    partial = f"mean over {len(values)} of {n_folds} folds, the others failed" if len(values) < n_folds else ""
    return Score(metric, float(np.mean(values)), **where, reason=_join(note, partial))


def _mean_over_classifiers(
    metric: str, found: Mapping[str, Mapping[str, Sequence[float]]], note: str, common: Mapping[str, str]
) -> Score:
    """Average over all folds of all classifiers, as cz-benchmarks does; over classifiers' means this is only equal where
    as many folds of each succeeded, and so the corrected profile takes these.
    """
    per_classifier = [values[metric] for values in found.values() if values[metric]]
    where = {**common, "classifier": "mean"}
    if not per_classifier:
        return Score(metric, **where, status="failed", reason="no fold of any classifier succeeded")
    if common["profile"] == "reference":
        value = np.mean(np.concatenate(per_classifier))
    else:
        value = np.mean([np.mean(values) for values in per_classifier])
    failed = [name for name, values in found.items() if not values[metric]]
    return Score(
        metric, float(value), **where, reason=_join(note, f"mean without {', '.join(failed)}" if failed else "")
    )


def _per_class(results: Sequence[_Result], classes: _Classes, subset: str) -> Iterator[Score]:
    """Yield the F1 of each label over the test cells of all folds, and how many of its cells were given which label.

    Both are means over the classifiers. The condition of `confusion` is a JSON list: true label, predicted label.
    """
    of_classifier: dict[str, np.ndarray] = {}
    for result in results:
        if not result.failure:
            of_classifier[result.classifier] = of_classifier.get(result.classifier, 0) + result.confusion
    if not of_classifier:
        return
    where = {"profile": "corrected", "classifier": "mean", "subset": subset}
    f1 = np.mean([class_scores(confusion)["f1"] for confusion in of_classifier.values()], axis=0)
    confusion = np.mean(list(of_classifier.values()), axis=0)
    for code in np.flatnonzero(confusion.sum(axis=1)):
        yield Score("f1", float(f1[code]), condition=str(classes.names[code]), **where)
    for true, predicted in np.argwhere(confusion):
        pair = json.dumps([str(classes.names[true]), str(classes.names[predicted])], ensure_ascii=False)
        yield Score("confusion", float(confusion[true, predicted]), condition=pair, **where)


def _join(*notes: str) -> str:
    return "; ".join(filter(None, notes))


# --- donors ----------------------------------------------------------------------------------------------------------


def _deal(
    cells: CellsToScore, classes: _Classes, profiles: Sequence[str], n_folds: int, seed: int
) -> dict[str, _Scheme]:
    """Deal the predicted cells over folds, in every way that the profiles ask for."""
    schemes = {RANDOM: _Scheme(random_folds(classes.codes, n_folds, seed))}
    if "corrected" in profiles:
        schemes[DONORS] = _donor_folds(cells, classes, n_folds, seed)
    return schemes


def _donor_folds(cells: CellsToScore, classes: _Classes, n_folds: int, seed: int) -> _Scheme:
    """Deal whole donors over folds; cells of unknown donor are in none."""
    if "donor" not in cells.obs:
        return _Scheme(status="not_applicable", reason="the cells have no column 'donor'")
    donors = cells.obs["donor"][classes.rows]
    known = np.flatnonzero(donors != "")
    names, codes = np.unique(donors[known], return_inverse=True)
    if len(names) < 2:
        reason = f"all cells are of one donor, {names[0]}" if len(names) else "the donor of no cell is known"
        return _Scheme(status="not_applicable", reason=reason)
    try:
        folds = held_out_folds(classes.codes[known], donors[known], n_folds, seed)
    except ValueError as error:
        return _Scheme(status="failed", reason=one_line(error))
    note = f"without {len(donors) - len(known)} cells of unknown donor" if len(known) < len(donors) else ""
    of_cells = np.full(len(donors), -1)
    of_cells[known] = codes
    return _Scheme([(known[train], known[test]) for train, test in folds], of_cells, list(map(str, names)), note)


def _donor_scores(scheme: _Scheme, results: Sequence[_Result], classes: _Classes, note: str) -> Iterator[Score]:
    """Yield the scores of folds that hold out whole donors, with how many classes each fold could not do justice to."""
    where = {"profile": "corrected", "subset": DONORS}
    if not scheme.folds:
        yield Score(**where, status=scheme.status, reason=scheme.reason)
        return
    yield from _scores(results, _macro_values, **where, note=_join(note, scheme.note))
    yield from _per_class(results, classes, DONORS)
    for number, rows in enumerate(scheme.folds):
        train, test = (np.bincount(classes.codes[of_part], minlength=classes.n) > 0 for of_part in rows)
        yield Score("classes_not_in_training", float((test & ~train).sum()), **where, fold=number)
        yield Score("classes_not_in_test", float((train & ~test).sum()), **where, fold=number)


def _without_donors(scheme: _Scheme, results: Sequence[_Result]) -> Iterator[Score]:
    """Yield each mean over folds that hold out donors without one donor after the other, and the number of donors."""
    if not scheme.folds:
        return
    yield Score("n_donors", float(len(scheme.names)), "corrected", subset=DONORS)
    counted: dict[str, list[DonorCounts]] = {}
    for result in results:
        if result.of_donors is not None:
            counted.setdefault(result.classifier, []).append(result.of_donors)
    for (classifier, metric), values in predictions_without(counted, len(scheme.names)).items():
        of_donor = dict(zip(scheme.names, values.tolist(), strict=True))
        yield from without_donors(metric, of_donor, classifier=classifier, subset=DONORS)

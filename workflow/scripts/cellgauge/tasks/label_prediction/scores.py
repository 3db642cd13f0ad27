"""Label prediction: can simple classifiers tell the labels of cells that they were not trained on?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from cellgauge.core.errors import CellgaugeError, one_line
from cellgauge.core.forked import run_apart
from cellgauge.core.optional_imports import without_optional
from cellgauge.core.threads import n_threads
from cellgauge.files.score import Score
from cellgauge.metrics.classifiers import (
    Prediction,
    k_nearest_neighbors,
    logistic_regression,
    standardize,
    standardize_counts,
)
from cellgauge.metrics.donors import DonorCounts, predictions_without
from cellgauge.metrics.folds import Folds, held_out_folds, random_folds
from cellgauge.metrics.forest import RankedFeatures, random_forest, rank_type, worthwhile
from cellgauge.metrics.knn.distances import Matrix
from cellgauge.tasks.cells import (
    CellsToScore,
    NotScorable,
    check_names,
    is_estimated,
    joined,
    sampled_rows,
    without_donors,
)

SCOPE = "split"
NEEDS = ("label",)
METRICS = {"reference": ("accuracy", "f1", "precision", "recall", "auroc")}
METRICS["corrected"] = ("accuracy", "balanced_accuracy", "f1", "f1_rare", "precision", "auroc", "brier")
METRICS["corrected"] += ("calibration_error",)
CLASSIFIERS = ("logistic_regression", "knn", "random_forest")
RANDOM, DONORS = "random_folds", "donor_folds"
REFERENCE_ITERATIONS = 100
RARE = 0.01
"""A label is rare if a smaller share of the cells carries it."""


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
    max_iterations: int = 1000,
    max_dense_gb: float = 4.0,
    exact_up_to: int = 100_000,
) -> Iterator[Score]:
    """Yield the scores of cross-validated classifiers: per fold, mean over folds, and mean over classifiers.

    Profile reference averages over classes as cz-benchmarks does: for exactly two classes it scores the second one alone.
    Corrected averages over the classes of the fold's test cells, always, and adds folds that hold out whole donors, with
    each of their scores without one donor after the other. Its folds are dealt over all cells, so they are the same for every
    model, and a cell that the model did not embed counts as wrong (`metrics.donors`).

    Args:
        max_iterations: of logistic regression in profile corrected; reference stops at 100, converged or not.
        max_dense_gb: largest dense matrix of expression, in GB (1e9 bytes); beyond it the sparse one is used.
        exact_up_to: number of cells beyond which a run in profile corrected alone draws so many of them at random: classifiers
            are tested on these, and trained on those of them that are in other folds. Nearest neighbors are searched among
            all training cells.

    Raises:
        CellgaugeError: an unknown classifier, or classes allowed that are smaller than the number of folds.
        NotScorable: fewer than two labels have `min_class_size` cells.
    """
    check_names("label_prediction", "classifier", classifiers, CLASSIFIERS)
    if not classifiers:
        raise CellgaugeError(f"label_prediction: no classifier is named; there are {', '.join(CLASSIFIERS)}")
    if min_class_size < n_folds:
        raise CellgaugeError(
            f"label_prediction: min_class_size is {min_class_size}, but {n_folds} folds need classes of {n_folds} cells"
        )
    # Where both profiles see the same cells and features, what they share is fitted once.
    alike = not cells.n_unembedded and not cells.reference_on_counts
    for together in [list(profiles)] if alike else [[profile] for profile in profiles]:
        try:
            classes = _Classes.of(cells, "corrected" in together, min_class_size)
            if is_estimated(len(classes.cells), profiles, exact_up_to):
                classes = classes.sample(exact_up_to, seed)
        except NotScorable as reason:
            if together == list(profiles):
                raise
            yield Score(profile=together[0], status="not_applicable", reason=str(reason))
            continue
        on_counts = cells.reference_on_counts and "reference" in together
        features = _Features.of(cells, classes, on_counts, max_dense_gb, n_trees)
        limits = [REFERENCE_ITERATIONS, max_iterations] if "corrected" in together else [REFERENCE_ITERATIONS]
        fits: dict[str, _Fit] = {
            "logistic_regression": partial(logistic_regression, max_iterations=limits, device=cells.device),
            "knn": _alone(partial(k_nearest_neighbors, n_neighbors=n_neighbors, device=cells.device)),
            "random_forest": _alone(
                partial(random_forest, features.of_forests, n_trees=n_trees, seed=seed, n_threads=n_threads())
            ),
        }
        fits = {name: fits[name] for name in CLASSIFIERS if name in classifiers}
        deal = partial(_deal, cells, classes, together, n_folds, seed)
        schemes, results = _cross_validate(features, classes, deal, fits, min(n_threads(), n_folds))
        for profile in together:
            yield from classes.scores(profile)
            subset = RANDOM if profile == "corrected" else ""
            of_profile = [result for result in results[RANDOM] if result.profile == profile]
            yield from _scores(of_profile, classes, profile, subset, features.note)
            if profile == "corrected":
                yield from _per_class(of_profile, classes, subset)
        if "corrected" in together:
            yield from _donor_scores(schemes[DONORS], results[DONORS], classes, features.note)


_Fit = Callable[["Matrix | np.ndarray", np.ndarray, "Matrix | np.ndarray", int], list[Prediction]]
"""Takes features (a random forest: rows) of training cells, their codes, those of test cells, and the number of classes.

The first prediction is that of profile reference, the last that of corrected.
"""


def _alone(fit: Callable[..., Prediction]) -> _Fit:
    return lambda *fold: [fit(*fold)]


@dataclass(frozen=True)
class _Classes:
    """The labels that are large enough to be predicted, and the cells that carry them."""

    cells: np.ndarray  # these cells, as positions among all, ascending
    codes: np.ndarray  # their labels as positions in `names`, shape (len(cells),)
    rows: np.ndarray  # the rows of the embedding of those among them that have one, ascending
    # where each of the cells is in `rows`, -1 for one that the model did not embed; shape (len(cells),)
    places: np.ndarray
    names: np.ndarray  # the labels, ascending, shape (n,)
    rare: np.ndarray  # which of the labels are rare, shape (n,)
    n_dropped: int  # how many labels were too small
    n_cells: int  # how many cells there were before
    # which of the cells classifiers are tested on, and all but nearest neighbors trained on, bool, shape (len(cells),)
    sampled: np.ndarray

    @classmethod
    def of(cls, cells: CellsToScore, with_left_out: bool, min_size: int) -> _Classes:
        """Choose the labels with `min_size` cells, among all cells or among those that the model embedded."""
        labels = cells.of_all("label") if with_left_out else cells.obs["label"]
        embedded = cells.embedded if with_left_out else np.full(len(labels), True)
        names, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        large = sizes >= min_size
        if large.sum() < 2:
            raise NotScorable(
                f"{large.sum()} of {len(names)} labels have at least {min_size} cells, and a prediction needs two"
            )
        chosen = np.flatnonzero(large[codes])
        has_row = embedded[chosen]
        return cls(
            cells=chosen,
            codes=(np.cumsum(large) - 1)[codes[chosen]],
            rows=(np.cumsum(embedded) - 1)[chosen[has_row]],
            places=np.where(has_row, np.cumsum(has_row) - 1, -1),
            names=names[large],
            rare=sizes[large] < RARE * len(labels),
            n_dropped=int((~large).sum()),
            n_cells=len(labels),
            sampled=np.full(len(chosen), True),
        )

    def sample(self, size: int, seed: int) -> _Classes:
        """Return the same with `size` random cells for `sampled`."""
        sampled = np.zeros(len(self.cells), dtype=bool)
        sampled[sampled_rows(len(self.cells), size, seed)] = True
        return replace(self, sampled=sampled)

    @property
    def note(self) -> str:
        """What the reader of a score must know of the sample, "" where it holds all cells."""
        if self.sampled.all():
            return ""
        sample = f"a sample of {self.sampled.sum()} of {len(self.cells)} cells"
        return f"tested and trained on {sample}; nearest neighbors are searched among all training cells"

    @property
    def n(self) -> int:
        """How many labels there are."""
        return len(self.names)

    def scores(self, profile: str) -> Iterator[Score]:
        """Yield how many labels and cells are predicted, and how many are not."""
        yield Score("n_classes", float(self.n), profile)
        yield Score("n_classes_dropped", float(self.n_dropped), profile)
        yield Score("n_cells_dropped", float(self.n_cells - len(self.cells)), profile)
        if profile == "corrected":
            yield Score("n_classes_rare", float(self.rare.sum()), profile)


@dataclass(frozen=True)
class _Features:
    """What classifiers see of the cells: the embedding, or where the reference asks for it the expression matrix itself."""

    matrix: Matrix  # float32, dense or CSR, shape (n_cells, n_dims)
    rows: np.ndarray  # those of the cells that are predicted
    sampled: np.ndarray  # which of these forests see, bool, shape (len(rows),)
    common_units: bool = False  # whether profile corrected takes the columns as they are; reference scales each of them
    dense: bool = True  # whether the rows of a CSR matrix are used densely
    fast_forest: bool = False  # whether forests are grown by us, see `forest.worthwhile`
    note: str = ""  # what the reader of a score must know of the features

    @classmethod
    def of(
        cls, cells: CellsToScore, classes: _Classes, on_counts: bool, max_dense_gb: float, n_trees: int
    ) -> _Features:
        matrix = cells.expression() if on_counts else cells.matrix
        rows, n_columns = classes.rows, matrix.shape[1]
        sampled = classes.sampled[classes.places >= 0]
        fast_forest = worthwhile(int(sampled.sum()), n_columns, n_trees, classes.n)
        if not on_counts:
            return cls(matrix, rows, sampled, cells.common_units, fast_forest=fast_forest, note=classes.note)
        fast_forest &= 1e-9 * rank_type(len(rows))().nbytes * len(rows) * n_columns <= max_dense_gb
        fast_forest &= matrix.nnz == 0 or float(matrix.data.min()) >= 0
        size, note = 4e-9 * len(rows) * n_columns, "classifiers trained on raw counts, not on the PCA"
        if size > max_dense_gb:
            note += f", and not centered: dense counts would take {size:.3g} GB, limit {max_dense_gb:g} GB"
        return cls(matrix, rows, sampled, False, size <= max_dense_gb, fast_forest, note)

    @cached_property
    def of_forests(self) -> _Features:
        """The features of the cells that forests see."""
        return replace(self, rows=self.rows[self.sampled], sampled=self.sampled[self.sampled])

    @cached_property
    def _buffer(self) -> np.ndarray:
        return np.empty((len(self.rows), self.matrix.shape[1]), dtype=np.float32)

    def scaled(self, train: np.ndarray, test: np.ndarray) -> tuple[Matrix, Matrix]:
        """Return the features of training and test cells, scaled by the training cells, good until the next call."""
        if self.dense and not isinstance(self.matrix, np.ndarray):
            return standardize_counts(self.matrix, self.rows[train], self.rows[test], self._buffer)
        features = self.take(train), self.take(test)
        standardize(*features)
        return features

    @cached_property
    def ranked(self) -> RankedFeatures | None:
        """The order of the predicted cells along every feature, for forests."""
        return RankedFeatures(self.matrix, self.rows) if self.fast_forest else None

    def take(self, positions: np.ndarray) -> Matrix:
        """Return the features of some of the predicted cells; the caller owns them."""
        chosen = self.matrix[self.rows[positions]]
        return chosen.toarray() if self.dense and not isinstance(chosen, np.ndarray) else chosen


@dataclass(frozen=True)
class _Scheme:
    """Folds dealt in one way, in positions of the predicted cells, or why there are none."""

    folds: Folds = field(default_factory=list)
    profiles: Sequence[str] = ("corrected",)  # those that score these folds
    # the donor of each predicted cell, as a position in `names`, where whole donors are held out
    donors: np.ndarray | None = None
    names: Sequence[str] = ()  # the donors
    note: str = ""  # what the reader of a score must know of the folds
    # status, reason: of the row that stands for the scores where there are no folds
    status: str = "ok"
    reason: str = ""


@dataclass(frozen=True)
class _Result:
    """One classifier on one fold: what it got right, or why it could not be fitted."""

    classifier: str
    fold: int
    profile: str
    failure: str = ""
    # what all test cells add to the scores, by donor where whole donors are held out; None where it could not be fitted
    counts: DonorCounts | None = None
    # of the cells that have a row, true by predicted classes, shape (n_classes, n_classes); None likewise
    confusion: np.ndarray | None = None
    iterations: int = 0
    converged: bool = True

    def values(self) -> dict[str, float]:
        """Return the scores of the fold's test cells, NaN where undefined; none where the classifier could not be fitted."""
        if self.counts is None:
            return {}
        # cz-benchmarks scores the second class in alphabetical order where there are two
        second_alone = self.profile == "reference" and len(self.counts.trained) == 2
        everyone = np.ones((1, len(self.counts.donors)), dtype=np.int64)
        scores = self.counts.scores(everyone, [1] if second_alone else None)
        values = {metric: float(of_all[0]) for metric, of_all in scores.items()}
        return {**values, "recall": values["balanced_accuracy"]}


@dataclass(frozen=True)
class _Fold:
    """The cells of one fold: rows of the features, class codes and, of the test cells, donors."""

    number: int
    train: np.ndarray
    codes: np.ndarray
    # which of the training cells all but nearest neighbors are trained on, bool, shape (len(train),)
    sampled: np.ndarray
    in_sample: np.ndarray  # the place of each row among those that forests see, shape (n_rows,)
    test: np.ndarray
    truth: np.ndarray
    donors: np.ndarray
    trained: np.ndarray  # which classes are among the training cells, embedded or not
    left_out: tuple[np.ndarray, np.ndarray]  # class codes and donors of the test cells without a row

    @classmethod
    def of(cls, scheme: _Scheme, number: int, classes: _Classes) -> _Fold:
        """Return a fold; where donors do not matter all cells are of one."""
        donors = np.zeros(len(classes.codes), dtype=np.int64) if scheme.donors is None else scheme.donors
        train, test = scheme.folds[number]
        trained = np.bincount(classes.codes[train], minlength=classes.n) > 0
        test = test[classes.sampled[test]]
        train, lost = train[classes.places[train] >= 0], test[classes.places[test] < 0]
        test = test[classes.places[test] >= 0]
        return cls(
            number,
            classes.places[train],
            classes.codes[train],
            classes.sampled[train],
            np.cumsum(classes.sampled[classes.places >= 0]) - 1,
            classes.places[test],
            classes.codes[test],
            donors[test],
            trained,
            (classes.codes[lost], donors[lost]),
        )


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
    forest = {name: fit for name, fit in fits.items() if name == "random_forest" and features.fast_forest}
    others = {name: fit for name, fit in fits.items() if name not in forest}

    def fit(
        fits: Mapping[str, _Fit], schemes: Mapping[str, _Scheme], share: slice = slice(None)
    ) -> dict[str, list[_Result]]:
        return {
            name: _fit_folds(features, classes, scheme, fits, range(len(scheme.folds))[share])
            for name, scheme in schemes.items()
        }

    def fit_share(number: int) -> tuple[Mapping[str, _Scheme], dict[str, list[_Result]]]:
        schemes = deal()
        return schemes, fit(others, schemes, slice(number, None, n_shares))

    def fit_forest() -> tuple[Mapping[str, _Scheme], dict[str, list[_Result]]]:
        with without_optional("scipy", "cffi"):  # numba imports them for functions that no forest calls
            return schemes, fit(forest, schemes)

    n_shares = n_processes if others else 1
    if n_shares == 1 and not forest:
        return fit_share(0)
    parts = run_apart([partial(fit_share, number) for number in range(n_shares)], n_shares)
    schemes = parts[0][0]
    if forest:
        parts += run_apart([fit_forest])
    results = {name: [result for _, of_part in parts for result in of_part[name]] for name in schemes}
    return schemes, {name: sorted(rows, key=lambda result: result.fold) for name, rows in results.items()}


def _fit_folds(
    features: _Features, classes: _Classes, scheme: _Scheme, fits: Mapping[str, _Fit], numbers: Sequence[int]
) -> list[_Result]:
    """Fit classifiers on some of the folds, all of them on one fold before the next."""
    results = []
    for fold in (_Fold.of(scheme, number, classes) for number in numbers):
        # Of the sample: without a training cell there, no classifier is asked.
        n_train, n_test = int(fold.sampled.sum()), len(fold.test) + len(fold.left_out[0])
        if not n_train or not n_test:
            reason = f"fold {fold.number} has {n_train} training and {n_test} test cells"
            results += [_Result(name, fold.number, profile, reason) for name in fits for profile in scheme.profiles]
            continue
        for names, profiles, codes, rows in _inputs(features, fold, list(fits), scheme.profiles):
            seen = replace(fold, codes=codes)
            results += [result for name in names for result in _fit(name, fits[name], *rows, seen, classes, profiles)]
            del rows  # before others are taken: of large splits memory holds one copy of the training cells
    return results


def _inputs(
    features: _Features, fold: _Fold, names: Sequence[str], profiles: Sequence[str]
) -> Iterator[tuple[Sequence[str], Sequence[str], np.ndarray, tuple[Any, Any]]]:
    """Yield classifiers, profiles, the training cells' classes, and what is seen of training and test cells there."""
    if "random_forest" in names:
        rows = fold.in_sample[fold.train[fold.sampled]], fold.in_sample[fold.test]
        yield ["random_forest"], profiles, fold.codes[fold.sampled], rows
    everything = np.full(len(fold.train), True)
    trained_on = {"logistic_regression": fold.sampled, "knn": everything}
    if fold.sampled.all():  # what both see is scaled once
        groups = [([name for name in names if name in trained_on], everything)]
    else:
        groups = [([name], rows) for name, rows in trained_on.items() if name in names]
    as_they_are = [profile for profile in profiles if profile == "corrected" and features.common_units]
    scaled = [profile for profile in profiles if profile not in as_they_are]
    for others, chosen in groups:
        train, codes = fold.train[chosen], fold.codes[chosen]
        if others and scaled:
            yield others, scaled, codes, features.scaled(train, fold.test)
        if others and as_they_are:
            yield others, as_they_are, codes, (features.take(train), features.take(fold.test))


def _fit(
    name: str,
    fit: _Fit,
    train: Matrix | np.ndarray,
    test: Matrix | np.ndarray,
    fold: _Fold,
    classes: _Classes,
    profiles: Sequence[str],
) -> Iterator[_Result]:
    """Yield what one classifier got right, for each profile."""
    try:
        if len(fold.test):
            predictions = fit(train, fold.codes, test, classes.n)
        else:  # the model embedded none of the test cells, and there is nothing to predict
            predictions = [Prediction(fold.truth, np.zeros((0, classes.n)))]
    except ValueError as error:
        reason = f"fold {fold.number}: {one_line(error)}"
        yield from (_Result(name, fold.number, profile, reason) for profile in profiles)
        return
    counted: dict[int, tuple[DonorCounts, np.ndarray]] = {}  # by prediction, which the profiles may share
    for profile in profiles:
        prediction = predictions[0 if profile == "reference" else -1]
        if id(prediction) not in counted:
            predicted = prediction.classes
            of_test = fold.truth, predicted, prediction.probabilities, fold.donors
            counts = DonorCounts.of(*of_test, fold.trained, classes.rare, fold.left_out)
            confusion = np.bincount(fold.truth * classes.n + predicted, minlength=classes.n**2).reshape(classes.n, -1)
            counted[id(prediction)] = counts, confusion
        counts, confusion = counted[id(prediction)]
        yield _Result(name, fold.number, profile, "", counts, confusion, prediction.iterations, prediction.converged)


# --- from results to rows --------------------------------------------------------------------------------------------

UNDEFINED = {"auroc": "no class known from training divides", "f1_rare": "no rare label is among"}
"""Why a score of a fold's test cells is not defined."""


def _scores(results: Sequence[_Result], classes: _Classes, profile: str, subset: str, note: str) -> Iterator[Score]:
    """Yield, per classifier, every fold, the mean over the folds that succeeded, and then the mean over classifiers."""
    common = {"profile": profile, "subset": subset}
    metrics = [name for name in METRICS[profile] if name != "f1_rare" or classes.rare.any()]
    values: dict[str, dict[str, list[float]]] = {}
    of_classifiers = {name: [result for result in results if result.classifier == name] for name in CLASSIFIERS}
    for name, of_classifier in of_classifiers.items():
        if not of_classifier:
            continue
        where = {**common, "classifier": name}
        succeeded = [result for result in of_classifier if not result.failure]
        n_converged, n = sum(result.converged for result in succeeded), len(succeeded)
        stopped = profile == "corrected" and n_converged < n
        caveat = f"{name} did not converge in {n - n_converged} of {n} folds" if stopped else ""
        values[name] = {metric: [] for metric in metrics}
        for result in of_classifier:
            yield from _fold_scores(result, values[name], joined(note, caveat if not result.converged else ""), common)
        for metric in metrics:
            yield _mean(metric, values[name][metric], len(of_classifier), joined(note, caveat), where)
        yield Score("folds_succeeded", float(n), **where)
        if name == "logistic_regression" and succeeded:
            yield Score("iterations", float(max(result.iterations for result in succeeded)), **where)
            if profile == "corrected":
                yield Score("folds_converged", float(n_converged), **where)
    missing = [name for name in CLASSIFIERS if name not in values]
    note = joined(note, f"mean without {', '.join(missing)}" if missing else "")
    for metric in metrics:
        yield _mean_over_classifiers(metric, values, note, common)
    if profile == "corrected" and "f1_rare" not in metrics:
        reason = f"every label that is predicted has at least {RARE:.0%} of the cells"
        yield Score("f1_rare", **common, classifier="mean", status="not_applicable", reason=reason)


def _fold_scores(
    result: _Result, values_of: Mapping[str, list[float]], note: str, common: Mapping[str, str]
) -> Iterator[Score]:
    where = {**common, "classifier": result.classifier, "fold": result.fold}
    values = result.values()
    for metric, of_folds in values_of.items():
        value = values.get(metric, np.nan)
        if np.isfinite(value):
            of_folds.append(value)
            yield Score(metric, value, **where, reason=note)
        else:
            reason = result.failure or f"fold {result.fold}: {UNDEFINED[metric]} its test cells"
            status = "not_applicable" if metric == "f1_rare" and not result.failure else "failed"
            yield Score(metric, **where, status=status, reason=reason)


def _mean(metric: str, values: Sequence[float], n_folds: int, note: str, where: Mapping[str, str]) -> Score:
    if not values:
        return Score(metric, **where, status="failed", reason=f"none of {n_folds} folds succeeded")
    others = "have no rare label" if metric == "f1_rare" else "failed"
    partial = f"mean over {len(values)} of {n_folds} folds, the others {others}" if len(values) < n_folds else ""
    return Score(metric, float(np.mean(values)), **where, reason=joined(note, partial))


def _mean_over_classifiers(
    metric: str, of_classifiers: Mapping[str, Mapping[str, Sequence[float]]], note: str, common: Mapping[str, str]
) -> Score:
    """Average over all folds of all classifiers, as cz-benchmarks does; in profile corrected over the classifiers' means."""
    per_classifier = [values[metric] for values in of_classifiers.values() if values[metric]]
    where = {**common, "classifier": "mean"}
    if not per_classifier:
        return Score(metric, **where, status="failed", reason="no fold of any classifier succeeded")
    if common["profile"] == "reference":
        value = np.mean(np.concatenate(per_classifier))
    else:
        value = np.mean([np.mean(values) for values in per_classifier])
    failed = [name for name, values in of_classifiers.items() if not values[metric]]
    caveat = f"mean without {', '.join(failed)}" if failed else ""
    return Score(metric, float(value), **where, reason=joined(note, caveat))


def _fitted(results: Sequence[_Result]) -> dict[str, list[_Result]]:
    """Return the results of the folds on which each classifier could be fitted."""
    of_classifier: dict[str, list[_Result]] = {}
    for result in results:
        if not result.failure:
            of_classifier.setdefault(result.classifier, []).append(result)
    return of_classifier


def _per_class(results: Sequence[_Result], classes: _Classes, subset: str) -> Iterator[Score]:
    """Yield the F1 of each label over the test cells of all folds, and how many of its cells were given which label.

    Both are means over the classifiers. The condition of `confusion` is a JSON list: true label, predicted label. Cells that
    the model did not embed lower the F1, and are in no confusion.
    """
    of_classifier = _fitted(results)
    if not of_classifier:
        return
    where = {"profile": "corrected", "classifier": "mean", "subset": subset}
    right, true, claimed = (
        np.stack([sum(getattr(r.counts, name).sum(axis=0) for r in folds) for folds in of_classifier.values()])
        for name in ("right", "true", "claimed")
    )
    f1 = np.mean(2 * right / np.maximum(true + claimed, 1), axis=0)
    confusion = np.mean([sum(result.confusion for result in folds) for folds in of_classifier.values()], axis=0)
    for code in np.flatnonzero(true.max(axis=0)):
        yield Score("f1", float(f1[code]), condition=str(classes.names[code]), **where)
    for true_code, predicted in np.argwhere(confusion):
        pair = json.dumps([str(classes.names[true_code]), str(classes.names[predicted])], ensure_ascii=False)
        yield Score("confusion", float(confusion[true_code, predicted]), condition=pair, **where)


def _deal(
    cells: CellsToScore, classes: _Classes, profiles: Sequence[str], n_folds: int, seed: int
) -> dict[str, _Scheme]:
    """Deal the predicted cells over folds, in every way that the profiles ask for."""
    schemes = {RANDOM: _Scheme(random_folds(classes.codes, n_folds, seed), profiles)}
    if "corrected" in profiles:
        schemes[DONORS] = _donor_folds(cells, classes, n_folds, seed)
    return schemes


def _donor_folds(cells: CellsToScore, classes: _Classes, n_folds: int, seed: int) -> _Scheme:
    """Deal whole donors over folds; cells of unknown donor are in none."""
    if "donor" not in cells.obs:
        return _Scheme(status="not_applicable", reason="the cells have no column 'donor'")
    donors = cells.of_all("donor")[classes.cells]
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
    in_cells = [(known[train], known[test]) for train, test in folds]
    return _Scheme(in_cells, donors=of_cells, names=list(map(str, names)), note=note)


def _donor_scores(scheme: _Scheme, results: Sequence[_Result], classes: _Classes, note: str) -> Iterator[Score]:
    """Yield the scores of folds that hold out whole donors, with how many classes each fold could not do justice to.

    Then each mean over folds without one donor after the other, and the number of donors.
    """
    where = {"profile": "corrected", "subset": DONORS}
    if not scheme.folds:
        yield Score(**where, status=scheme.status, reason=scheme.reason)
        return
    yield from _scores(results, classes, **where, note=joined(note, scheme.note))
    yield from _per_class(results, classes, DONORS)
    for number, rows in enumerate(scheme.folds):
        train, test = (np.bincount(classes.codes[of_part], minlength=classes.n) > 0 for of_part in rows)
        yield Score("classes_not_in_training", float((test & ~train).sum()), **where, fold=number)
        yield Score("classes_not_in_test", float((train & ~test).sum()), **where, fold=number)
    yield Score("n_donors", float(len(scheme.names)), **where)
    counted = {name: [result.counts for result in folds] for name, folds in _fitted(results).items()}
    for (classifier, metric), values in predictions_without(counted, len(scheme.names)).items():
        of_donor = dict(zip(scheme.names, values.tolist(), strict=True))
        yield from without_donors(metric, of_donor, classifier=classifier, subset=DONORS)

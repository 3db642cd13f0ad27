"""How sure the numbers are: intervals of scores and of their means, and which models can be told apart.

Everything is computed from score rows. What a score is the mean of (its units) decides what its interval says, and so it is
named beside each: donors (other people), conditions (other perturbations), labels (other cell types), folds (other training
cells), seeds (other runs of a method that draws random numbers), splits (other tissues or species). Two models are compared by
the differences over the units that they share.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from cellgauge.metrics.intervals import (
    FEWEST,
    Estimates,
    contributions,
    estimates,
    holm,
    interval,
    of_folds,
    p_values,
    pseudo_values,
)
from cellgauge.results.catalogue import Tasks, is_beside, screen_tasks, species_pairs

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05

VARIANT = ["task", "dataset", "classifier", "metric", "subset", "profile"]
SHEET = ["task", "dataset", "set", "classifier", "metric", "subset", "profile"]
SCORE_KEY = ["task", "model", "dataset", "split", "classifier", "metric", "subset", "condition", "profile"]
SUMMARY_KEY = ["task", "model", "dataset", "set", "classifier", "metric", "subset", "profile"]
INTERVAL_COLUMNS = [*SCORE_KEY, "value", "low", "high", "resampled", "n_resampled"]
COMPARISON_COLUMNS = [*SHEET, "first", "second", "units", "n_units", "difference", "low", "high", "p", "p_holm"]
COMPARISON_COLUMNS += ["better"]
RANK_COLUMNS = [*SHEET, "model", "rank", "mean_rank", "units", "n_units", "n_models"]

KINDS = ("donors", "folds", "conditions", "labels", "seeds")
"""What a score may be the mean of, the first that is known counts (a perfect score is the mean of folds and of labels).

Seeds are of a model alone: no two models share them.
"""
CONDITION_KINDS = ("conditions", "labels")
"""The kinds of units that are rows of a single condition: perturbations of a screen, labels elsewhere."""

Singles = Mapping[tuple[str, ...], Mapping[str, Mapping[str, Mapping[Any, float]]]]
"""Values by score (SHEET, with a split in the place of the set), kind of unit, model and unit."""
Rows = Callable[[np.ndarray], np.ndarray]
"""Takes one row per model and returns the rows to be estimated: the same, or the differences of pairs."""


# --- from score rows to units ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Units:
    """What the scores of one kind on one split are the means of: `values` has a row per model and a column per unit."""

    names: Sequence[str]
    values: np.ndarray


@dataclass(frozen=True)
class Sheet:
    """The scores of all models in one variant of a metric on one dataset (or set of splits), with their units."""

    key: tuple[str, ...]  # the fields SHEET
    # models, splits: the names of rows and columns
    models: Sequence[str]
    splits: Sequence[str]
    values: np.ndarray  # scores, NaN where there is none; shape (n_models, n_splits)
    # by split, then by kind. For donors they are the jackknife's pseudo-values
    units: Mapping[str, Mapping[str, Units]] = field(default_factory=dict)
    # whether the task scores conditions, which then are the units however many splits there are
    of_conditions: bool = False

    def has_donors_enough(self, units: Units) -> bool:
        """Return whether each species has FEWEST donors, where they are of species/donor: one of two may take labels along.

        The score without it is then another question's, and an interval over such donors says nothing.
        """
        if not self.key[2]:
            return True
        return min(Counter(name.partition("/")[0] for name in units.names).values()) >= FEWEST

    @cached_property
    def donors_by_split(self) -> dict[str, Sequence[str]]:
        """The donors of each split where they are known, in the same order in every process (sums are rounded)."""
        return {split: kinds["donors"].names for split, kinds in self.units.items() if "donors" in kinds}

    @cached_property
    def donor_groups(self) -> dict[str, int]:
        """The stratum of each donor: splits that share donors are one; of species/donor it is the species."""
        spans = bool(self.key[2])
        groups: list[set[str]] = []
        for donors in self.donors_by_split.values():
            parts = defaultdict(set)
            for donor in donors:
                parts[donor.partition("/")[0] if spans else ""].add(donor)
            for part in parts.values():
                touching = [group for group in groups if group & part]
                groups = [group for group in groups if not group & part] + [part.union(*touching)]
        return {donor: place for place, group in enumerate(groups) for donor in group}


def sheets(of_scores: Singles, headline: pd.DataFrame, screens: Collection[str]) -> Iterator[Sheet]:
    """Yield the scores of each variant of a metric with what they are the means of.

    Args:
        of_scores: what `singles` returns.
        headline: the row that stands for each score (`cellgauge.results.tables.headline`), with the column `set`.
        screens: the tasks whose conditions are perturbations.
    """
    scores: dict[tuple, dict[tuple[str, str], float]] = defaultdict(dict)
    rows = headline[(headline["condition"] == "")]
    for *key, model, split, value in rows[[*SHEET, "model", "split", "value"]].itertuples(index=False, name=None):
        if not is_beside(key[3]):
            scores[tuple(key)][model, split] = value
    for key, scores_of in scores.items():
        models, splits = (list(dict.fromkeys(names)) for names in zip(*scores_of, strict=True))
        values = np.array([[scores_of.get((model, split), np.nan) for split in splits] for model in models])
        units = {
            split: _units(of_scores.get((*key[:2], split, *key[3:]), {}), models, values[:, column])
            for column, split in enumerate(splits)
        }
        yield Sheet(key, models, splits, values, units, key[0] in screens)


def singles(table: pd.DataFrame, tasks: Tasks) -> Singles:
    """Return the values that scores are the means of, and the scores without one donor.

    The kinds of units are KINDS and "pairs of species"; such pairs share cells, so no interval is over them. The mean over
    classifiers has the folds of each classifier, and the mean over all strata of a screen the conditions of each stratum.

    Args:
        table: all score rows, those of single conditions among them.
        tasks: what the catalogue says of the tasks.
    """
    screens, pairs = screen_tasks(tasks), species_pairs(tasks)
    values: Any = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    ok = table[table["status"] == "ok"]
    rows = ok[ok["fold"].notna() | ok["seed"].notna() | (ok["condition"] != "")].astype({"seed": float, "fold": float})
    rows = rows[[*SCORE_KEY, "seed", "fold", "value"]]
    for task, model, *place, classifier, metric, subset, condition, profile, seed, fold, value in rows.itertuples(
        index=False, name=None
    ):
        key = (task, *place, classifier, metric, subset, profile)
        if metric.endswith("_without"):
            values[(*key[:4], metric.removesuffix("_without"), *key[5:])]["donors"][model][condition] = value
        elif not np.isnan(fold):
            for name in {classifier, "mean"} if classifier else {""}:
                values[(*key[:3], name, *key[4:])]["folds"][model][fold, classifier] = value
        elif condition:
            kind = "conditions" if task in screens else "pairs of species" if (task, metric) in pairs else "labels"
            for name in {subset, subset.partition("/")[0]}:
                values[(*key[:5], name, profile)][kind][model][condition] = value
        elif not np.isnan(seed):
            values[key]["seeds"][model][seed] = value
    return values


def _units(
    kinds: Mapping[str, Mapping[str, Mapping[Any, float]]], models: Sequence[str], whole: np.ndarray
) -> dict[str, Units]:
    """Return the units of one split by kind; conditions only of models whose score is their mean."""
    units = {}
    for kind in KINDS:
        of_models = kinds.get(kind, {})
        by_model = {model: _folds(values) if kind == "folds" else values for model, values in of_models.items()}
        names = list(dict.fromkeys(name for values in by_model.values() for name in values))
        if len(names) < 2:
            continue
        matrix = np.array([[by_model.get(model, {}).get(name, np.nan) for name in names] for model in models])
        if kind in CONDITION_KINDS:
            matrix[~np.isclose(row_means(matrix), whole, rtol=0, atol=1e-9)] = np.nan
        if kind == "donors":
            matrix = pseudo_values(whole, matrix)
        units[kind] = Units([str(name) for name in names], matrix)
    return units


def _folds(values: Mapping[tuple[float, str], float]) -> dict[float, float]:
    """Return the mean over classifiers of every fold that has all of them."""
    of_fold: dict[float, list[float]] = defaultdict(list)
    for (fold, _), value in values.items():
        of_fold[fold].append(value)
    most = max(map(len, of_fold.values()))
    return {fold: float(np.mean(parts)) for fold, parts in of_fold.items() if len(parts) == most}


# --- from units to estimates -----------------------------------------------------------------------------------------


def estimated(
    sheet: Sheet, rows: Rows = lambda matrix: matrix, kinds: Sequence[str] = KINDS
) -> tuple[Estimates, list[str]]:
    """Return the mean over splits of each row with the moments of its error, and what its units are.

    With FEWEST splits or more these are the units; donors whom several of them share add what they have in common. With fewer,
    the units are those of the splits' own scores, and the mean is of these very splits.

    Args:
        rows: what is estimated of the rows of models.
        kinds: the kinds of units to look for within splits.
    """
    values = rows(sheet.values)
    within, named = within_splits(sheet, rows, kinds)
    over_splits = (~np.isnan(values)).sum(axis=1) >= FEWEST
    if sheet.of_conditions or not over_splits.any():
        return within, named
    across, named_across = _over_splits(sheet, rows, values)
    fields = {name: np.where(over_splits, getattr(across, name), getattr(within, name)) for name in vars(within)}
    return Estimates(**fields), [b if many else a for a, b, many in zip(named, named_across, over_splits, strict=True)]


def row_means(values: np.ndarray) -> np.ndarray:
    """Return the mean of the values of each row that are not NaN, NaN where there are none; shape (n_rows,)."""
    n = (~np.isnan(values)).sum(axis=1)
    return np.divide(np.nansum(values, axis=1), n, out=np.full(len(values), np.nan), where=n > 0)


def within_splits(sheet: Sheet, rows: Rows, kinds: Sequence[str]) -> tuple[Estimates, list[str]]:
    """Return estimates from what the scores of each split are the means of.

    Args:
        rows: what is estimated of the rows of models, n_rows of them.
        kinds: the kinds of units to look for; of each split the first that it has.

    Returns:
        the estimates of the n_rows rows, and for each row its kinds of units, joined by ", ".
    """
    values = rows(sheet.values).copy()
    n_splits = np.maximum((~np.isnan(values)).sum(axis=1, keepdims=True), 1)
    columns: dict[tuple[str, str, str], np.ndarray] = {}
    strata: dict[tuple[str, str, str], tuple[str, Any]] = {}
    named: list[dict[str, None]] = [{} for _ in values]
    complete = np.full(len(values), True)
    for place, split in enumerate(sheet.splits):
        todo = ~np.isnan(values[:, place])
        for kind in kinds:
            units = sheet.units.get(split, {}).get(kind)
            if units is None or (kind == "donors" and not sheet.has_donors_enough(units)):
                continue
            matrix = rows(units.values)
            usable = todo & ((~np.isnan(matrix)).sum(axis=1) > 1)
            if not usable.any():
                continue
            matrix = np.where(usable[:, None], matrix, np.nan)
            added = (of_folds(matrix, len(units.names)) if kind == "folds" else contributions(matrix)) / n_splits
            if kind in CONDITION_KINDS:  # a difference is over the conditions that both models have
                values[usable, place] = row_means(matrix[usable])
            for name, column in zip(units.names, added.T, strict=True):
                key = ("donors", "", name) if kind == "donors" else (kind, split, name)
                old = columns.get(key, np.full(len(column), np.nan))
                columns[key] = np.where(np.isnan(old), column, old + np.nan_to_num(column))
                strata[key] = (kind, sheet.donor_groups[name] if kind == "donors" else split)
            for row in np.flatnonzero(usable):
                named[row][kind] = None
            todo &= ~usable
        complete &= ~todo
    codes = {stratum: place for place, stratum in enumerate(dict.fromkeys(strata.values()))}
    matrix = np.array(list(columns.values())).T if columns else np.full((len(values), 0), np.nan)
    matrix = np.where(complete[:, None], matrix, np.nan)
    of_units = np.array([codes[stratum] for stratum in strata.values()], dtype=int)
    return estimates(row_means(values), matrix, of_units), [", ".join(names) for names in named]


def _over_splits(sheet: Sheet, rows: Rows, values: np.ndarray) -> tuple[Estimates, list[str]]:
    """Return the estimates from the splits, with the variance that donors whom they share add (two-way clusters).

    Source: Cameron, Gelbach & Miller (2011), Journal of Business & Economic Statistics 29, 238-249.
    """
    of_splits = estimates(row_means(values), contributions(values), np.zeros(values.shape[1], dtype=int))
    names = [name for donors in sheet.donors_by_split.values() for name in donors]
    if len(set(names)) == len(names):  # no split shares any
        return of_splits, ["splits"] * len(values)
    n_splits = np.maximum((~np.isnan(values)).sum(axis=1, keepdims=True), 1)
    of_donors = {name: np.zeros(len(values)) for name in names}
    apart = np.zeros(len(values))
    for place, split in enumerate(sheet.splits):
        if split in sheet.donors_by_split:
            units = sheet.units[split]["donors"]
            matrix = np.where(np.isnan(values[:, [place]]), np.nan, rows(units.values))
            added = np.nan_to_num(contributions(matrix) / n_splits)
            apart += (added**2).sum(axis=1)
            for name, column in zip(units.names, added.T, strict=True):
                of_donors[name] += column
    more = np.maximum(sum(column**2 for column in of_donors.values()) - apart, 0)
    df = np.where(more > 0, np.minimum(of_splits.df, len(of_donors) - 1), of_splits.df)
    kinds = ["splits, donors" if extra > 0 else "splits" for extra in more]
    return replace(of_splits, variance=of_splits.variance + more, df=df), kinds


Range = tuple[float | None, float | None]


def intervals(all_sheets: Iterable[Sheet], ranges: Mapping[tuple[str, str], Range]) -> pd.DataFrame:
    """Return the 95 % interval of every headline score that has one, INTERVAL_COLUMNS.

    Args:
        ranges: the bounds of a metric's values, by task and metric.
    """
    import pandas as pd

    rows = []
    for sheet in all_sheets:
        task, dataset, _, classifier, metric, subset, profile = sheet.key
        for place, split in enumerate(sheet.splits):
            of_split = replace(sheet, splits=[split], values=sheet.values[:, [place]])
            columns = _ends(*estimated(of_split), sheet, ranges)
            for model, value, *ends in zip(sheet.models, sheet.values[:, place], *columns, strict=True):
                if ends[2]:
                    rows.append((task, model, dataset, split, classifier, metric, subset, "", profile, value, *ends))
    return pd.DataFrame(rows, columns=INTERVAL_COLUMNS)


def summary_intervals(
    summary: pd.DataFrame, all_sheets: Iterable[Sheet], ranges: Mapping[tuple[str, str], Range]
) -> pd.DataFrame:
    """Return `summary` with the columns low, high, resampled and n_resampled: the interval of each mean over splits."""
    intervals_of = {
        (sheet.key[0], model, *sheet.key[1:]): ends
        for sheet in all_sheets
        for model, *ends in zip(sheet.models, *_ends(*estimated(sheet), sheet, ranges), strict=True)
    }
    keys = summary[SUMMARY_KEY].itertuples(index=False, name=None)
    rows = [intervals_of.get(key, (np.nan, np.nan, "", 0)) for key in keys]
    columns = zip(*rows, strict=True) if rows else ((), (), (), ())
    return summary.assign(**dict(zip(("low", "high", "resampled", "n_resampled"), map(list, columns), strict=True)))


def _ends(
    of: Estimates, named: Sequence[str], sheet: Sheet, ranges: Mapping[tuple[str, str], Range]
) -> tuple[list[float], list[float], list[str], list[int]]:
    """Return low, high, the units and their number of each row, "" and 0 where there is no interval."""
    low, high = interval(of, *ranges.get((sheet.key[0], sheet.key[4]), (None, None)))
    units = [names if known else "" for names, known in zip(named, of.known, strict=True)]
    return low.tolist(), high.tolist(), units, np.where(of.known, of.n_units, 0).astype(int).tolist()


# --- which models differ ---------------------------------------------------------------------------------------------


def compare(
    all_sheets: Iterable[Sheet],
    higher_is_better: Mapping[tuple[str, str], bool],
    controls: Collection[str],
    incomplete: Callable[[tuple[str, ...], str], object],
    unlike: Callable[[tuple[str, ...], str], object],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare models in pairs by Student's test of their differences over the units that they share, and rank them.

    The p values of all pairs of one variant are corrected by Holm, those with a control apart. A model's rank is 1 plus the
    number of models that are ahead of it. Source of the tests: `cellgauge.metrics.intervals`.

    Args:
        higher_is_better: by task and metric; what is not in it is no score and not compared.
        controls: models that are compared and not ranked.
        incomplete: whether a model (of a sheet's key) lacks splits: then it is compared over those that it has, and not ranked.
        unlike: whether its scores are of fewer cells, conditions, genes or folds than there are: then it is not compared.

    Returns:
        COMPARISON_COLUMNS, one row per pair that shares FEWEST units or more, `better` naming the one that is ahead where
        p_holm is below 0.05 and the interval does not hold 0; RANK_COLUMNS, one row per model that is ranked: nothing is
        known of those that are in no such pair.
    """
    import pandas as pd

    pairs: list[tuple] = []
    ranked: list[tuple] = []
    for sheet in all_sheets:
        rising = higher_is_better.get((sheet.key[0], sheet.key[4]))
        if rising is None or is_beside(sheet.key[4]) or "/" in sheet.key[5]:
            continue
        places = [place for place, model in enumerate(sheet.models) if not unlike(sheet.key, model)]
        tested = list(_pairs(sheet, places, rising, controls))
        complete = [p for p in places if sheet.models[p] not in controls and not incomplete(sheet.key, sheet.models[p])]
        pairs += tested
        ranked += _ranks(sheet, complete, rising, tested)
    return pd.DataFrame(pairs, columns=COMPARISON_COLUMNS), pd.DataFrame(ranked, columns=RANK_COLUMNS)


def _pairs(sheet: Sheet, places: Sequence[int], rising: bool, controls: Collection[str]) -> Iterator[tuple]:
    chosen = np.array(list(combinations(places, 2)), dtype=int).reshape(-1, 2)
    if not len(chosen):
        return
    differences, named = estimated(sheet, lambda matrix: matrix[chosen[:, 0]] - matrix[chosen[:, 1]], KINDS[:-1])
    p = p_values(differences)
    corrected = np.full(len(p), np.nan)
    with_control = np.array([any(sheet.models[place] in controls for place in pair) for pair in chosen])
    for family in (with_control, ~with_control):
        rows = np.flatnonzero(family & ~np.isnan(p))
        corrected[rows] = holm(p[rows])
    low, high = interval(differences)
    for row in np.flatnonzero(~np.isnan(p)):
        first, second = (sheet.models[place] for place in chosen[row])
        difference = float(differences.value[row])
        # the interval is wider than that of the test where units are skewed
        differ = corrected[row] < ALPHA and not low[row] <= 0 <= high[row]
        better = "" if not differ else first if (difference > 0) == rising else second
        numbers = (float(value[row]) for value in (low, high, p, corrected))
        yield (*sheet.key, first, second, named[row], int(differences.n_units[row]), difference, *numbers, better)


def _ranks(sheet: Sheet, places: Sequence[int], rising: bool, tested: Sequence[tuple]) -> Iterator[tuple]:
    ranked = {sheet.models[place] for place in places}
    pairs = [dict(zip(COMPARISON_COLUMNS, row, strict=True)) for row in tested]
    pairs = [pair for pair in pairs if {pair["first"], pair["second"]} <= ranked]
    in_a_test = {pair[side] for pair in pairs for side in ("first", "second")}
    places = [place for place in places if sheet.models[place] in in_a_test]  # nobody could be ahead of the others
    behind = Counter(pair["second" if pair["better"] == pair["first"] else "first"] for pair in pairs if pair["better"])
    for place, mean_rank in zip(places, _mean_ranks(sheet, places, rising) if places else (), strict=True):
        model = sheet.models[place]
        over = pairs[0]["units"], pairs[0]["n_units"]
        yield (*sheet.key, model, 1 + behind[model], mean_rank, *over, len(places))


def _mean_ranks(sheet: Sheet, places: Sequence[int], rising: bool) -> list[float]:
    """Return the mean rank of each model over splits, or over what the score of the only split is the mean of."""
    import pandas as pd

    values = sheet.values[places]
    if len(sheet.splits) == 1 or sheet.of_conditions:
        units = [kinds[kind] for kinds in sheet.units.values() for kind in ("folds", *CONDITION_KINDS) if kind in kinds]
        parts = [part for part in (of_kind.values[places] for of_kind in units) if not np.isnan(part).any()]
        values = np.hstack(parts[:1] if not sheet.of_conditions else parts) if parts else values
    return pd.DataFrame(values).rank(ascending=not rising).mean(axis=1).tolist()

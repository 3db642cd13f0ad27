"""How sure the numbers are: intervals of scores and of their means, and which models can be told apart.

Everything is computed from score rows. What is drawn with replacement is named beside each interval, since it decides what the
interval says: donors (other people), conditions (other perturbations), labels (other cell types), folds (other training cells),
seeds (other runs of a method that draws random numbers), splits (other tissues or species).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from cellgauge.metrics.bootstrap import FEWEST, LEVEL, draw_counts
from cellgauge.metrics.bootstrap import N_DRAWS as DRAWS_OF_DONORS

if TYPE_CHECKING:
    import pandas as pd

N_DRAWS, SEED = 2000, 42
FEWEST_SPLITS = 5
"""With fewer splits than this a mean's interval is that of these very splits, not of others like them."""
FEWEST_PAIRS = 6
"""With fewer splits than this no signed-rank test can reach 5 %."""
ALPHA = 0.05

VARIANT = ["task", "dataset", "classifier", "metric", "subset", "profile"]
SCORE_KEY = ["task", "model", "dataset", "split", "classifier", "metric", "subset", "condition", "profile"]
SUMMARY_KEY = ["task", "model", "dataset", "set", "classifier", "metric", "subset", "profile"]
INTERVAL_COLUMNS = [*SCORE_KEY, "value", "low", "high", "resampled", "n_resampled"]
COMPARISON_COLUMNS = [*VARIANT, "first", "second", "n_splits", "difference", "n_first_higher", "p", "p_holm", "better"]
RANK_COLUMNS = [*VARIANT, "model", "mean_rank", "n_splits", "n_models", "p_friedman", "critical_difference"]

Key = tuple[str, ...]


def is_end(metric: str) -> bool:
    """Return whether a metric is an end of the interval of another one."""
    return metric.endswith(("_low", "_high"))


def is_beside(metric: str) -> bool:
    """Return whether a metric is the spread or an end of the interval of another one."""
    return metric.endswith("_sd") or is_end(metric)


def facts_beside(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what is to say of the metrics that stand beside one, by the end of their name.

    Args:
        facts: what is said of the metric itself, as in config/tasks.yaml: its title, its range where it has one.
    """
    drawn = f"{LEVEL:.0%} interval over {DRAWS_OF_DONORS} draws of whole donors, where at least {FEWEST} are known.".replace(
        "%", " %"
    )
    end = {
        "source": "this project; bias-corrected percentiles of a cluster bootstrap (Davison & Hinkley 1997)",
        "higher_is_better": None,
        "range": facts.get("range", [None, None]),
    }
    return {
        "_low": {
            "title": f"{facts['title']}, lower end of its interval",
            "description": f"Lower end of the {drawn}",
            **end,
        },
        "_high": {
            "title": f"{facts['title']}, upper end of its interval",
            "description": f"Upper end of the {drawn}",
            **end,
        },
        "_sd": {
            "title": f"{facts['title']}, standard deviation over seeds",
            "description": "How much of it is luck of the seed; differences between models below this say nothing.",
            "source": "sample standard deviation (n - 1) over the seeds",
            "higher_is_better": False,
            "range": [0, None],
        },
    }


# --- intervals of single scores --------------------------------------------------------------------------------------


def intervals(table: pd.DataFrame, headline: pd.DataFrame, screens: Collection[str] = ()) -> pd.DataFrame:
    """Return the 95 % interval of every headline score that has one.

    Ends that the score file gives (metrics *_low and *_high: donors drawn) are taken; else conditions, labels, folds or seeds
    are drawn, whichever the value is the mean of. For the mean over classifiers a fold is drawn with all its classifiers.

    Args:
        table: all score rows.
        headline: the row that stands for each score (`cellgauge.results.tables.headline`).
        screens: the tasks whose conditions are perturbations; those of the others are labels.

    Returns:
        INTERVAL_COLUMNS, one row per score, in the order of `headline`.
    """
    import pandas as pd

    ok = table[table["status"] == "ok"]
    given = _given(ok)
    units = _units(ok)
    drawn: dict[Key, tuple[str, np.ndarray]] = {}
    found: dict[Key, tuple[float, float, str, int]] = {}
    columns = [*SCORE_KEY, "value"]
    rows = [row for row in headline[columns].itertuples(index=False, name=None) if not is_beside(row[5])]
    for *parts, value in rows:
        key = tuple(parts)
        if key in given:
            found[key] = given[key]
        elif (unit := _unit_of(key, value, units)) is not None:
            name, values = unit
            drawn[key] = ("labels" if name == "conditions" and key[0] not in screens else name), values
    for size in sorted({len(values) for _, values in drawn.values()}):
        keys = [key for key, (_, values) in drawn.items() if len(values) == size]
        low, high = mean_intervals(np.array([drawn[key][1] for key in keys]))
        found |= {key: (a, b, drawn[key][0], size) for key, a, b in zip(keys, low.tolist(), high.tolist(), strict=True)}
    return pd.DataFrame([(*row, *found[row[:-1]]) for row in rows if row[:-1] in found], columns=INTERVAL_COLUMNS)


def mean_intervals(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile intervals of row means, each unit drawn with replacement.

    Args:
        values: shape (n_rows, n_units); the same draws serve all rows.
    """
    n = values.shape[1]
    counts = draw_counts(n, N_DRAWS, SEED)
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    parts = [np.quantile(rows @ counts.T / n, ends, axis=1) for rows in np.array_split(values, len(values) // 1000 + 1)]
    low, high = np.concatenate(parts, axis=1)
    # digits of the matrix product must not part the ends of equal values
    low, high = (np.clip(end, values.min(axis=1), values.max(axis=1)) for end in (low, high))
    return low, high


def _given(ok: pd.DataFrame) -> dict[Key, tuple[float, float, str, int]]:
    """Return the ends that score files give, with the number of donors behind them."""
    donors, of = ok[(ok["metric"] == "n_donors") & (ok["condition"] == "")], [*SCORE_KEY[:4], "subset"]
    n_donors = {tuple(row[:-1]): int(row[-1]) for row in donors[[*of, "value"]].itertuples(index=False)}
    ends: dict[Key, dict[str, float]] = defaultdict(dict)
    for *parts, value in ok[[*SCORE_KEY, "value"]].itertuples(index=False, name=None):
        metric, _, end = parts[5].rpartition("_")
        if end in ("low", "high"):
            ends[(*parts[:5], metric, *parts[6:])][end] = value
    return {
        key: (both["low"], both["high"], "donors", n_donors.get((*key[:4], key[6]), n_donors.get((*key[:4], ""), 0)))
        for key, both in ends.items()
        if len(both) == 2
    }


def _units(ok: pd.DataFrame) -> dict[str, dict[Key, dict[Any, float]]]:
    """Return the values of single conditions, folds and seeds: kind -> key of their mean -> unit -> value."""
    found: dict[str, dict[Key, dict[Any, float]]] = {
        kind: defaultdict(dict) for kind in ("conditions", "folds", "seeds")
    }
    single = ok[ok["fold"].notna() | ok["seed"].notna() | (ok["condition"] != "")]
    single = single.astype({"seed": "float64", "fold": "float64"})
    for *parts, seed, fold, value in single[[*SCORE_KEY, "seed", "fold", "value"]].itertuples(index=False, name=None):
        if not np.isnan(fold):
            found["folds"][tuple(parts)][fold, parts[4]] = value
            if parts[4]:
                found["folds"][(*parts[:4], "mean", *parts[5:])][fold, parts[4]] = value
        elif not np.isnan(seed):
            found["seeds"][tuple(parts)][seed] = value
        else:
            found["conditions"][(*parts[:7], "", parts[8])][parts[7]] = value
            whole, stratum, _ = parts[6].partition("/")
            if stratum:  # the mean over all strata is of these too
                found["conditions"][(*parts[:6], whole, "", parts[8])][parts[7]] = value
    return found


def _unit_of(
    key: Key, value: float, units: Mapping[str, Mapping[Key, Mapping[Any, float]]]
) -> tuple[str, np.ndarray] | None:
    """Return what a score is the mean of: (its name, one value per unit); None when that is not known."""
    if conditions := units["conditions"].get(key):
        values = np.array(list(conditions.values()))
        if len(values) >= FEWEST and np.isclose(values.mean(), value, rtol=0, atol=1e-9):
            return "conditions", values
    if folds := units["folds"].get(key):
        of_fold: dict[Any, list[float]] = defaultdict(list)
        for (fold, _), found in folds.items():
            of_fold[fold].append(found)
        most = max(map(len, of_fold.values()))
        values = np.array([np.mean(found) for found in of_fold.values() if len(found) == most])
        if len(values) >= FEWEST:
            return "folds", values
    if (seeds := units["seeds"].get(key)) and len(seeds) >= FEWEST:
        return "seeds", np.array(list(seeds.values()))
    return None


# --- intervals of means over splits ----------------------------------------------------------------------------------


def summary_intervals(summary: pd.DataFrame, headline: pd.DataFrame, single: pd.DataFrame) -> pd.DataFrame:
    """Return `summary` with the columns low, high, resampled and n_resampled: the interval of each mean over splits.

    Splits are drawn where there are FEWEST_SPLITS or more. With fewer, the intervals of the splits' own scores are joined as
    those of independent values (half-widths in quadrature), where all of them have one. `headline` and `single` have the
    column `set`, as `summary` has (`cellgauge.results.tables.with_set`).
    """
    by = SUMMARY_KEY
    values: dict[Key, list[float]] = defaultdict(list)
    for *key, value in headline[headline["condition"] == ""][[*by, "value"]].itertuples(index=False, name=None):
        values[tuple(key)].append(value)
    parts: dict[Key, list[tuple[float, float, float, str, int]]] = defaultdict(list)
    kept = single[single["condition"] == ""]
    for *key, value, low, high, unit, n in kept[[*by, *INTERVAL_COLUMNS[-5:]]].itertuples(index=False, name=None):
        parts[tuple(key)].append((value, low, high, unit, n))
    keys = [tuple(key) for key in summary[by].itertuples(index=False, name=None)]
    scores = [key for key in keys if not is_beside(key[5])]
    found = {key: _joined(parts[key]) for key in scores if len(values[key]) == len(parts[key])}
    for size in sorted({len(values[key]) for key in scores if len(values[key]) >= FEWEST_SPLITS}):
        drawn = [key for key in scores if len(values[key]) == size]
        low, high = (ends.tolist() for ends in mean_intervals(np.array([values[key] for key in drawn])))
        found |= {key: (a, b, "splits", size) for key, a, b in zip(drawn, low, high, strict=True)}
    rows = [found.get(key, (np.nan, np.nan, "", 0)) for key in keys]
    low, high, unit, n = zip(*rows, strict=True) if rows else ((), (), (), ())
    return summary.assign(low=list(low), high=list(high), resampled=list(unit), n_resampled=list(n))


def _joined(parts: Sequence[tuple[float, float, float, str, int]]) -> tuple[float, float, str, int]:
    """Return the interval of the mean of independent values, each (value, low, high, what was drawn, how many)."""
    found, lows, highs = (np.array([part[place] for part in parts]) for place in range(3))
    units = ", ".join(dict.fromkeys(part[3] for part in parts))
    down, up = (float(np.sqrt(((end - found) ** 2).sum()) / len(found)) for end in (lows, highs))
    return float(found.mean()) - down, float(found.mean()) + up, units, sum(part[4] for part in parts)


# --- which models differ ---------------------------------------------------------------------------------------------


def compare(
    headline: pd.DataFrame, higher_is_better: Mapping[tuple[str, str], bool], left_out: Iterable[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare models in pairs and by ranks, the splits of a dataset being the witnesses.

    Pairs: Wilcoxon's signed-rank test of the differences per split, the p values of all pairs of one variant corrected by
    Holm. Ranks: mean rank over splits, Friedman's test that all models are alike, and Nemenyi's critical difference at 5 %.
    Sources: Demsar (2006), JMLR 7, 1-30; Benavoli, Corani & Mangili (2016), JMLR 17, 1-10; Holm (1979), Scand J Stat 6, 65-70.

    Args:
        higher_is_better: by task and metric; what is not in it is no score and not compared.
        left_out: models that are not compared (controls).

    Returns:
        COMPARISON_COLUMNS, one row per pair of models that have a value on every split (FEWEST_PAIRS of them, or more) of a
        variant, `better` naming the one that is ahead by signed ranks where p_holm < 0.05; RANK_COLUMNS, one row per model of
        these.
    """
    import pandas as pd

    left_out = set(left_out)
    rows = headline[(headline["condition"] == "") & ~headline["model"].isin(left_out)]
    pairs: list[tuple] = []
    ranked: list[tuple] = []
    for variant, found in rows.groupby(VARIANT, sort=False):
        rising = higher_is_better.get((variant[0], variant[3]))
        if rising is None or is_beside(variant[3]):
            continue
        values = found.pivot_table(index="model", columns="split", values="value", sort=False).dropna()
        if values.shape[0] > 1 and values.shape[1] >= FEWEST_PAIRS:
            pairs += _pairs(variant, values, rising)
            ranked += _ranks(variant, values, rising)
    return pd.DataFrame(pairs, columns=COMPARISON_COLUMNS), pd.DataFrame(ranked, columns=RANK_COLUMNS)


def _pairs(variant: Key, values: pd.DataFrame, rising: bool) -> Iterator[tuple]:
    from scipy.stats import rankdata, wilcoxon

    models, matrix = list(values.index), values.to_numpy()
    chosen = list(combinations(range(len(models)), 2))
    differences = np.array([matrix[a] - matrix[b] for a, b in chosen])
    different = (differences != 0).any(axis=1)
    p = np.ones(len(chosen))
    sizes = np.sort(np.abs(differences), axis=1)
    # apart: where one row has zeros or ties, scipy would take the approximation for all
    tied = (sizes[:, 0] == 0) | (np.diff(sizes, axis=1) == 0).any(axis=1)
    for rows in (np.flatnonzero(~tied), *np.flatnonzero(tied & different)[:, None]):
        if len(rows):
            p[rows] = wilcoxon(differences[rows], axis=1).pvalue
    adjusted = holm(p)
    for (a, b), own, single, corrected in zip(chosen, differences, p, adjusted, strict=True):
        moved = own[own != 0]
        first_higher = rankdata(np.abs(moved)) @ np.sign(moved) > 0  # as the test has it: the mean may point elsewhere
        ahead = models[a] if first_higher == rising else models[b]
        better = ahead if corrected < ALPHA else ""
        counts = (len(own), float(own.mean()), int((own > 0).sum()), float(single), float(corrected))
        yield (*variant, models[a], models[b], *counts, better)


def holm(p: np.ndarray) -> np.ndarray:
    """Return p values corrected for their number by Holm's step-down procedure, shape (n,)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def _ranks(variant: Key, values: pd.DataFrame, rising: bool) -> Iterator[tuple]:
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    matrix = values.to_numpy()
    n_models, n_splits = matrix.shape
    ranks = rankdata(-matrix if rising else matrix, axis=0).mean(axis=1)
    p = friedmanchisquare(*matrix).pvalue if n_models > 2 else np.nan
    q = studentized_range.ppf(1 - ALPHA, n_models, np.inf) / np.sqrt(2)
    difference = float(q * np.sqrt(n_models * (n_models + 1) / (6 * n_splits)))
    for model, rank in zip(values.index, ranks.tolist(), strict=True):
        yield (*variant, model, rank, n_splits, n_models, p, difference)

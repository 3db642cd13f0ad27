"""What changed from one run to another: code, configuration, data and weights, and which scores differ by more than luck.

A score is compared with the same score of the other run over the units that both share (`cellgauge.results.uncertainty`). To
what these units say is added what the seeds of the scorer and other folds may do. A difference is called a change where the
false discovery rate of its task is below ALPHA (Benjamini & Hochberg 1995, Journal of the Royal Statistical Society B 57,
289-300), the interval does not hold 0, and it can be seen in three digits. docs/adr/0039 says why, and what was measured.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellgauge.core.errors import CellgaugeError, reading
from cellgauge.files.score import SCORE_COLUMNS
from cellgauge.files.spreadsheets import read_csv
from cellgauge.metrics.intervals import FEWEST, Estimates, interval, p_values
from cellgauge.results import provenance
from cellgauge.results.catalogue import Tasks, directions, metrics_of, screen_tasks
from cellgauge.results.tables import headline, without_conditions
from cellgauge.results.uncertainty import (
    CONDITION_KINDS,
    SHEET,
    Sheet,
    estimated,
    row_means,
    sheets,
    singles,
    within_splits,
)

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.01
TINY = 1e-3
"""Differences below this share of a metric's range (without one: of the value) are rounding."""
BEFORE, AFTER = "before:", "after:"
IDENTICAL = "identical"
ORDER = ("worse", "better", "not tested", "not significant", "alike")
"""The verdicts, in the order in which they are listed."""
OF_LUCK = f"the model uses random numbers: a test needs {FEWEST} splits, or 3 seeds in each run"
OF_CLASSIFIERS = ["task", "model", "dataset", "split", "metric", "subset", "profile"]
TEXTS = ("title", "description", "also_known_as", "licence", "citation", "url", "card", "training", "source", "state")
"""Keys of the configuration that are only shown."""


@dataclass(frozen=True)
class PublishedRun:
    """A run as it was published."""

    folder: Path  # where it lies
    about: Mapping[str, Any]  # its provenance
    scores: pd.DataFrame  # the rows of scores.parquet
    rows: pd.DataFrame  # these and those of single conditions of screens, where they were published too

    @classmethod
    def read(cls, folder: str | Path) -> PublishedRun:
        """Read a run's folder: provenance.json, and scores.parquet in it or in its folder `tables`; raise CellgaugeError where
        a file is missing or is not what it should be.
        """
        import pandas as pd

        folder = Path(folder)
        about = provenance.read(folder / provenance.FILE)
        scores = read_scores_table(scores_file(folder))
        rows, conditions = scores[list(SCORE_COLUMNS)], folder / "tables" / "conditions.csv"
        if conditions.is_file() and len(table := read_csv(conditions)):
            subset = (table["genes"] + "/" + table["stratum"]).str.removesuffix("/")
            value = table["value"].replace("", "nan").astype(float)  # exact, as Python reads numbers
            table = table.assign(classifier="", subset=subset, value=value, source="", seed=pd.NA, fold=pd.NA)
            table = table[list(SCORE_COLUMNS)].astype({"seed": "Int64", "fold": "Int64"})
            rows = pd.concat([rows, table], ignore_index=True) if len(rows) else table
        return cls(folder, about, scores, rows)

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.about["name"])

    @cached_property
    def n_cells(self) -> dict[tuple[str, str], float]:
        """How many cells each split has, by dataset and split: the most that any model was scored on."""
        rows = self.scores[(self.scores["metric"] == "n_cells") & (self.scores["condition"] == "")]
        return rows.groupby(["dataset", "split"])["value"].max().to_dict()

    def title(self, kind: str, name: str) -> str:
        """Return the title of an entry of the catalogue ("models", "datasets", "tasks"); of a replicate with its seed."""
        base, _, seed = name.partition("@")
        title = str(self.about["config"].get(kind, {}).get(base, {}).get("title", base))
        return f"{title} (seed {seed})" if seed else title


def scores_file(folder: Path) -> Path:
    """Return where scores.parquet lies in a run's folder; raise CellgaugeError where it does not."""
    places = [folder / "tables" / "scores.parquet", folder / "scores.parquet"]
    if not (present := [path for path in places if path.is_file()]):
        raise CellgaugeError(f"{folder}: no scores.parquet here or in tables/; name the folder of a run")
    return present[0]


def read_scores_table(path: Path) -> pd.DataFrame:
    """Return the rows of a scores.parquet; raise CellgaugeError where it lacks a column or cannot be read."""
    import pandas as pd

    with reading(f"{path}: not a readable Parquet file"):
        table = pd.read_parquet(path)
    if missing := [column for column in SCORE_COLUMNS if column not in table]:
        raise CellgaugeError(f"{path}: it lacks the columns {', '.join(missing)}")
    return table


@dataclass(frozen=True)
class Change:
    """One score in both runs: means over the splits that both have."""

    key: Mapping[str, str]  # the fields SHEET, and the model
    before: float
    after: float
    difference: float  # how much larger the value is than before, over the units that both have
    # low, high: the 95 % interval of after - before; p_adjusted: of its test. NaN where there is no test
    low: float = np.nan
    high: float = np.nan
    p: float = np.nan
    p_adjusted: float = np.nan
    units: str = ""  # what it rests on
    verdict: str = "not tested"  # one of ORDER
    reason: str = ""  # why it was not tested
    causes: Sequence[str] = ()  # what was recorded to differ between the runs and may explain it


@dataclass(frozen=True)
class Changes:
    """What changed between two runs."""

    before: PublishedRun
    after: PublishedRun
    # what was recorded and differs: (what, before, after), by section
    facts: Mapping[str, Sequence[tuple[str, str, str]]]
    scores: Sequence[Change]  # the scores that both have and that are not the same to the last digit
    n_identical: int  # how many are
    # added, gone: how many scores one of them alone has, by (task, dataset, model)
    added: Mapping[tuple[str, str, str], int]
    gone: Mapping[tuple[str, str, str], int]
    identical: bool  # whether all rows of both are the same to the last digit

    @property
    def summary(self) -> str:
        """What changed, in one sentence."""
        if self.identical:
            return f"All {len(self.after.rows):,} rows of scores are identical to the last digit."
        counts, n = Counter(change.verdict for change in self.scores), len(self.scores) + self.n_identical
        called = [f"{counts[kind]:,} for the {kind}" for kind in ("worse", "better") if counts[kind]]
        rest = [f"{counts[kind]:,} {kind}" for kind in ("not significant", "not tested") if counts[kind]]
        same = self.n_identical + counts["alike"]
        rest += [f"{same:,} the same"] if same else []
        rest += [f"{sum(self.added.values()):,} new"] if self.added else []
        rest += [f"{sum(self.gone.values()):,} gone"] if self.gone else []
        if not n:
            return f"The runs have no score in common ({', '.join(rest)})."
        what = " and ".join(called) or "none"
        more = f"; {', '.join(rest)}" if rest else ""
        return f"Of {n:,} score{'' if n == 1 else 's'} in both runs, {what} changed beyond chance{more}."


def compare_runs(before: PublishedRun, after: PublishedRun) -> Changes:
    """Return what changed from one run to another."""
    changes: list[Change] = []
    added, gone = Counter[tuple[str, str, str]](), Counter[tuple[str, str, str]]()
    for sheet in _sheets(before, after):
        names = dict.fromkeys(name.partition(":")[2] for name in sheet.models)
        present = {name: ~np.isnan(values) for name, values in zip(sheet.models, sheet.values, strict=True)}
        nowhere = np.zeros(len(sheet.splits), dtype=bool)
        pairs = []
        for name in names:
            old, new = (present.get(side + name, nowhere) for side in (BEFORE, AFTER))
            key = (sheet.key[0], sheet.key[1], name)
            if (old & new).any():
                pairs.append(name)
            else:  # also where they have other splits
                added[key] += int(new.any())
                gone[key] += int(old.any())
        changes += _tested(sheet, pairs, before, after)
    different = _judged([change for change in changes if change.verdict != IDENTICAL], _tasks(before, after))
    different.sort(key=lambda change: (ORDER.index(change.verdict), -abs(change.difference)))
    return Changes(
        before,
        after,
        {title: part for title, part in _facts(before.about, after.about) if part},
        different,
        len(changes) - len(different),
        +added,  # without those that count none
        +gone,
        identical=before.rows.equals(after.rows),
    )


def _sheets(before: PublishedRun, after: PublishedRun) -> Iterator[Sheet]:
    """Yield the scores of both runs in one sheet for each variant of a metric, models named by their run."""
    import pandas as pd

    tasks = _tasks(before, after)
    sides = [(BEFORE, before.rows), (AFTER, after.rows)]
    table = pd.concat([rows.assign(model=side + rows["model"]) for side, rows in sides], ignore_index=True)
    best = headline(without_conditions(table, tasks))
    rising = directions(tasks)
    directed = [key in rising for key in zip(best["task"], best["metric"], strict=True)]
    best = best[np.array(directed, dtype=bool)]  # of no rows too: an empty list would choose columns
    best = best[~best["subset"].str.contains("/", regex=False)]
    keys = best.set_index(OF_CLASSIFIERS).index
    has_mean = keys.isin(keys[(best["classifier"] == "mean").to_numpy()])
    best = best[best["classifier"].isin(["", "mean"]) | ~has_mean]
    yield from sheets(singles(table, tasks), best, screen_tasks(tasks))


def _tasks(before: PublishedRun, after: PublishedRun) -> Tasks:
    """Return what both runs say of their tasks; where they differ, the later one."""
    return {
        name: {**run.about["config"].get("tasks", {}).get(name, {}), **entry}
        for run in (before, after)
        for name, entry in run.about["tasks"].items()
    }


def _tested(sheet: Sheet, names: Sequence[str], before: PublishedRun, after: PublishedRun) -> Iterator[Change]:
    """Yield the scores of models that both runs have, with a p value where there is a test."""
    if not names:
        return
    place = {name: number for number, name in enumerate(sheet.models)}
    first, second = (np.array([place[side + name] for name in names]) for side in (BEFORE, AFTER))
    same_folds = before.about["seeds"][:1] == after.about["seeds"][:1]  # the seed and the data decide about them
    kinds = ("donors", "folds", *CONDITION_KINDS) if same_folds else ("donors", *CONDITION_KINDS)
    differences, units = estimated(sheet, lambda matrix: matrix[second] - matrix[first], kinds)
    over_splits = np.array([named.startswith("splits") for named in units])
    luck = [_of_both(sheet, "seeds", first, second), _of_replicates(sheet, names)]
    if not same_folds:
        folds = _of_both(sheet, "folds", first, second)
        luck.append(folds)
        # the folds of one run are not those of the other: all that is known is luck
        alone = ~differences.known & folds.known
        none = replace(folds, value=differences.value, variance=np.zeros(len(names)), third=np.zeros(len(names)))
        parts = {key: np.where(alone, getattr(none, key), value) for key, value in vars(differences).items()}
        differences = Estimates(**parts)
        units = ["folds" if apart else named for apart, named in zip(alone, units, strict=True)]
    differences = _with(differences, luck, ~over_splits)
    (low, high), p = interval(differences), p_values(differences)
    shared = ~np.isnan(sheet.values[first]) & ~np.isnan(sheet.values[second])
    means = [row_means(np.where(shared, sheet.values[side], np.nan)) for side in (first, second)]
    cells = _other_cells(sheet, before, after)
    draws = {n: any(run.about["models"].get(n, {}).get("draws") for run in (before, after)) for n in names}
    for row, name in enumerate(names):
        key = {**dict(zip(SHEET, sheet.key, strict=True)), "model": name}
        change = Change(key, float(means[0][row]), float(means[1][row]), float(differences.value[row]))
        if np.array_equal(sheet.values[first[row]][shared[row]], sheet.values[second[row]][shared[row]]):
            yield replace(change, verdict=IDENTICAL)
            continue
        change = replace(change, causes=tuple(_causes(key, before.about, after.about)))
        if cells:
            yield replace(change, reason=cells)
        elif draws[name] and not over_splits[row] and not luck[1].known[row]:
            yield replace(change, reason=OF_LUCK)
        elif np.isnan(p[row]):
            yield replace(change, reason=f"fewer than {FEWEST} units are in both runs")
        else:
            yield replace(
                change,
                low=float(low[row]),
                high=float(high[row]),
                p=float(p[row]),
                units=f"{int(differences.n_units[row])} {units[row]}",
                verdict="not significant",
            )


def _of_both(sheet: Sheet, kind: str, first: np.ndarray, second: np.ndarray) -> Estimates:
    """Return the variance that one kind of units gives the difference of two scores, units of one run being not the other's."""
    of_models, _ = within_splits(sheet, lambda matrix: matrix, (kind,))
    one, other = (Estimates(*(value[side] for value in vars(of_models).values())) for side in (first, second))
    n_free = np.minimum(one.n_free, other.n_free)
    both = replace(other, value=other.value - one.value, n_units=np.minimum(one.n_units, other.n_units), n_free=n_free)
    return _with(replace(both, third=np.zeros(len(first))), [one], n_free > 0)


def _of_replicates(sheet: Sheet, names: Sequence[str]) -> Estimates:
    """Return the variance that the seed of a model gives the difference: from `model@7` and its like, in both runs."""
    variance, df = np.zeros((2, len(names)))
    means = row_means(sheet.values)
    for row, name in enumerate(names):
        squares = 0.0
        for side in (BEFORE, AFTER):
            model = (side + name).partition("@")[0]
            same = [n for n, other in enumerate(sheet.models) if other.partition("@")[0] == model]
            of_side = means[same]
            squares += float(((of_side - of_side.mean()) ** 2).sum())
            df[row] += len(same) - 1
        variance[row] = 2 * squares / df[row] if df[row] else 0.0
    return Estimates(np.zeros(len(names)), variance, np.zeros(len(names)), df, df + 2, df)


def _with(differences: Estimates, luck: Sequence[Estimates], rows: np.ndarray) -> Estimates:
    """Return estimates with the variance of further, independent errors in some rows; degrees of freedom by Satterthwaite."""
    parts = [np.where(rows & (each.n_free > 0), each.variance, 0.0) for each in luck]
    parts = [differences.variance, *parts]
    shares = [
        np.divide(part**2, each.df, out=np.zeros(len(part)), where=(part > 0) & (each.df > 0))
        for part, each in zip(parts, [differences, *luck], strict=True)
    ]
    variance, denominator = np.sum(parts, axis=0), np.sum(shares, axis=0)
    df = np.divide(variance**2, denominator, out=differences.df.astype(float), where=denominator > 0)
    return replace(differences, variance=variance, df=df)


def _judged(changes: Sequence[Change], tasks: Tasks) -> list[Change]:
    """Return the changes with p values that are adjusted within each task, and what follows from them."""
    from scipy.stats import false_discovery_control

    facts = {(task, metric): about for task, metric, about in metrics_of(tasks)}
    adjusted: dict[int, float] = {}
    for task in dict.fromkeys(change.key["task"] for change in changes):
        tested = [n for n, change in enumerate(changes) if change.key["task"] == task and not np.isnan(change.p)]
        if tested:
            adjusted |= zip(tested, false_discovery_control([changes[n].p for n in tested]), strict=True)
    return [
        _verdict(change, adjusted.get(n, np.nan), facts[change.key["task"], change.key["metric"]])
        for n, change in enumerate(changes)
    ]


def _verdict(change: Change, p_adjusted: float, facts: Mapping[str, Any]) -> Change:
    low, high = facts.get("range") or (None, None)
    size = 0.0 if low is None or high is None else high - low
    change = replace(change, p_adjusted=float(p_adjusted))
    if abs(change.difference) < TINY * (size or max(abs(change.before), abs(change.after))):
        return replace(change, verdict="alike")
    if p_adjusted < ALPHA and not change.low <= 0 <= change.high:
        return replace(change, verdict="better" if (change.difference > 0) == facts["higher_is_better"] else "worse")
    return change


def _other_cells(sheet: Sheet, before: PublishedRun, after: PublishedRun) -> str:
    """Return in words that the scores are of other cells, "" where they are not, as far as was recorded."""
    dataset = sheet.key[1]
    for name, entry in after.about["data"].items():
        sums = {about.get("sha256", "") for about in (before.about["data"].get(name, {}), entry)}
        if name.partition("/")[0] == dataset and len(sums) > 1 and "" not in sums:
            return f"the data of {name} are other ones"
    for split in sheet.splits:
        sizes = {run.n_cells.get((dataset, split)) for run in (before, after)} - {None}
        if len(sizes) > 1:
            return f"{dataset}/{split} has other cells"
    return ""


# --- what was recorded -------------------------------------------------------------------------------------------------


def _facts(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Yield the sections of what was recorded, with the rows (what, before, after) that differ."""
    versions = [{"cellgauge": provenance.version_text(about)} for about in (before, after)]
    code = [versions, (before["code"], after["code"]), (before["sources"], after["sources"])]
    yield "Code", [row for pair in code for row in _differing(*pair)]
    yield "Configuration", _differing(_flat(before["config"]), _flat(after["config"]))
    sums = [{name: entry.get("sha256", "") for name, entry in about["data"].items()} for about in (before, after)]
    yield "Data", _differing(*sums)
    yield "Weights", _differing(*(_weights(about) for about in (before, after)))
    packages = [{"Python": about["python"], **about["packages"], **about["environments"]} for about in (before, after)]
    yield "Environment", _differing(*packages)


def _weights(about: Mapping[str, Any]) -> dict[str, str]:
    files = [each for entry in about["models"].values() for each in entry.get("files", ())]
    return {each["url"]: each["sha256"] for each in files}


def _flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return the values of a configuration by their keys joined by dots; of entries of the catalogue what changes numbers."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            values |= _flat(value, f"{above}{key}.")
        elif key not in TEXTS:
            values[f"{above}{key}"] = value
    return values


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    keys = dict.fromkeys([*before, *after])
    return [(key, _text(before.get(key)), _text(after.get(key))) for key in keys if before.get(key) != after.get(key)]


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _causes(key: Mapping[str, str], before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs between the runs among what a score is made of."""
    old, new = (about["models"].get(key["model"], {}) for about in (before, after))
    if before["code"].get("split") != after["code"].get("split"):
        yield "code of splits"
    stages = {new.get("stage", ""): "model", f"score {key['task']}": "task", f"neighbors {key['task']}": "task"}
    for stage, kind in stages.items():
        if before["code"].get(stage) != after["code"].get(stage):
            yield f"code of the {kind}"
    for name in ("params", "seed", "files", "adapter"):
        if old.get(name) != new.get(name):
            yield {"files": "weights"}.get(name, f"{name} of the model")
    tasks = [about["tasks"].get(key["task"], {}).get("params") for about in (before, after)]
    if tasks[0] != tasks[1]:
        yield "params of the task"
    if before["seeds"][:1] != after["seeds"][:1] and old.get("seed") == new.get("seed"):
        yield "seed of the run"
    if any(before[part] != after[part] for part in ("packages", "environments", "python")):
        yield "environment"

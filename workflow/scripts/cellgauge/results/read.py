"""What the report knows: the tables of results/tables, typed, in the order in which the run produced them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellgauge.core.errors import CellgaugeError, one_line
from cellgauge.files.score import LATER_COLUMNS, SCORE_COLUMNS
from cellgauge.files.spreadsheets import read_csv
from cellgauge.results import provenance
from cellgauge.results.coverage import Coverage
from cellgauge.results.entries import KINDS, NO_ROW, Entry, Interval, Metric, Missing, Task, Variant, slug
from cellgauge.results.reproduction import COLUMNS
from cellgauge.results.tables import (
    BLOCK,
    CONDITION_COLUMNS,
    LAYOUT_COLUMNS,
    OF_NETWORKS,
    RUNTIME_COLUMNS,
    SOURCE_COLUMNS,
    headline,
    with_set,
)
from cellgauge.results.uncertainty import COMPARISON_COLUMNS, RANK_COLUMNS, SUMMARY_KEY, singles
from cellgauge.results.words import PROFILES

if TYPE_CHECKING:
    import pandas as pd

SUMMARY_COLUMNS = [*SUMMARY_KEY, "mean", "sd", "n_splits", "low", "high", "resampled", "n_resampled", "coverage"]
NUMBERS = {"value", "seed", "fold", "mean", "sd", "n_splits", "low", "high", "n_resampled", "difference", "p", "p_holm"}
NUMBERS |= {"n_units", "n_models", "rank", "mean_rank", "published", "ours", "allowed"}
NUMBERS |= {"seconds", "cpu_seconds", "max_rss_mb", *OF_NETWORKS}
"""The columns of any table that hold numbers."""
PUBLISHED = {
    "published": SCORE_COLUMNS,
    "published_summary": [*BLOCK, *SUMMARY_COLUMNS],
    "published_comparisons": [*BLOCK, *COMPARISON_COLUMNS],
    "published_ranks": [*BLOCK, *RANK_COLUMNS],
    "published_sources": SOURCE_COLUMNS,
}
"""The tables of what others published, each with its columns."""
OF_JSON: dict[str, tuple[type, Any]] = {
    "also_known_as": (list, str),
    "files": (list, dict),
    "leakage": (dict, dict),
    "notes": (dict, str),
    "sets": (dict, list),
    "splits": (dict, str),
}
"""The columns of models.csv and datasets.csv that hold JSON, each with the type of its values and of what these hold."""
OF_METRICS: dict[str, tuple[type, Any]] = {
    "range": (list, int | float | None),
    "in_full": (list, str),
    "czbenchmarks": (dict, str),
    "also_known_as": (list, str),
}
"""The same of tasks.csv."""
VARIANT = ["profile", "metric", "classifier", "subset", "set"]
"""The columns of a `Variant`."""
BySplit = Mapping[tuple[str, str, Variant], Mapping[tuple[str, str], Any]]
"""By task, dataset and variant, then by model and split (or condition)."""
ByModel = Mapping[tuple[str, str, Variant], Mapping[str, Any]]
"""By task, dataset and variant, then by model."""


@dataclass(frozen=True)
class Tables:
    """The tables of one run."""

    scores: pd.DataFrame  # every row of scores.csv; text columns never NaN, `value`, `seed` and `fold` numbers
    summary: pd.DataFrame  # summary.csv, the means over splits
    runtime: pd.DataFrame  # runtime.csv, one row per job
    # pairs, ranked: comparisons.csv and ranks.csv, which models can be told apart
    pairs: pd.DataFrame
    ranked: pd.DataFrame
    layouts: pd.DataFrame  # layouts.parquet, the places of cells on a plane
    anchors: pd.DataFrame  # anchors.csv, published numbers beside ours
    of_conditions: pd.DataFrame  # conditions.csv, the scores of every single condition of perturbation screens
    # models, datasets, tasks: the catalogue, completed by what the scores name beside it
    models: Mapping[str, Entry]
    datasets: Mapping[str, Entry]
    tasks: Mapping[str, Task]
    # the tables of what others published, by name (PUBLISHED)
    published: Mapping[str, pd.DataFrame]
    # provenance.json beside the folder of the tables, empty where it is not there
    provenance: Mapping[str, Any]

    @classmethod
    def read(cls, folder: str | Path) -> Tables:
        """Read the tables of `folder`; raise CellgaugeError when one is missing or lacks a column."""
        folder = Path(folder)
        scores = _read(folder / "scores.csv", [column for column in SCORE_COLUMNS if column not in LATER_COLUMNS])
        ranks = {kind: place for place, kind in enumerate(KINDS)}  # of other kinds before the last one
        models = _entries(_read(folder / "models.csv", ["model"]), "model", scores)
        return cls(
            scores=scores,
            summary=_read(folder / "summary.csv", SUMMARY_COLUMNS),
            runtime=_read(folder / "runtime.csv", RUNTIME_COLUMNS),
            pairs=_read(folder / "comparisons.csv", COMPARISON_COLUMNS),
            ranked=_read(folder / "ranks.csv", RANK_COLUMNS),
            layouts=_read(folder / "layouts.parquet", LAYOUT_COLUMNS),
            of_conditions=_read(folder / "conditions.csv", CONDITION_COLUMNS),
            anchors=_read(folder / "anchors.csv", COLUMNS),
            published={name: _read(folder / f"{name}.csv", columns) for name, columns in PUBLISHED.items()},
            models=dict(sorted(models.items(), key=lambda item: ranks.get(item[1].kind, len(KINDS) - 1.5))),
            datasets=_entries(_read(folder / "datasets.csv", ["dataset"]), "dataset", scores),
            tasks=_tasks(_read(folder / "tasks.csv", ["task", "task_title", "metric"]), scores),
            provenance=provenance.read(about) if (about := folder.parent / provenance.FILE).exists() else {},
        )

    @cached_property
    def best(self) -> pd.DataFrame:
        """The row that stands for each score (`cellgauge.results.tables.headline`), without those of single conditions."""
        rows = self._headline
        return rows[rows["condition"] == ""]

    @cached_property
    def _headline(self) -> pd.DataFrame:
        return headline(with_set(self.scores, [name for name, task in self.tasks.items() if task.spans]))

    @cached_property
    def profiles(self) -> list[str]:
        """The profiles that have values, the one to be shown first at the front."""
        return sorted(self.best["profile"].unique(), key=lambda profile: [*PROFILES, profile].index(profile))

    @cached_property
    def values(self) -> BySplit:
        """The value of each model and split."""
        return _nested(self.best, ["model", "split"], ["value"])

    @cached_property
    def remarks(self) -> BySplit:
        """What a score file says of a value that it has."""
        return _nested(self.best[self.best["reason"] != ""], ["model", "split"], ["reason"])

    @cached_property
    def means(self) -> ByModel:
        """The mean over splits and their number."""
        return _nested(self.summary.astype({"n_splits": int}), ["model"], ["mean", "n_splits"])

    @cached_property
    def mean_intervals(self) -> ByModel:
        """The interval of each mean over splits."""
        rows = self.summary[self.summary["resampled"] != ""]
        ends = map(Interval, rows["low"], rows["high"], rows["resampled"])
        return _nested(rows.assign(interval=list(ends)), ["model"], ["interval"])

    @cached_property
    def single_conditions(self) -> BySplit:
        """The values of single conditions of screens, by model and condition.

        A variant's subset is the genes scored, without the stratum. Where a dataset has several splits, a condition is named
        with its split, SPLIT/CONDITION.
        """
        rows = self.of_conditions[self.of_conditions["status"] == "ok"]
        places = rows[["task", "dataset", "split", "condition"]].itertuples(index=False, name=None)
        names = [c if len(self.splits(task, data)) == 1 else f"{split}/{c}" for task, data, split, c in places]
        rows = rows.assign(condition=names, subset=rows["genes"], classifier="", set="")
        return _nested(rows, ["model", "condition"], ["value"])

    @cached_property
    def shortfalls(self) -> ByModel:
        """What a model's mean lacks, "1,490 of 2,142 cells"."""
        return _nested(self.summary[self.summary["coverage"] != ""], ["model"], ["coverage"])

    @cached_property
    def coverage(self) -> Coverage:
        """What single scores are of."""
        tasks = {
            name: {"metrics": {m: vars(facts) for m, facts in t.metrics.items()}} for name, t in self.tasks.items()
        }
        return Coverage(self.scores, self._headline, singles(self.scores, tasks), tasks)

    @cached_property
    def contests(self) -> ByModel:
        """The rows of ranks.csv."""
        return _nested(self.ranked.assign(row=self.ranked.to_dict("records")), ["model"], ["row"])

    @cached_property
    def tested(self) -> Mapping[tuple[str, str, Variant], Mapping[frozenset[str], str]]:
        """The better one of each pair of models that was tested, "" where none is, by task, dataset and variant."""
        pairs = map(frozenset, zip(self.pairs["first"], self.pairs["second"], strict=True))
        return _nested(self.pairs.assign(pair=list(pairs)), ["pair"], ["better"])

    @cached_property
    def conditions(self) -> Mapping[tuple[str, str, str, Variant], Mapping[tuple[str, str], float]]:
        """The values of single conditions, by task, dataset, split and variant, then by model and condition."""
        rows = self._headline[self._headline["condition"] != ""]
        return _nested(rows, ["model", "condition"], ["value"], ["task", "dataset", "split"])

    @cached_property
    def _splits(self) -> Mapping[tuple[str, str], list[str]]:
        groups = self.scores.groupby(["task", "dataset"], sort=False)
        return {key: rows["split"].unique().tolist() for key, rows in groups}

    def splits(self, task: str, dataset: str) -> list[str]:
        """Return the splits of a dataset that a task scores, of a task that spans splits the sets of them."""
        return self._splits.get((task, dataset), [])

    def sets(self, task: str, dataset: str) -> list[str]:
        """Return the sets that a task which spans splits is scored on; [""] for other tasks, whose means are over splits."""
        return self.splits(task, dataset) if self.tasks[task].spans else [""]

    def variants(self, task: str, dataset: str | None = None) -> list[Variant]:
        """Return what a task has values of (for one dataset), in the order of the score files."""
        return list(dict.fromkeys(v for (t, d, v) in self.values if t == task and dataset in (None, d)))

    def scored(self, task: str, dataset: str | None = None) -> list[Variant]:
        """Return those of the variants by which models may be compared."""
        return [variant for variant in self.variants(task, dataset) if self.metric(task, variant.metric).is_score]

    def metric(self, task: str, name: str) -> Metric:
        """Return what is known of a metric; one that the catalogue does not describe counts as a count."""
        return self.tasks[task].metrics.get(name) or Metric(name, name)

    @cached_property
    def missing(self) -> pd.DataFrame:
        """The rows that have no value, failures first."""
        rows = self.scores[self.scores["status"] != "ok"]
        return rows.sort_values("status", key=lambda status: status != "failed", kind="stable")

    @cached_property
    def _missing(self) -> Mapping[tuple[str, str, str], list[dict[str, Any]]]:
        rows: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
        for row in self.missing.to_dict("records"):
            rows[row["task"], row["dataset"], row["model"]].append(row)
        return rows

    def why(self, task: str, dataset: str, model: str, split: str, variant: Variant) -> Missing:
        """Return why a score is missing: what the most specific row says that covers it, a failure before all else."""
        score = {**vars(variant), "split": split}
        del score["set"]  # the split is the set
        rows = self._missing.get((task, dataset, model), ())
        fitting = [row for row in rows if all(row[key] in ("", value) for key, value in score.items())]
        if not fitting:
            return NO_ROW
        row = max(fitting, key=lambda row: (row["status"] == "failed", sum(bool(row[key]) for key in score)))
        return Missing(row["status"], row["reason"])


def _nested(
    rows: pd.DataFrame, names: Sequence[str], values: Sequence[str], outer: Sequence[str] = ("task", "dataset")
) -> Any:
    """Return columns of `rows` by the columns `outer` and the variant, and then by `names`; several columns are tuples."""
    nested: dict[tuple, dict[Any, Any]] = defaultdict(dict)
    keys = zip(*(rows[name] for name in outer), map(Variant, *(rows[name] for name in VARIANT)), strict=True)
    inner, cells = (
        rows[part[0]] if len(part) == 1 else zip(*(rows[name] for name in part), strict=True)
        for part in (names, values)
    )
    for key, name, value in zip(keys, inner, cells, strict=True):
        nested[key][name] = value
    return nested


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table; text of a CSV stays text (a model may be called NA), an empty number is NaN."""
    import pandas as pd

    kind = "Parquet" if path.suffix == ".parquet" else "CSV"
    try:
        table = pd.read_parquet(path) if kind == "Parquet" else read_csv(path)
    except FileNotFoundError:
        raise CellgaugeError(f"{path}: no such table; make the tables with collect_tables.py") from None
    except (OSError, ValueError) as error:  # those of pandas and pyarrow are ValueErrors
        raise CellgaugeError(f"{path}: not a readable {kind} table ({one_line(error)})") from None
    if missing := [column for column in columns if column not in table]:
        present = ", ".join(table.columns) or "none"
        raise CellgaugeError(f"{path}: the table has no column {', '.join(missing)} (found: {present})")
    for column in [column for column in columns if column in NUMBERS]:
        try:
            table[column] = table[column].replace("", None).astype("float64")  # to_numeric drops digits
        except ValueError as error:
            raise CellgaugeError(f"{path}: column {column} must hold numbers ({one_line(error)})") from None
    return table


def _entries(table: pd.DataFrame, key: str, scores: pd.DataFrame) -> dict[str, Entry]:
    """Return the catalogue's entries, in the order of the scores; titles that several share are told apart by the key."""
    rows = {row.pop(key): row for row in table.to_dict("records")}
    for row in rows.values():
        row |= {name: _parsed(row[name], *types) for name, types in OF_JSON.items() if name in row}
    names = list(dict.fromkeys([*scores[key], *rows]))
    titles = {name: rows.get(name, {}).get("title") or name for name in names}
    shared = {title for title in titles.values() if list(titles.values()).count(title) > 1}
    unique = {n: f"{title} ({n})" if title in shared and title != n else title for n, title in titles.items()}
    return {name: Entry(name, unique[name], rows.get(name, {}).get("kind", ""), rows.get(name, {})) for name in names}


def _tasks(table: pd.DataFrame, scores: pd.DataFrame) -> dict[str, Task]:
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in table.to_dict("records"):
        rows[row["task"]].append(row)
    slugs: dict[str, str] = {}
    tasks = {}
    for name in dict.fromkeys([*scores["task"], *rows]):
        slugs[name] = slug(name, taken=slugs.values())
        facts = rows[name][0] if rows[name] else {}
        tasks[name] = Task(
            name,
            facts.get("task_title", name),
            {row["metric"]: _metric(row) for row in rows[name] if row["metric"]},
            slugs[name],
            facts.get("task_description", ""),
            facts.get("scope") == "dataset",
            _parsed(facts.get("task_also_known_as", ""), *OF_METRICS["also_known_as"]),
            facts.get("modality", ""),
            facts.get("headline", ""),
        )
    return tasks


def _metric(row: Mapping[str, str]) -> Metric:
    of_json = {key: _parsed(row.get(key, ""), *types) for key, types in OF_METRICS.items()}
    rising = {"true": True, "false": False}.get(row.get("higher_is_better", "").lower())
    return Metric.of(row["metric"], {**row, **of_json, "higher_is_better": rising})


def _parsed(text: str, kind: Any, of: Any) -> Any:
    """Return the list or dictionary in a text in JSON without what is not `of` a type, empty where the text holds none."""
    try:
        value = json.loads(text)
    except ValueError:
        return kind()
    if not isinstance(value, kind):
        return kind()
    if isinstance(value, dict):
        return {key: each for key, each in value.items() if isinstance(each, of)}
    return [each for each in value if isinstance(each, of)]

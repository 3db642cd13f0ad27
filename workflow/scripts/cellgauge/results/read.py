"""What the report knows: the tables of results/tables, typed, in the order in which the run produced them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellgauge.core.errors import CellgaugeError, one_line
from cellgauge.files.score import LATER_COLUMNS, SCORE_COLUMNS
from cellgauge.files.spreadsheets import read_csv
from cellgauge.results import provenance
from cellgauge.results.coverage import Coverage
from cellgauge.results.reproduction import COLUMNS
from cellgauge.results.tables import (
    BLOCK,
    LAYOUT_COLUMNS,
    OF_NETWORKS,
    RUNTIME_COLUMNS,
    SOURCE_COLUMNS,
    headline,
    with_set,
)
from cellgauge.results.uncertainty import COMPARISON_COLUMNS, RANK_COLUMNS, SUMMARY_KEY

if TYPE_CHECKING:
    import pandas as pd
from cellgauge.results.entries import (
    KINDS,
    NO_ROW,
    Entry,
    Interval,
    Metric,
    Missing,
    Task,
    Variant,
    parsed,
    parsed_names,
    slug,
)

PROFILES = ("corrected", "reference")
"""The profiles of the metrics, the one shown first at the front."""


SUMMARY_COLUMNS = [*SUMMARY_KEY, "mean", "sd", "n_splits", "low", "high", "resampled", "n_resampled", "coverage"]


CONDITION_COLUMNS = [
    "task",
    "model",
    "dataset",
    "split",
    "metric",
    "genes",
    "stratum",
    "condition",
    "profile",
    "value",
    "status",
]


ENDS = ["low", "high", "n_resampled"]


OF_SCORES = ["value", "seed", "fold"]


OF_SUMMARY = ["mean", "sd", "n_splits", *ENDS]


OF_PAIRS = ["n_units", "difference", "low", "high", "p", "p_holm"]


OF_RANKS = ["rank", "mean_rank", "n_units", "n_models"]


PUBLISHED = {
    "published": (SCORE_COLUMNS, OF_SCORES),
    "published_summary": ([*BLOCK, *SUMMARY_COLUMNS], OF_SUMMARY),
    "published_comparisons": ([*BLOCK, *COMPARISON_COLUMNS], OF_PAIRS),
    "published_ranks": ([*BLOCK, *RANK_COLUMNS], OF_RANKS),
    "published_sources": (SOURCE_COLUMNS, []),
}
"""The tables of what others published, each with its columns and those that hold numbers."""


VARIANT = ["profile", "metric", "classifier", "subset", "set"]
"""The columns of a `Variant`."""


@dataclass(frozen=True)
class Tables:
    """The tables of one run.

    Attributes:
        scores: every row of scores.csv; text columns never NaN, `value`, `seed` and `fold` numbers.
        summary: summary.csv, the means over splits.
        runtime: runtime.csv, one row per job.
        pairs, ranked: comparisons.csv and ranks.csv, which models can be told apart.
        layouts: layouts.parquet, the places of cells on a plane.
        anchors: anchors.csv, published numbers beside ours.
        published: the tables of what others published, by name (PUBLISHED).
        of_conditions: conditions.csv, the scores of every single condition of perturbation screens.
        models, datasets, tasks: the catalogue, completed by what the scores name beside it.
        provenance: provenance.json beside the folder of the tables, empty where it is not there.
    """

    scores: pd.DataFrame
    summary: pd.DataFrame
    runtime: pd.DataFrame
    pairs: pd.DataFrame
    ranked: pd.DataFrame
    layouts: pd.DataFrame
    anchors: pd.DataFrame
    of_conditions: pd.DataFrame
    models: Mapping[str, Entry]
    datasets: Mapping[str, Entry]
    tasks: Mapping[str, Task]
    published: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | Path) -> Tables:
        """Read the tables of `folder`; raise CellgaugeError when one is missing or lacks a column."""
        folder = Path(folder)
        present = [column for column in SCORE_COLUMNS if column not in LATER_COLUMNS]
        scores = _read(folder / "scores.csv", present, numbers=OF_SCORES)
        summary = _read(folder / "summary.csv", SUMMARY_COLUMNS, numbers=OF_SUMMARY)
        pairs = _read(folder / "comparisons.csv", COMPARISON_COLUMNS, numbers=OF_PAIRS)
        ranked = _read(folder / "ranks.csv", RANK_COLUMNS, numbers=OF_RANKS)
        of_jobs = ["seconds", "cpu_seconds", "max_rss_mb", *OF_NETWORKS]
        runtime = _read(folder / "runtime.csv", RUNTIME_COLUMNS, numbers=of_jobs)
        metrics = _read(folder / "tasks.csv", ["task", "task_title", "metric"])
        models = _entries(_read(folder / "models.csv", ["model"]), "model", _order(scores, "model"))
        return cls(
            scores=scores,
            summary=summary,
            runtime=runtime,
            pairs=pairs,
            ranked=ranked,
            layouts=_read_layouts(folder / "layouts.parquet"),
            of_conditions=_read(folder / "conditions.csv", CONDITION_COLUMNS, numbers=["value"]),
            anchors=_read(folder / "anchors.csv", COLUMNS, numbers=["published", "ours", "difference", "allowed"]),
            published={name: _read(folder / f"{name}.csv", *about) for name, about in PUBLISHED.items()},
            models=dict(sorted(models.items(), key=lambda item: _rank_of_kind(item[1].kind))),
            datasets=_entries(_read(folder / "datasets.csv", ["dataset"]), "dataset", _order(scores, "dataset")),
            tasks=_tasks(metrics, scores),
            provenance=provenance.read(about) if (about := folder.parent / provenance.FILE).exists() else {},
        )

    # --- scores ------------------------------------------------------------------------------------------------------

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
        found = _order(self.best, "profile")
        return [p for p in PROFILES if p in found] + [p for p in found if p not in PROFILES]

    @cached_property
    def values(self) -> Mapping[tuple[str, str, Variant], Mapping[tuple[str, str], float]]:
        """The value of each model and split, by task, dataset and variant."""
        found: dict[tuple[str, str, Variant], dict[tuple[str, str], float]] = defaultdict(dict)
        columns = ["task", "dataset", *VARIANT, "model", "split", "value"]
        for task, dataset, *variant, model, split, value in self.best[columns].itertuples(index=False, name=None):
            found[task, dataset, Variant(*variant)][model, split] = value
        return found

    @cached_property
    def remarks(self) -> Mapping[tuple[str, str, str, str, Variant], str]:
        """What a score file says of a value that it has, by task, dataset, model, split and variant."""
        rows = self.best[self.best["reason"] != ""]
        columns = ["task", "dataset", "model", "split", *VARIANT, "reason"]
        found = rows[columns].itertuples(index=False, name=None)
        return {(task, data, model, split, Variant(*rest)): said for task, data, model, split, *rest, said in found}

    @cached_property
    def means(self) -> Mapping[tuple[str, str, Variant], Mapping[str, tuple[float, int]]]:
        """The mean over splits and their number, by task, dataset and variant, then by model."""
        found: dict[tuple[str, str, Variant], dict[str, tuple[float, int]]] = defaultdict(dict)
        columns = ["task", "dataset", *VARIANT, "model", "mean", "n_splits"]
        for task, dataset, *variant, model, mean, n in self.summary[columns].itertuples(index=False, name=None):
            found[task, dataset, Variant(*variant)][model] = (mean, int(n))
        return found

    @cached_property
    def mean_intervals(self) -> Mapping[tuple[str, str, Variant], Mapping[str, Interval]]:
        """The interval of each mean over splits, by task, dataset and variant, then by model."""
        found: dict[tuple[str, str, Variant], dict[str, Interval]] = defaultdict(dict)
        rows = self.summary[self.summary["resampled"] != ""]
        columns = ["task", "dataset", *VARIANT, "model", "low", "high", "resampled"]
        for task, dataset, *variant, model, low, high, unit in rows[columns].itertuples(index=False, name=None):
            found[task, dataset, Variant(*variant)][model] = Interval(low, high, unit)
        return found

    @cached_property
    def single_conditions(self) -> Mapping[tuple[str, str, Variant], Mapping[tuple[str, str], float]]:
        """The values of single conditions of screens, by task, dataset and variant, then by model and condition.

        A variant's subset is the genes scored, without the stratum. Where a dataset has several splits, a condition is named
        with its split, SPLIT/CONDITION.
        """
        found: dict[tuple[str, str, Variant], dict[tuple[str, str], float]] = defaultdict(dict)
        rows = self.of_conditions[self.of_conditions["status"] == "ok"]
        columns = ["task", "dataset", "split", "profile", "metric", "genes", "model", "condition", "value"]
        for task, dataset, split, profile, metric, genes, model, condition, value in rows[columns].itertuples(
            index=False, name=None
        ):
            name = condition if len(self.splits(task, dataset)) == 1 else f"{split}/{condition}"
            found[task, dataset, Variant(profile, metric, "", genes)][model, name] = value
        return found

    @cached_property
    def shortfalls(self) -> Mapping[tuple[str, str, Variant], Mapping[str, str]]:
        """What a model's mean lacks, "1,490 of 2,142 cells", by task, dataset and variant, then by model."""
        shortfalls: dict[tuple[str, str, Variant], dict[str, str]] = defaultdict(dict)
        rows = self.summary[self.summary["coverage"] != ""]
        columns = ["task", "dataset", *VARIANT, "model", "coverage"]
        for task, dataset, *variant, model, text in rows[columns].itertuples(index=False, name=None):
            shortfalls[task, dataset, Variant(*variant)][model] = text
        return shortfalls

    @cached_property
    def coverage(self) -> Coverage:
        """What single scores are of."""
        tasks = {
            name: {
                "metrics": {
                    m: {"counts_missing": f.counts_missing, "of_pairs": f.of_pairs} for m, f in t.metrics.items()
                }
            }
            for name, t in self.tasks.items()
        }
        return Coverage(self.scores, self._headline, tasks)

    @cached_property
    def contests(self) -> Mapping[tuple[str, str, Variant], Mapping[str, dict[str, Any]]]:
        """The rows of ranks.csv, by task, dataset and variant, then by model."""
        contests: dict[tuple[str, str, Variant], dict[str, dict[str, Any]]] = defaultdict(dict)
        for row in self.ranked.to_dict("records"):
            variant = Variant(*(row[column] for column in VARIANT))
            contests[row["task"], row["dataset"], variant][row["model"]] = row
        return contests

    @cached_property
    def tested(self) -> Mapping[tuple[str, str, Variant], Mapping[frozenset[str], str]]:
        """The better one of each pair of models that was tested, "" where none is, by task, dataset and variant."""
        tested: dict[tuple[str, str, Variant], dict[frozenset[str], str]] = defaultdict(dict)
        columns = ["task", "dataset", *VARIANT, "first", "second", "better"]
        for task, dataset, *variant, first, second, better in self.pairs[columns].itertuples(index=False, name=None):
            tested[task, dataset, Variant(*variant)][frozenset((first, second))] = better
        return tested

    @cached_property
    def conditions(self) -> Mapping[tuple[str, str, str, Variant], Mapping[tuple[str, str], float]]:
        """The values of single conditions, by task, dataset, split and variant, then by model and condition."""
        rows = self._headline
        rows = rows[rows["condition"] != ""]
        found: dict[tuple[str, str, str, Variant], dict[tuple[str, str], float]] = defaultdict(dict)
        columns = ["task", "dataset", "split", *VARIANT, "model", "condition", "value"]
        for task, dataset, split, *variant, model, condition, value in rows[columns].itertuples(index=False, name=None):
            found[task, dataset, split, Variant(*variant)][model, condition] = value
        return found

    @cached_property
    def _splits(self) -> Mapping[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = {}
        for (task, dataset), rows in self.scores.groupby(["task", "dataset"], sort=False):
            found[task, dataset] = _order(rows, "split")
        return found

    def splits(self, task: str, dataset: str) -> list[str]:
        """Return the splits of a dataset that a task scores, of a task that spans splits the sets of them."""
        return self._splits.get((task, dataset), [])

    def sets(self, task: str, dataset: str) -> list[str]:
        """Return the sets that a task which spans splits is scored on; [""] for other tasks, whose means are over splits."""
        return self.splits(task, dataset) if self.tasks[task].spans else [""]

    def variants(self, task: str, dataset: str | None = None) -> list[Variant]:
        """Return what a task has values of (for one dataset), in the order of the score files."""
        found = (v for (t, d, v) in self.values if t == task and dataset in (None, d))
        return list(dict.fromkeys(found))

    def metric(self, task: str, name: str) -> Metric:
        """Return what is known of a metric; one that the catalogue does not describe counts as a count."""
        return self.tasks[task].metrics.get(name) or Metric(name, name)

    # --- what is missing ---------------------------------------------------------------------------------------------

    @cached_property
    def missing(self) -> pd.DataFrame:
        """The rows that have no value, failures first."""
        rows = self.scores[self.scores["status"] != "ok"]
        return rows.sort_values("status", key=lambda status: status != "failed", kind="stable")

    @cached_property
    def _missing(self) -> Mapping[tuple[str, str, str], list[dict[str, Any]]]:
        found: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
        for row in self.missing.to_dict("records"):
            found[row["task"], row["dataset"], row["model"]].append(row)
        return found

    def why(self, task: str, dataset: str, model: str, split: str, variant: Variant | None = None) -> Missing:
        """Return why a score is missing: what the most specific row says that covers it, a failure before all else."""
        wanted = {"split": split, **(vars(variant) if variant else {})}
        wanted.pop("set", None)  # the split is the set
        fitting = []
        for row in self._missing.get((task, dataset, model), ()):
            said = {key: row[key] for key in wanted}
            if all(said[key] in ("", value) for key, value in wanted.items()):
                fitting.append((row["status"] == "failed", sum(map(bool, said.values())), row))
        if not fitting:
            return NO_ROW
        row = max(fitting, key=lambda item: item[:2])[2]
        return Missing(row["status"], row["reason"])


def _read(path: Path, columns: Sequence[str], numbers: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table; text stays text (a model may be called NA), an empty number is NaN."""
    import pandas as pd

    try:
        table = read_csv(path)
    except FileNotFoundError:
        raise CellgaugeError(f"{path}: no such table; make the tables with collect_tables.py") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise CellgaugeError(f"{path}: not a readable CSV table ({one_line(error)})") from None
    lacking = [column for column in columns if column not in table]
    if lacking:
        found = ", ".join(table.columns) or "none"
        raise CellgaugeError(f"{path}: the table has no column {', '.join(lacking)} (found: {found})")
    for column in numbers:
        try:
            table[column] = table[column].replace("", None).astype("float64")  # to_numeric drops digits
        except ValueError as error:
            raise CellgaugeError(f"{path}: column {column} must hold numbers ({one_line(error)})") from None
    return table


def _read_layouts(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise CellgaugeError(f"{path}: no such table; make the tables with collect_tables.py") from None
    except (OSError, ValueError) as error:
        raise CellgaugeError(f"{path}: not a readable Parquet table ({one_line(error)})") from None
    lacking = [column for column in LAYOUT_COLUMNS if column not in table]
    if lacking:
        raise CellgaugeError(
            f"{path}: the table has no column {', '.join(lacking)} (found: {', '.join(table.columns)})"
        )
    return table


def _order(table: pd.DataFrame, column: str) -> list[str]:
    return list(dict.fromkeys(table[column]))


def _rank_of_kind(kind: str) -> float:
    return KINDS.index(kind) if kind in KINDS else len(KINDS) - 1.5


def _entries(table: pd.DataFrame, key: str, in_scores: Sequence[str]) -> dict[str, Entry]:
    """Return the catalogue's entries, in the order of the scores; titles that several share are told apart by the key."""
    rows = {row.pop(key): row for row in table.to_dict("records")}
    names = [*in_scores, *(name for name in rows if name not in in_scores)]
    titles = {name: rows.get(name, {}).get("title") or name for name in names}
    shared = {title for title in titles.values() if list(titles.values()).count(title) > 1}
    return {
        name: Entry(
            name,
            f"{titles[name]} ({name})" if titles[name] in shared and titles[name] != name else titles[name],
            rows.get(name, {}).get("kind", ""),
            rows.get(name, {}),
        )
        for name in names
    }


def _tasks(table: pd.DataFrame, scores: pd.DataFrame) -> dict[str, Task]:
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in table.to_dict("records"):
        rows[row["task"]].append(row)
    names = dict.fromkeys([*_order(scores, "task"), *rows])
    slugs: dict[str, str] = {}
    for name in names:
        slugs[name] = slug(name, taken=slugs.values())
    return {
        name: Task(
            name,
            rows[name][0]["task_title"] if rows[name] else name,
            {row["metric"]: _metric(row) for row in rows[name] if row["metric"]},
            slugs[name],
            rows[name][0].get("task_description", "") if rows[name] else "",
            bool(rows[name]) and rows[name][0].get("scope") == "dataset",
            parsed_names(rows[name][0].get("task_also_known_as", "")) if rows[name] else (),
            rows[name][0].get("modality", "") if rows[name] else "",
            rows[name][0].get("headline", "") if rows[name] else "",
        )
        for name in names
    }


def _metric(row: Mapping[str, str]) -> Metric:
    ends = parsed(row.get("range", ""))
    low, high = ends if isinstance(ends, list) and len(ends) == 2 else (None, None)
    return Metric(
        row["metric"],
        row.get("title") or row["metric"],
        row.get("description", ""),
        row.get("source", ""),
        {"true": True, "false": False}.get(row.get("higher_is_better", "").lower()),
        low,
        high,
        parsed(row.get("in_full", "")) or (),
        row.get("of_pairs", ""),
        parsed(row.get("czbenchmarks", "")) or {},
        parsed_names(row.get("also_known_as", "")),
        row.get("counts_missing", ""),
    )

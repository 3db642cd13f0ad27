"""The tables: all score rows in one file, their summary over splits, intervals, comparisons, cost, and the catalogue.

Tables are made from score files alone. A score file that is missing becomes a row of status `failed`, so that one broken
model never hides the others.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from cellgauge.core.atomic import atomic_path
from cellgauge.core.errors import CellgaugeError
from cellgauge.files.checked import open_checked
from cellgauge.files.score import SCORE_COLUMNS, Score, read_scores
from cellgauge.files.spreadsheets import write_csv
from cellgauge.results.blocks import blocks
from cellgauge.results.catalogue import Tasks, directions, facts_beside, metrics_of, screen_tasks
from cellgauge.results.coverage import Coverage
from cellgauge.results.provenance import PARQUET_KEY, Sums, repeatable, scalars
from cellgauge.results.reproduction import compare_with_published
from cellgauge.results.uncertainty import (
    SCORE_KEY,
    SUMMARY_KEY,
    compare,
    intervals,
    sheets,
    singles,
    summary_intervals,
)

if TYPE_CHECKING:
    import pandas as pd

TEXTS = ("split", "cell", "label", "batch")
LAYOUT_COLUMNS = ["model", "dataset", "set", *TEXTS, "x", "y"]
OF_NETWORKS = {"gpu_seconds": "gpu_seconds", "max_gpu_mb": "peak_gpu_memory_mb"} | {
    name: name
    for name in ("network_seconds", "cells_per_second", "tokens_per_second", "host_wait_seconds", "gpu_utilization")
}
"""Columns of runtime.csv, and the facts of an embedding or prediction that they are."""
RUNTIME_COLUMNS = ["stage", "task", "model", "dataset", "split", "seconds", "cpu_seconds", "max_rss_mb"]
RUNTIME_COLUMNS += ["device", "precision", *OF_NETWORKS]
SCORES_COLUMNS = [*SCORE_COLUMNS[:4], "species", *SCORE_COLUMNS[4:]]
"""The columns of scores.csv: those of a score file, and the species of the split or set, joined by "+"."""
CONDITION_COLUMNS = ["task", "model", "dataset", "split", "metric", "genes", "stratum", "condition", "profile"]
CONDITION_COLUMNS += ["value", "status", "reason"]
MADE_BY = {"embed": "embeddings", "predict": "predictions"}
"""The folder, beside that of the scores, of what the jobs of a stage write."""


def collect(
    scores: Sequence[str | Path],
    output: str | Path,
    *,
    benchmarks: str | Path = "benchmarks",
    catalogue: Mapping[str, Any] | None = None,
    failed: Mapping[str, str] | None = None,
    layouts: Sequence[str | Path] = (),
    published: Sequence[str | Path] = (),
    ledger: str | Path | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write the tables that docs/results.md describes into `output`.

    The rows of single conditions of perturbation screens are in conditions.csv, their means in scores.csv.

    Args:
        scores: score files, results/scores/{task}/{model}/{dataset}/{split}.tsv; those that are missing count as failed.
        benchmarks: the folder of Snakemake's benchmark files; what is not there (any more) is left out.
        catalogue: what `Grid.catalogue` says of models, datasets, tasks and of what does not apply.
        failed: the reason of score files that were not made; a file that is there from an earlier run is not read then.
        layouts: pictures of embeddings, results/layouts/{model}/{dataset}/{split}.tsv; those that are missing are left out.
        published: score rows of others, results/published/{source}.tsv; those that are missing count as failed. They stand in
            tables of their own, but for anchors.csv, which sets them beside ours.
        ledger: the run's, resources/checksums.yaml, where the sha256 of models' files stand that the shipped one lacks.
        provenance: what scores.parquet says of where its numbers come from, as metadata.
    """
    catalogue, failed, output, paths = catalogue or {}, failed or {}, Path(output), list(map(Path, scores))
    rows = [score for path in paths for score in _rows_of(path, failed.get(str(path), ""))]
    rows += [
        Score(task=task, model=model, dataset=dataset, split=split, status="not_applicable", reason=reason)
        for task, model, dataset, split, reason in catalogue.get("skipped", [])
    ]
    table, species, tasks = _as_table(rows), Species(catalogue.get("datasets", {})), catalogue.get("tasks", {})
    table = table.assign(species=list(map(species.of, table["dataset"], table["split"])))[SCORES_COLUMNS]
    of_condition = of_conditions(table, tasks)
    whole = table[~of_condition]
    of_others = _as_table([score for path in published for score in _published_rows(Path(path))])
    sources = catalogue.get("published", {})
    of_models, of_datasets = _facts_of_files(paths, species)
    sums, models = Sums(ledger), catalogue.get("models", {})
    for name, entry in models.items():
        of_models[name]["files"] = sums.described(entry.get("files", ()))
    tables = {
        "scores": whole,
        "conditions": _by_stratum(table[of_condition]),
        **conclude(table, catalogue),
        "anchors": compare_with_published(headline(whole), of_others, sources),
        **_published(of_others, sources),
        "runtime": _runtime(paths, Path(benchmarks), species),
        "models": _entries(_completed(models, of_models), "model"),
        "datasets": _entries(_completed(catalogue.get("datasets", {}), of_datasets), "dataset"),
        "tasks": _metrics(tasks, whole),
    }
    for name, rows_of_table in tables.items():
        write_csv(rows_of_table, output / f"{name}.csv")
    _write_parquet(whole, output / "scores.parquet", provenance)
    _write_parquet(_layouts(map(Path, layouts)), output / "layouts.parquet")


def _as_table(rows: Sequence[Score]) -> pd.DataFrame:
    """Return score rows as a table of typed columns."""
    import pandas as pd

    table = pd.DataFrame([vars(row) for row in rows], columns=list(SCORE_COLUMNS))
    return table.astype({"value": "float64", "seed": "Int64", "fold": "Int64"})


class Species:
    """The splits and species of each split and set of the catalogue's datasets."""

    def __init__(self, datasets: Mapping[str, Any]) -> None:
        self._datasets = datasets

    def splits(self, dataset: str, split: str) -> list[str]:
        """Return the splits of a set; a split is its own."""
        return self._datasets.get(dataset, {}).get("sets", {}).get(split, [split])

    def of(self, dataset: str, split: str) -> str:
        """Return the species of a split, or those of a set joined by "+"; "" where they are not known."""
        known = self._datasets.get(dataset, {}).get("splits", {})
        return "+".join(dict.fromkeys(known[name] for name in self.splits(dataset, split) if name in known))


def with_set(table: pd.DataFrame, spanning: Sequence[str]) -> pd.DataFrame:
    """Return the table with a column `set`: the split where a task of `spanning` spans the splits of this set, else ""."""
    return table.assign(set=table["split"].where(table["task"].isin(spanning), ""))


def of_conditions(table: pd.DataFrame, tasks: Tasks) -> pd.Series:
    """Return which rows are of one condition of a perturbation screen."""
    return table["task"].isin(screen_tasks(tasks)) & (table["condition"] != "")


def without_conditions(table: pd.DataFrame, tasks: Tasks) -> pd.DataFrame:
    """Return the rows that are not of one condition of a perturbation screen, with the column `set`."""
    return with_set(
        table[~of_conditions(table, tasks)], [name for name, task in tasks.items() if task.get("scope") == "dataset"]
    )


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """Return the row that stands for each score: the mean over folds and seeds where there is one, else the only row.

    Rows of single folds, and of single seeds beside their mean, are left out.
    """
    rows = table[(table["status"] == "ok") & table["fold"].isna()]
    means_first = rows.assign(_single=rows["seed"].notna()).sort_values("_single", kind="stable")
    return means_first.drop_duplicates(SCORE_KEY).drop(columns="_single").sort_index()


def conclude(table: pd.DataFrame, catalogue: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Return what is made of score rows: the tables summary, intervals, comparisons and ranks.

    Args:
        table: all score rows, those of single conditions among them.
        catalogue: what is known of the tasks and models that they name.
    """
    tasks = catalogue.get("tasks", {})
    whole = without_conditions(table, tasks)
    best = headline(whole)
    ranges = {(task, name): tuple(facts["range"]) for task, name, facts in metrics_of(tasks) if facts.get("range")}
    controls = [name for name, entry in catalogue.get("models", {}).items() if entry.get("kind") == "control"]
    of_scores = singles(table, tasks)
    every = list(sheets(of_scores, best, screen_tasks(tasks)))
    coverage = Coverage(table, best, of_scores, tasks)
    summary = summary_intervals(_summary(whole, best), every, ranges)
    keys = [((task, *rest), model) for task, model, *rest in summary[SUMMARY_KEY].itertuples(index=False, name=None)]
    numbers = [coverage.numbers(*key) for key in keys]
    summary["n_scored"], summary["n_total"] = zip(*numbers, strict=True) if numbers else ((), ())
    coverages = [coverage.shortfall(*key) for key in keys]
    summary = summary.astype({"n_scored": "Int64", "n_total": "Int64"}).assign(coverage=coverages)
    pairs, ranks = compare(every, directions(tasks), controls, coverage.lacks_splits, coverage.short)
    return {"summary": summary, "intervals": intervals(every, ranges), "comparisons": pairs, "ranks": ranks}


def _summary(table: pd.DataFrame, best: pd.DataFrame) -> pd.DataFrame:
    """Return the mean and standard deviation over splits of every score, with the number of splits; of each set by itself.

    `n_splits` counts the splits that have a value; `n_failed` and `n_not_applicable` those that have none, for the job as a
    whole or for this metric, subset and profile.
    """
    best = best[best["condition"] == ""]
    summary = best.groupby(SUMMARY_KEY, sort=False)["value"].agg(mean="mean", sd="std", n_splits="size").reset_index()
    for status in ("failed", "not_applicable"):
        lacking = table[(table["status"] == status) & table["fold"].isna()]
        groups = dict(list(lacking.groupby(SUMMARY_KEY[:4])))
        rows = summary[SUMMARY_KEY].itertuples(index=False)
        summary[f"n_{status}"] = [_splits_without(groups.get(row[:4]), row) for row in rows]
    return summary


def _by_stratum(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of single conditions with what `subset` says in two columns: the genes scored and the stratum."""
    return table.join(table["subset"].str.extract("(?P<genes>[^/]*)/?(?P<stratum>.*)"))[CONDITION_COLUMNS]


def _splits_without(lacking: pd.DataFrame | None, row: Any) -> int:
    """Return how many splits have no value for one row of the summary; an empty field of `lacking` means all."""
    if lacking is None:
        return 0
    for column in ("classifier", "metric", "subset", "profile"):
        lacking = lacking[lacking[column].isin(["", getattr(row, column)])]
    return lacking["split"].nunique()


# --- what others published -------------------------------------------------------------------------------------------

BLOCK = ["source", "splits"]
"""The columns by which the tables of others tell apart what a row is over: whose values, of which splits."""
SOURCE_COLUMNS = ["source", "title", "description", "url", "version", "date", "licence", "citation"]
SOURCE_COLUMNS += ["n_values", "n_left_out", "models", "datasets", "tasks"]


def _published_rows(path: Path) -> list[Score]:
    if path.is_file():
        return read_scores(path)
    reason = f"the import left no file; see logs/import_published/{path.stem}.log"
    return [Score(source=path.stem, status="failed", reason=reason)]


def _published(table: pd.DataFrame, sources: Mapping[str, Mapping[str, Any]]) -> dict[str, pd.DataFrame]:
    """Return the rows of others, what is made of ours too, over the blocks of splits that models share, and the sources."""
    import pandas as pd

    empty = conclude(_as_table([]), {})
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in ("summary", "comparisons", "ranks")}
    of_sources = list(table.groupby("source", sort=False))
    for source, rows in of_sources:
        for splits, of_block in blocks(rows):
            concluded = conclude(of_block, sources.get(source, {}))
            for name, of_blocks in parts.items():
                of_blocks.append(concluded[name].assign(source=source, splits=" ".join(splits)))
    tables = {"published": table}
    for name, of_blocks in parts.items():
        filled = [part for part in of_blocks if len(part)]
        whole = pd.concat(filled, ignore_index=True) if filled else empty[name].assign(source="", splits="")
        tables[f"published_{name}"] = whole[[*BLOCK, *empty[name].columns]]
    about = [_source(source, rows, sources.get(source, {})) for source, rows in of_sources]
    return {**tables, "published_sources": pd.DataFrame(about, columns=SOURCE_COLUMNS)}


def _source(name: str, rows: pd.DataFrame, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a source, with what the catalogue says of the models, data and tasks that its rows name."""
    known = {}
    for kind in ("model", "dataset", "task"):
        entries = entry.get(f"{kind}s", {})
        known[f"{kind}s"] = _cell({key: entries[key] for key in dict.fromkeys(rows[kind]) if key in entries})
    counts = {"n_values": len(rows), "n_left_out": int((rows["status"] != "ok").sum())}
    texts = {key: entry.get(key, "") for key in SOURCE_COLUMNS[1:8]}
    return {"source": name, **texts, **counts, **known}


def _rows_of(path: Path, reason: str) -> list[Score]:
    if path.is_file() and not reason:
        return read_scores(path)
    task, model, dataset, split = _tail(path)
    reason = reason or "there is no score file"
    return [Score(task=task, model=model, dataset=dataset, split=split, status="failed", reason=reason)]


def _tail(path: PurePath) -> tuple[str, str, str, str]:
    if len(path.parts) < 4:
        raise CellgaugeError(f"{path}: not a score file of the form TASK/MODEL/DATASET/SPLIT.tsv")
    task, model, dataset = path.parts[-4:-1]
    return task, model, dataset, path.stem


def _runtime(scores: Sequence[Path], folder: Path, species: Species) -> pd.DataFrame:
    """Return what each job cost.

    Snakemake's benchmark files tell seconds, CPU seconds and peak resident MiB. The embeddings and predictions beside the
    scores tell on what device they were computed, in what precision, and what their network and its GPU did.
    """
    import pandas as pd

    results = _results_folder(scores)
    jobs: dict[tuple[str, ...], None] = {}
    for task, model, dataset, split in map(_tail, scores):
        parts = [split, *species.splits(dataset, split)]  # a model embeds a set as a whole, or split by split
        jobs |= dict.fromkeys(("embed", "", model, dataset, part) for part in parts)
        jobs[("predict", "", model, dataset, split)] = None
        jobs |= dict.fromkeys((rule, task, model, dataset, split) for rule in ("neighbors", "score"))
    rows = []
    for job in sorted(jobs):
        path = folder.joinpath(*filter(None, job)).with_suffix(".tsv")
        if path.is_file():
            measured = pd.read_csv(path, sep="\t", na_values="-").iloc[0]
            result = results.joinpath(MADE_BY.get(job[0], ""), *job[2:]).with_suffix(".h5ad")
            rows.append([*job, measured["s"], measured["cpu_time"], measured["max_rss"], *_on_device(result)])
    return pd.DataFrame(rows, columns=RUNTIME_COLUMNS)


def _on_device(path: Path) -> tuple[str | float | None, ...]:
    """Return what an embedding or prediction says of its device: the device, the precision, and `OF_NETWORKS`."""
    facts = scalars(path)
    device, precision = str(facts.get("device", "")).partition(":")[0], str(facts.get("precision", ""))
    return device, precision, *(float(facts.get(key, 0)) or None for key in OF_NETWORKS.values())


def _results_folder(scores: Sequence[Path]) -> Path:
    """Return the folder in which score files lie in scores/, and embeddings and splits beside that."""
    return next((path.parents[4] for path in scores if len(path.parts) > 5), Path())


def _facts_of_files(scores: Sequence[Path], species: Species) -> tuple[defaultdict[str, dict], dict[str, dict]]:
    """Return what embeddings, predictions and splits say of themselves, by model and by dataset.

    `notes` are on what was left out or read in another way than one might think, by "dataset/split" and by split; `n_dims`
    are the dimensions of a model's embeddings. Files that are gone say nothing.
    """
    results = _results_folder(scores)
    models: defaultdict[str, dict[str, Any]] = defaultdict(lambda: {"notes": {}, "n_dims": {}})
    datasets: dict[str, dict[str, Any]] = defaultdict(lambda: {"notes": {}})
    parts = {(m, d, part) for _, m, d, split in map(_tail, scores) for part in (split, *species.splits(d, split))}
    for dataset, split in sorted({key[1:] for key in parts}):
        if note := scalars(results / "splits" / dataset / f"{split}.h5ad").get("notes"):
            datasets[dataset]["notes"][split] = str(note)
    for model, dataset, split in sorted(parts):
        for folder in MADE_BY.values():
            facts = scalars(results / folder / model / dataset / f"{split}.h5ad")
            if note := facts.get("notes"):
                models[model]["notes"][f"{dataset}/{split}"] = str(note)
            if (n_dims := facts.get("n_dims")) and not facts.get("not_applicable"):
                models[model]["n_dims"][int(n_dims)] = None
    for entry in models.values():
        entry["n_dims"] = " or ".join(f"{n:,}" for n in sorted(entry["n_dims"]))
    return models, datasets


def _completed(entries: Mapping[str, Mapping[str, Any]], more: Mapping[str, Mapping[str, Any]]) -> dict[str, dict]:
    return {
        name: {**entry, **{key: value for key, value in more.get(name, {}).items() if value}}
        for name, entry in entries.items()
    }


def _layouts(paths: Iterable[Path]) -> pd.DataFrame:
    """Return the places of cells on a plane, with model and dataset; text columns are categories."""
    import pandas as pd

    parts = []
    for path in filter(Path.is_file, paths):
        with open_checked(path) as file:
            part = pd.read_csv(file, sep="\t", dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, na_filter=False)
        if len(part):  # none of a model that applies to none of the cells
            model, dataset, embedded = *path.parts[-3:-1], path.stem
            of_set = ["" if split == embedded else embedded for split in part["split"]]
            parts.append(part.assign(model=model, dataset=dataset, set=of_set))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=LAYOUT_COLUMNS)
    types = dict.fromkeys(("model", "dataset", "set", *TEXTS), "category") | {"x": "float32", "y": "float32"}
    return table[LAYOUT_COLUMNS].astype(types)


def _entries(entries: Mapping[str, Mapping[str, Any]], kind: str) -> pd.DataFrame:
    import pandas as pd

    rows = [{kind: name, **{key: _cell(value) for key, value in entry.items()}} for name, entry in entries.items()]
    table = pd.DataFrame(rows or {kind: []})
    return table.astype({column: "Int64" for column in ("n_cells", "n_donors") if column in table})


def _metrics(tasks: Tasks, scores: pd.DataFrame) -> pd.DataFrame:
    """Return what the catalogue says of each metric, followed by those that stand beside it in `scores`."""
    import pandas as pd

    has_rows = set(zip(scores["task"], scores["metric"], strict=True))

    def described(task: str, metrics: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for metric, facts in metrics.items():
            yield metric, facts
            for end, beside in facts_beside(facts).items() if metric else ():
                if (task, metric + end) in has_rows and metric + end not in metrics:
                    yield metric + end, beside

    rows = []
    for task, entry in tasks.items():
        about = {
            "task": task,
            "task_title": entry.get("title", task),
            "task_description": entry.get("description", ""),
            "task_also_known_as": _cell(entry.get("also_known_as", [])),
            "scope": entry.get("scope", "split"),
            "modality": entry.get("modality", ""),
            "headline": entry.get("headline", ""),
        }
        for metric, facts in described(task, entry.get("metrics") or {"": {}}):  # one without metrics has a row, too
            rows.append({**about, "metric": metric, **{key: _cell(value) for key, value in facts.items()}})
    columns = ["task", "task_title", "task_description", "scope", "modality", "headline", "metric"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def _cell(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, Mapping | list) else value


def _write_parquet(table: pd.DataFrame, path: Path, provenance: Mapping[str, Any] | None = None) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = pyarrow.Table.from_pandas(table, preserve_index=False)
    about = {PARQUET_KEY: json.dumps(repeatable(provenance), sort_keys=True)} if provenance else {}
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(columns.replace_schema_metadata({**columns.schema.metadata, **about}), temporary)

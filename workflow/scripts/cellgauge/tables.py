"""The tables: all score rows in one file, their summary over splits, intervals, comparisons, cost, and the catalogue.

Tables are made from score files alone. A score file that is missing becomes a row of status `failed`, so that one broken
model never hides the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from cellgauge import ALL_SPLITS
from cellgauge.anchors import compare_with_anchors, read_anchors
from cellgauge.contracts import SCORE_COLUMNS, ContractError, Score, atomic_path, open_h5, read_scalars, read_scores
from cellgauge.errors import CellgaugeError
from cellgauge.uncertainty import SCORE_KEY, compare, intervals, is_beside, summary_intervals

if TYPE_CHECKING:
    import pandas as pd

KEY = SCORE_KEY
TEXTS = ("split", "cell", "label", "batch")
LAYOUT_COLUMNS = ["model", "dataset", *TEXTS, "x", "y"]
RUNTIME_COLUMNS = ["stage", "task", "model", "dataset", "split", "seconds", "cpu_seconds", "max_rss_mb"]
RUNTIME_COLUMNS += ["device", "gpu_seconds", "max_gpu_mb"]
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
    anchors: str | Path | None = None,
    ledger: str | Path | None = None,
) -> None:
    """Write the tables that docs/results.md describes into `output`.

    The rows of single conditions of perturbation screens stand in conditions.csv, their means in scores.csv. Which tasks score
    screens is what the catalogue says of their modality; a task that it does not know counts as one that scores cells.

    Args:
        scores: score files, results/scores/{task}/{model}/{dataset}/{split}.tsv; those that are missing count as failed.
        benchmarks: the folder of Snakemake's benchmark files; what is not there (any more) is left out.
        catalogue: what `Grid.catalogue` says of models, datasets, tasks and of what does not apply.
        failed: the reason of score files that were not made; a file that is there from an earlier run is not read then.
        layouts: pictures of embeddings, results/layouts/{model}/{dataset}.tsv; those that are missing are left out.
        anchors: config/anchors.yaml, published numbers to be set beside ours.
        ledger: config/checksums.yaml, where the sha256 of models' files stand.
    """
    import pandas as pd

    catalogue = catalogue or {}
    output = Path(output)
    failed = failed or {}
    rows = [score for path in scores for score in _rows_of(Path(path), failed.get(str(path), ""))]
    rows += [
        Score(task=task, model=model, dataset=dataset, split=split, status="not_applicable", reason=reason)
        for task, model, dataset, split, reason in catalogue.get("skipped", [])
    ]
    table = pd.DataFrame([vars(row) for row in rows], columns=list(SCORE_COLUMNS))
    table = table.astype({"value": "float64", "seed": "Int64", "fold": "Int64"})
    screens = screen_tasks(catalogue.get("tasks", {}))
    of_condition = table["task"].isin(screens) & (table["condition"] != "")
    single_conditions, everything = table[of_condition], table
    _write(conditions(single_conditions), output / "conditions.csv")
    table = table[~of_condition]
    best = headline(table)
    single = intervals(everything, best, screens)
    _write(table, output / "scores.csv")
    _write(table, output / "scores.parquet")
    _write(summary_intervals(summarise(table), best, single), output / "summary.csv")
    _write(single, output / "intervals.csv")
    compared = _compared(best[~best["task"].isin(screens)], single_conditions, catalogue)
    for name, part in zip(("comparisons", "ranks"), compared, strict=True):
        _write(part, output / f"{name}.csv")
    _write(compare_with_anchors(best, read_anchors(anchors) if anchors else []), output / "anchors.csv")
    _write(_layouts([Path(path) for path in layouts]), output / "layouts.parquet")
    _write(_runtime([Path(path) for path in scores], Path(benchmarks)), output / "runtime.csv")
    _write(_entries(_with_checksums(catalogue.get("models", {}), ledger), "model"), output / "models.csv")
    _write(_entries(catalogue.get("datasets", {}), "dataset"), output / "datasets.csv")
    _write(_metrics(catalogue.get("tasks", {})), output / "tasks.csv")


def screen_tasks(tasks: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the names of the catalogue's tasks that score predicted responses to perturbations."""
    return {name for name, entry in tasks.items() if entry.get("modality") == "perturbation"}


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """Return the row that stands for each score: the mean over folds and seeds where there is one, else the only row.

    Rows of single folds, and of single seeds beside their mean, are left out.
    """
    rows = table[(table["status"] == "ok") & table["fold"].isna()]
    means_first = rows.assign(_single=rows["seed"].notna()).sort_values("_single", kind="stable")
    return means_first.drop_duplicates(KEY).drop(columns="_single").sort_index()


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean and standard deviation over splits of every headline score, with the number of splits.

    `n_splits` counts the splits that have a value; `n_failed` and `n_not_applicable` those that have none, for the job as a
    whole or for this metric, subset and profile.
    """
    best = headline(table)
    by = ["task", "model", "dataset", "classifier", "metric", "subset", "profile"]
    best = best[best["condition"] == ""]
    summary = best.groupby(by, sort=False)["value"].agg(mean="mean", sd="std", n_splits="size").reset_index()
    for status in ("failed", "not_applicable"):
        lacking = table[(table["status"] == status) & table["fold"].isna()]
        groups = dict(list(lacking.groupby(by[:3])))
        summary[f"n_{status}"] = [
            _splits_without(groups.get(row[:3]), row) for row in summary[by].itertuples(index=False)
        ]
    return summary


def conditions(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of single conditions with what `subset` says in two columns: the genes scored and the stratum."""
    parts = table["subset"].str.partition("/")
    first = ["task", "model", "dataset", "split", "metric"]
    last = ["condition", "profile", "value", "status", "reason"]
    table = table[[*first, *last]].assign(genes=parts[0] if len(table) else "", stratum=parts[2] if len(table) else "")
    return table[[*first, "genes", "stratum", *last]]


def _splits_without(lacking: pd.DataFrame | None, row: Any) -> int:
    """Return how many splits have no value for one row of the summary; an empty field of `lacking` means all."""
    if lacking is None:
        return 0
    for column in ("classifier", "metric", "subset", "profile"):
        lacking = lacking[lacking[column].isin(["", getattr(row, column)])]
    return lacking["split"].nunique()


def _compared(
    of_cells: pd.DataFrame, single_conditions: pd.DataFrame, catalogue: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare models over splits, and those of perturbation screens over conditions.

    Args:
        of_cells: the row that stands for each score of the tasks that score cells.
    """
    import pandas as pd

    genes = single_conditions["subset"].str.partition("/")[0] if len(single_conditions) else ""
    screens = single_conditions[single_conditions["status"] == "ok"].assign(subset=genes)
    screens = screens.assign(split=screens["split"] + "/" + screens["condition"], condition="")
    compared = pd.concat([part for part in (of_cells, screens[of_cells.columns]) if len(part)] or [of_cells])
    rising = {
        (task, metric): facts["higher_is_better"]
        for task, entry in catalogue.get("tasks", {}).items()
        for metric, facts in entry.get("metrics", {}).items()
        if facts.get("higher_is_better") is not None and not is_beside(metric)
    }
    controls = [name for name, entry in catalogue.get("models", {}).items() if entry.get("kind") == "control"]
    return compare(compared, rising, left_out=controls)


def _rows_of(path: Path, reason: str) -> Iterator[Score]:
    if path.is_file() and not reason:
        yield from read_scores(path)
        return
    task, model, dataset, split = _tail(path)
    reason = reason or "there is no score file"
    yield Score(task=task, model=model, dataset=dataset, split=split, status="failed", reason=reason)


def _tail(path: PurePath) -> tuple[str, str, str, str]:
    if len(path.parts) < 4:
        raise CellgaugeError(f"{path}: not a score file of the form TASK/MODEL/DATASET/SPLIT.tsv")
    task, model, dataset = path.parts[-4:-1]
    return task, model, dataset, path.stem


def _runtime(scores: Sequence[Path], folder: Path) -> pd.DataFrame:
    """Return what each job cost.

    Snakemake's benchmark files tell seconds, CPU seconds and peak resident MiB. The embeddings and predictions beside the
    scores tell on what device they were computed, and seconds and peak MiB of its GPU.
    """
    import pandas as pd

    results = next((path.parents[4] for path in scores if len(path.parts) > 5), Path())

    jobs: dict[tuple[str, ...], None] = {}
    for task, model, dataset, split in map(_tail, scores):
        jobs |= dict.fromkeys([("embed", "", model, dataset, split), ("embed", "", model, dataset, ALL_SPLITS)])
        jobs[("predict", "", model, dataset, split)] = None
        jobs |= dict.fromkeys((rule, task, model, dataset, split) for rule in ("neighbours", "score"))
    rows = []
    for job in sorted(jobs):
        path = folder.joinpath(*filter(None, job)).with_suffix(".tsv")
        if path.is_file():
            measured = pd.read_csv(path, sep="\t", na_values="-").iloc[0]
            made = results.joinpath(MADE_BY.get(job[0], ""), *job[2:]).with_suffix(".h5ad")
            rows.append([*job, measured["s"], measured["cpu_time"], measured["max_rss"], *_on_device(made)])
    return pd.DataFrame(rows, columns=RUNTIME_COLUMNS)


def _on_device(path: Path) -> tuple[str, float | None, float | None]:
    """Return the device of an embedding or prediction, and the seconds and peak MiB of its GPU; nothing where it is not known.

    A file that is not there (any more) or cannot be read only leaves these fields empty: the scores were made from it.
    """
    try:
        with open_h5(path) as file:
            facts = read_scalars(file)
    except ContractError:
        return "", None, None
    used = {key: float(facts.get(key, 0)) or None for key in ("gpu_seconds", "peak_gpu_memory_mb")}
    return str(facts.get("device", "")).partition(":")[0], *used.values()


def _layouts(paths: Sequence[Path]) -> pd.DataFrame:
    """Return the places of cells on a plane, with model and dataset; text columns are categories."""
    import pandas as pd

    parts = []
    for path in paths:
        if path.is_file():
            part = pd.read_csv(path, sep="\t", dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, na_filter=False)
            parts.append(part.assign(model=path.parent.name, dataset=path.stem))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=LAYOUT_COLUMNS)
    types = dict.fromkeys(("model", "dataset", *TEXTS), "category") | {"x": "float32", "y": "float32"}
    return table[LAYOUT_COLUMNS].astype(types)


def _with_checksums(models: Mapping[str, Any], ledger: str | Path | None) -> dict[str, dict[str, Any]]:
    """Return the models with the size and sha256 of each of their files, where they were ever fetched."""
    import yaml

    known = (
        (yaml.safe_load(Path(ledger).read_text(encoding="utf-8")) or {}) if ledger and Path(ledger).is_file() else {}
    )
    return {
        name: {
            **entry,
            "files": [
                {"url": url, **{k: known.get(url, {}).get(k) for k in ("size", "sha256")}} for url in entry["files"]
            ],
        }
        if entry.get("files")
        else dict(entry)
        for name, entry in models.items()
    }


def _entries(entries: Mapping[str, Mapping[str, Any]], kind: str) -> pd.DataFrame:
    import pandas as pd

    rows = [{kind: name, **{key: _cell(value) for key, value in entry.items()}} for name, entry in entries.items()]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=[kind])


def _metrics(tasks: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {
            "task": task,
            "task_title": entry.get("title", task),
            "task_description": entry.get("description", ""),
            "modality": entry.get("modality", ""),
            "metric": metric,
            **{k: _cell(v) for k, v in facts.items()},
        }
        for task, entry in tasks.items()
        for metric, facts in (entry.get("metrics") or {"": {}}).items()  # a task without metrics has its row, too
    ]
    columns = ["task", "task_title", "task_description", "modality", "metric"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def _cell(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, Mapping | list) else value


def _write(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False)

"""Our results of profile `reference` in the format of cz-benchmarks."""

from __future__ import annotations

from typing import Any

from cellgauge.data.organisms import ORGANISMS
from cellgauge.results.compare import Result
from cellgauge.results.czbenchmarks import CLASSIFIERS, METRICS
from cellgauge.results.entries import Variant
from cellgauge.results.provenance import version_text
from cellgauge.results.read import Tables

VERSION = "0.10.2"
"""The cz-benchmarks that profile reference computes as."""


def cz_results(tables: Tables) -> dict[str, Any]:
    """Return the scores of profile reference in the result format of cz-benchmarks 0.10 (`czbenchmarks run`).

    It is what `write_results` in their cli/cli_run.py wrote, of `TaskResult` in cli/types.py and classes of metrics/types.py;
    the model types are not theirs alone. Release 0.15.1 writes no results, but has the classes of metrics. A value that is a
    mean over folds carries what it is the mean of, as their aggregated results do. Parameters have a `coverage` where the value
    is of fewer cells, conditions, genes or folds than there are. Their `timestamp` is left out: the same run gives the same
    bytes, and provenance.json has the date.
    """
    results, about = [], tables.provenance
    for (task, dataset, model, split), metrics in _by_job(tables).items():
        for cz_task in METRICS:
            of_task = [metric for name, metric in metrics if name == cz_task]
            if of_task:
                results.append(_task_result(tables, cz_task, task, dataset, model, split, of_task))
    return {
        "czbenchmarks_version": VERSION,
        "args": f"cellgauge{f' {version_text(about)}' if about else ''}, profile reference",
        "task_results": results,
    }


def _by_job(tables: Tables) -> dict[tuple[str, str, str, str], list[tuple[str, dict[str, Any]]]]:
    """Return the results of each score file by task, dataset, model and split, each with their name of its task."""
    folds: dict[tuple[str, ...], list[float]] = {}
    key = ["task", "dataset", "model", "split", "metric", "classifier", "subset"]
    rows = tables.scores[(tables.scores["profile"] == "reference") & (tables.scores["status"] == "ok")]
    single = rows[rows["fold"].notna()]
    for *parts, value in single[[*key, "value"]].itertuples(index=False, name=None):
        folds.setdefault(tuple(parts), []).append(value)
        folds.setdefault((*parts[:5], "mean", parts[6]), []).append(value)
    by_job: dict[tuple[str, str, str, str], list[tuple[str, dict[str, Any]]]] = {}
    best = tables.best[tables.best["profile"] == "reference"]
    for *parts, value in best[[*key, "value"]].itertuples(index=False, name=None):
        task, dataset, model, split, metric, classifier, genes = parts
        known = tables.metric(task, metric).czbenchmarks
        if not known or "/" in genes:
            continue
        params = {"classifier": CLASSIFIERS.get(classifier, classifier)} if classifier else {}
        if genes:
            params["subset"] = genes
        split_set = split if split in tables.datasets[dataset].sets else ""
        if split_set:
            params["set"] = split
        variant = Variant("reference", metric, classifier, genes, split_set)
        if short := Result(tables, task, dataset, variant).split_shortfall(model, split):
            params["coverage"] = short
        result: dict[str, Any] = {"metric_type": known["metric"], "params": params, "value": value}
        if values := folds.get(tuple(parts)):
            mean, n = sum(values) / len(values), len(values)
            deviation = (sum((v - mean) ** 2 for v in values) / (n - 1)) ** 0.5 if n > 1 else None
            result |= {"n_values": n, "value_std_dev": deviation, "values_raw": values}
        by_job.setdefault((task, dataset, model, split), []).append((known["task"], result))
    return by_job


def _task_result(
    tables: Tables, cz_task: str, task: str, dataset: str, model: str, split: str, metrics: list[dict[str, Any]]
) -> dict[str, Any]:
    data, entry = tables.datasets[dataset], tables.models[model]
    splits = data.sets.get(split, [split])
    species = {name: data.organisms.get(name, "") for name in splits}
    scientific = {name: organism.scientific.lower().replace(" ", "_") for name, organism in ORGANISMS.items()}
    datasets = [
        {"name": f"{dataset}/{name}", "organism": scientific.get(organism, organism)}
        | {"name_display": data.title, "subset_display": name}
        for name, organism in species.items()
    ]
    kind = "BASELINE" if entry.kind == "baseline" else entry.facts.get("czbenchmarks") or model.upper()
    return {
        "task_name": cz_task,
        "task_name_display": tables.tasks[task].title,
        "model": {"type": kind, "args": {"model": model}, "name_display": entry.title, "variant_display": ""},
        "datasets": datasets,
        "metrics": metrics,
        "runtime_metrics": {},
    }

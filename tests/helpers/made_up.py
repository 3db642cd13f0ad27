"""Tables with plausible numbers for the inputs of a configuration, written by the code that writes the real ones."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from functools import cache
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml

from cellgauge.files.checked import add_checksums
from cellgauge.files.score import Score, write_scores
from cellgauge.plan.config import CATALOGUE
from cellgauge.plan.grid import Cell, Grid
from cellgauge.plan.inputs import Inputs
from cellgauge.plan.manifest import catalogue
from cellgauge.plan.provenance import planned
from cellgauge.results import provenance
from cellgauge.results.published import import_published
from cellgauge.results.tables import collect
from cellgauge.results.umap import COLUMNS
from cellgauge.tasks.traits import task_traits

CONFIG = Path(__file__).parents[2] / "config"
LABELS = tuple(f"cell type {letter}" for letter in "ABCDEFGHI")
CLASSIFIERS = ("logistic_regression", "knn", "random_forest")
SKILL = {"oracle": 0.97, "linear": 0.6, "hvg": 0.5, "random": 0.0, "shuffled": 0.01}


def inputs_of(config: Mapping[str, Any]) -> Inputs:
    """Return what the rules ask of a configuration."""
    return Inputs(Grid(config))


def shipped(name: str) -> dict[str, Any]:
    """Return what config/{name}.yaml holds, for the caller to change; it is parsed once."""
    return deepcopy(_parsed(name))


@cache
def _parsed(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIG / f"{name}.yaml").read_text(encoding="utf-8"))


def configuration(*overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the catalogue and the run that is selected by default, with keys of `overrides` laid over them."""
    config: dict[str, Any] = {}
    for name in CATALOGUE:
        _lay_over(config, shipped(name))
    for override in overrides:
        _lay_over(config, override)
    return config


def demo() -> dict[str, Any]:
    """Return the configuration of `make demo-all`."""
    return configuration(shipped("demo-all"))


def few(*models: str) -> dict[str, Any]:
    """Return the configuration of `make demo-all` with a few of its models, and without the dataset of three species."""
    config = demo()
    config["run"] |= {"models": list(models), "datasets": ["baron_pancreas", "planted_pancreas"]}
    return config


def full_grid(n_models: int = 10) -> dict[str, Any]:
    """Return a configuration with `n_models` models beside the controls on every tissue and species of the catalogue."""
    named = {
        f"model_{n}": {"title": f"Foundation model {n}", "kind": "foundation", "adapter": "hvg", "shared_space": True}
        for n in range(n_models)
    }
    return configuration(shipped("full"), {"models": named, "run": {"models": [*named, "random", "oracle"]}})


def write_tables(
    folder: Path,
    config: Mapping[str, Any],
    *,
    failed: Mapping[str, str] | None = None,
    on_gpu: Mapping[str, float] | None = None,
) -> Path:
    """Write the files of jobs below `folder` and collect them; return the tables' folder.

    Args:
        failed: models whose scores were not made, each with the reason.
        on_gpu: models that computed on a GPU, each with its peak memory (MiB); the others did on a CPU.
    """
    failed = failed or {}
    inputs = write_files(folder, config, failed, on_gpu)
    about = provenance.record(planned(inputs))
    provenance.write(about, folder / "results" / provenance.FILE)
    collect(
        [folder / path for path in inputs.scores()],
        folder / "results" / "tables",
        benchmarks=folder / "benchmarks",
        catalogue=catalogue(inputs.grid),
        failed={str(folder / cell.path): failed[cell.model] for cell in inputs.grid.cells if cell.model in failed},
        layouts=[folder / path for path in inputs.layouts()],
        published=[folder / path for path in inputs.published_rows()],
        provenance=about,
    )
    return folder / "results" / "tables"


def write_files(
    folder: Path, config: Mapping[str, Any], failed: Collection[str] = (), on_gpu: Mapping[str, float] | None = None
) -> Inputs:
    """Write the files of jobs below `folder`: scores, benchmarks, layouts, values of others; return the run's inputs."""
    inputs, on_gpu = inputs_of(config), on_gpu or {}
    for place, cell in enumerate(inputs.grid.cells):
        if cell.model in failed:
            continue
        own = {"task": cell.task, "model": cell.model, "dataset": cell.dataset, "split": cell.split}
        kind = task_traits(cell.task).modality
        rows = [Score(**{**vars(row), **own}) for row in _scores(cell, kind, np.random.default_rng(place))]
        write_scores(folder / cell.path, rows)
    for place, cell in enumerate(inputs.grid.cells):
        stage = "predict" if inputs.run.modality(cell.dataset) == "perturbation" else "embed"
        for tail in (f"{stage}/{cell.model}/{cell.dataset}/{cell.split}", f"score/{cell.path[15:-4]}"):
            benchmark = folder / "benchmarks" / f"{tail}.tsv"
            benchmark.parent.mkdir(parents=True, exist_ok=True)
            seconds = 1.0 + place % 17
            if tail.startswith(stage):
                kind = {"embed": "embeddings", "predict": "predictions"}[stage]
                _write_provenance(folder / "results" / kind / f"{tail.partition('/')[2]}.h5ad", on_gpu.get(cell.model))
            benchmark.write_text(f"s\tmax_rss\tcpu_time\n{seconds}\t{300 + place}\t{seconds * 0.9}\n", encoding="utf-8")
    for path in inputs.layouts():
        _, _, _, dataset, file = path.split("/")
        _write_layout(folder / path, inputs.run.splits_of(dataset, file.removesuffix(".tsv")))
    for source in inputs.run.published:
        _write_published(folder / f"results/published/{source}.tsv", source, inputs)
    return inputs


def _write_published(path: Path, source: str, inputs: Inputs) -> None:
    """Write values as others may publish them: those of the entry, or of its models on some splits of its data."""
    options = json.loads(inputs.published_options(SimpleNamespace(source=source)))
    if "values" not in options:
        generator = np.random.default_rng(5)
        models = list(dict.fromkeys(options["models"].values()))
        tissues = [f"tissue_{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
        rows = []
        for place, model in enumerate(models):
            for split in tissues if model.startswith("tf_") else tissues[:5]:
                own = {"model": model, "dataset": "tabula_sapiens_v2", "split": split, "profile": "reference"}
                for metric, classifier in (("ari", ""), ("nmi", ""), *product(["f1"], (*CLASSIFIERS, "mean"))):
                    task = "label_prediction" if classifier else "clustering"
                    value = _near(0.3 + 0.05 * place, generator)
                    rows.append({"task": task, "metric": metric, "classifier": classifier, "value": value, **own})
            own = {"task": "cross_species", "model": model, "dataset": "spermatogenesis", "split": "common"}
            rows.append({**own, "metric": "entropy_per_cell", "value": _near(0.4, generator)})
        rules = [rule for rule in options["left_out"] if rule.get("metric") != "auroc"]
        options = {"source": source, "values": rows, "left_out": rules}
    import_published(None, path, **options)


def _lay_over(base: dict[str, Any], override: Mapping[str, Any]) -> None:
    for key, value in override.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _lay_over(base[key], value)
        else:
            base[key] = value


def _write_layout(path: Path, splits: list[str], n_cells: int = 600) -> None:
    """Write places of `n_cells` cells of every split, labels in clumps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(COLUMNS)]
    for split in splits:
        generator = np.random.default_rng(len(path.parents[1].name))
        codes = np.arange(n_cells) % len(LABELS)
        places = np.clip(generator.random((len(LABELS), 2))[codes] + generator.normal(0, 0.04, (n_cells, 2)), 0, 1)
        lines += [
            f"{split}\tcell{n}\t{LABELS[codes[n]]}\tbatch {n % 8}\t{x:.4f}\t{y:.4f}" for n, (x, y) in enumerate(places)
        ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    add_checksums(path)


# --- rows as the tasks write them ------------------------------------------------------------------------------------


def _scores(cell: Cell, modality: str, generator: np.random.Generator) -> Iterator[Score]:
    skill = SKILL.get(cell.model, 0.3 + 0.5 * (sum(map(ord, cell.model)) % 17) / 17)
    of_task = {"clustering": _clustering, "label_prediction": _label_prediction, "cross_species": _cross_species}
    n_cells = float(900 + sum(map(ord, cell.split)) % 700)
    if modality == "perturbation":
        for profile in ("reference", "corrected"):
            yield from _perturbation(cell.model, profile, skill, generator)
        return
    for profile in ("reference", "corrected"):
        yield Score("n_cells", n_cells, profile)
        yield Score("n_unembedded", 0.0, profile)
        yield from of_task[cell.task](profile, skill, generator)
    yield Score("n_donors", 6.0, "corrected")
    yield Score("n_batches", 8.0, "corrected")
    for species in ("human", "mouse") if cell.task == "cross_species" else ("",):
        for place, label in enumerate(LABELS):
            yield Score("n_cells", float(200 - 20 * place), "corrected", subset=species, condition=label)


def _write_provenance(path: Path, gpu_memory: float | None) -> None:
    """Write of an embedding or prediction what it says of its device."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"device": "cpu", "gpu_seconds": 0.0, "peak_gpu_memory_mb": 0.0}
    if gpu_memory:
        facts = {"device": "cuda:0", "precision": "bf16", "gpu_seconds": 0.5, "peak_gpu_memory_mb": gpu_memory}
        facts |= {"network_seconds": 0.8, "cells_per_second": 2500.0, "tokens_per_second": 3e6}
        facts |= {"host_wait_seconds": 0.2, "gpu_utilization": 0.625}
    with h5py.File(path, "w") as file:
        for group in ("obs", "var", "X", "uns"):
            file.create_group(group)
        for key, value in facts.items():
            file["uns"][key] = value


def _near(skill: float, generator: np.random.Generator) -> float:
    return float(np.clip(skill + generator.normal(0, 0.06), 0, 1))


def _clustering(profile: str, skill: float, generator: np.random.Generator) -> Iterator[Score]:
    for metric in ("ari", "nmi", "n_clusters"):
        values = [_near(skill, generator) if metric != "n_clusters" else 12.0 for _ in range(10)]
        if profile == "corrected":
            yield from (Score(metric, value, profile, seed=42 + n) for n, value in enumerate(values))
            if metric != "n_clusters":
                yield Score(f"{metric}_sd", float(np.std(values, ddof=1)), profile)
        yield Score(metric, float(np.mean(values)), profile)
    silhouette = 0.5 + _near(skill, generator) / 4
    yield Score("silhouette", silhouette, profile)
    if profile == "corrected":
        for donor in range(6):
            yield Score("silhouette_without", silhouette + 0.002 * (donor - 2.5), profile, condition=f"donor {donor}")


def _label_prediction(profile: str, skill: float, generator: np.random.Generator) -> Iterator[Score]:
    yield Score("n_classes", 9.0, profile)
    for subset in ("random_folds", "donor_folds") if profile == "corrected" else ("",):
        for metric in ("accuracy", "f1", "precision", "recall", "auroc"):
            means = []
            for classifier in CLASSIFIERS:
                values = [_near(skill, generator) for _ in range(5)]
                where = {"profile": profile, "classifier": classifier, "subset": subset}
                yield from (Score(metric, value, fold=fold, **where) for fold, value in enumerate(values))
                means.append(float(np.mean(values)))
                yield Score(metric, means[-1], **where)
            yield Score(metric, float(np.mean(means)), profile, classifier="mean", subset=subset)
        yield Score("iterations", 100.0, profile, classifier="logistic_regression", subset=subset)
        if profile == "corrected":
            yield from _per_class(skill, generator, subset)


def _per_class(skill: float, generator: np.random.Generator, subset: str) -> Iterator[Score]:
    where = {"profile": "corrected", "classifier": "mean", "subset": subset}
    for place, label in enumerate(LABELS):
        right = _near(skill, generator)
        yield Score("f1", right, condition=label, **where)
        for other, share in ((label, right), (LABELS[place - 1], 1 - right)):
            if share > 0:
                yield Score("confusion", (200 - 20 * place) * share, condition=json.dumps([label, other]), **where)


def _perturbation(model: str, profile: str, skill: float, generator: np.random.Generator) -> Iterator[Score]:
    """Rows of 6 conditions in 3 strata; `additive` predicts pairs alone, and `no_change` has no correlation."""
    strata = {"A+ctrl": "unseen_single", "B+ctrl": "unseen_single", "A+C": "combo_seen1", "C+B": "combo_seen1"}
    strata |= {"C+D": "combo_seen2", "C+E": "combo_seen2"}
    chosen = [c for c, stratum in strata.items() if model != "additive" or stratum == "combo_seen2"]
    metrics = {"mse": ("all", "top20_de", "top100_de"), "pearson_delta": ("all", "top20_de", "top100_de")}
    metrics |= {"jaccard": ("top20_de", "top100_de")}
    if profile == "corrected":
        metrics |= {f"discrimination_{kind}": ("all",) for kind in ("l1", "l2", "cosine")}
        metrics |= {"centroid_accuracy": ("all",), "e_distance": ("all",), "r2_delta": ("all",)}
    groups = {"": list(strata)} | {s: [c for c in strata if strata[c] == s] for s in dict.fromkeys(strata.values())}
    for stratum, members in groups.items():
        tail = f"/{stratum}" if stratum else ""
        scored = [c for c in members if c in chosen]
        yield Score("n_conditions", float(len(scored)), profile, subset=f"all{tail}")
        yield Score("n_unpredicted", float(len(members) - len(scored)), profile, subset=f"all{tail}")
    yield Score("n_genes", 5045.0, profile, subset="all")
    for metric, subsets in metrics.items():
        undefined = (
            "the predicted change is the same for all genes"
            if model == "no_change" and metric == "pearson_delta"
            else ""
        )
        for genes in subsets:
            values = {c: _near(skill, generator) for c in strata}
            for condition, stratum in strata.items():
                why = undefined or ("" if condition in chosen else "no training condition perturbs A alone")
                where = {"subset": f"{genes}/{stratum}", "condition": condition, "profile": profile}
                if why:
                    yield Score(metric, None, **where, status="not_applicable", reason=why)
                else:
                    yield Score(metric, values[condition], **where)
            for stratum, members in groups.items():
                there = [values[c] for c in members if c in chosen and not undefined]
                where = {"subset": f"{genes}/{stratum}" if stratum else genes, "profile": profile}
                if there:
                    note = "" if len(there) == len(members) else f"mean over {len(there)} of {len(members)} conditions"
                    yield Score(metric, float(np.mean(there)), **where, reason=note)
                else:
                    why = undefined or "no training condition perturbs A alone"
                    yield Score(metric, None, **where, status="not_applicable", reason=why)


def _cross_species(profile: str, skill: float, generator: np.random.Generator) -> Iterator[Score]:
    if profile == "reference":
        yield Score("entropy_per_cell", _near(0.9 - skill, generator), profile)
        yield Score("batch_silhouette", _near(0.8, generator), profile)
        return
    for metric, classifier in product(("transfer_f1", "transfer_balanced_accuracy"), ("mean", *CLASSIFIERS[:2])):
        of_pairs = {pair: _near(skill, generator) for pair in ("human to mouse", "mouse to human")}
        yield Score(metric, float(np.mean(list(of_pairs.values()))), profile, classifier)
        for pair, value in of_pairs.items():
            yield Score(metric, value, profile, classifier, condition=pair)
    for pair in ("human to mouse", "mouse to human"):
        yield Score("labels_shared", float(len(LABELS) - 1), profile, condition=pair)
    for metric in ("bras", "entropy_ratio"):
        of_labels = {label: _near(0.9 - skill, generator) for label in LABELS[:-1]}
        yield Score(metric, float(np.mean(list(of_labels.values()))), profile)
        for label, value in of_labels.items():
            yield Score(metric, value, profile, condition=label)
    yield Score("labels_shared", float(len(LABELS) - 1), profile)
    yield Score("labels_not_shared", 1.0, profile, reason="in one species only: schwann cell")

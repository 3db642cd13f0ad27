"""What is known of a run's provenance before it runs; `cellgauge.results.provenance` adds the rest when tables are made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cellgauge.plan import config as settings
from cellgauge.plan import paths
from cellgauge.plan.grid import Cell
from cellgauge.plan.manifest import files_of
from cellgauge.plan.sources import ROOT, code, digest
from cellgauge.results.provenance import differences
from cellgauge.tasks.traits import task_traits

if TYPE_CHECKING:
    from cellgauge.plan.inputs import Inputs


def planned(inputs: Inputs) -> dict[str, Any]:
    """Return the name, the configuration, what it changes of the catalogue, seeds, parameters and digests of code of a run.

    `splits` and `embeddings` are the files, and `urls` the objects, whose sums are looked up when the tables are made.
    """
    run = inputs.run
    in_use = {
        "models": [model.partition("@")[0] for model in run.models],
        "datasets": list(run.datasets),
        "tasks": run.tasks,
        "published": run.published,
    }
    config: dict[str, Any] = {"run": {key: value for key, value in run.options.items() if key != "also"}}
    config |= {kind: {name: run.entries[kind][name] for name in names} for kind, names in in_use.items()}
    stages = dict(_code(inputs))
    published = (run.entries["published"][source].get("url") for source in run.published)
    return {
        "name": run.name,
        "config": config,
        "differences": differences(config, settings.catalogue()),
        "seeds": list(run.options["seeds"]),
        "models": {model: _model(inputs, model) for model in run.models},
        "tasks": {task: _task(inputs, task) for task in run.tasks},
        "code": {stage: digest(files) for stage, files in stages.items()},
        "sources": dict(sorted({name: sum_ for files in stages.values() for name, sum_ in files.items()}.items())),
        "environments": dict(_environments(inputs)),
        "splits": {
            f"{d}/{s}": paths.SPLIT.format(dataset=d, split=s) for d, names in run.datasets.items() for s in names
        },
        "embeddings": {cell.model: path for cell in reversed(inputs.grid.cells) for path in inputs.results(cell)[:1]},
        "urls": sorted({*inputs.downloads(), *filter(None, published)}),
    }


def _model(inputs: Inputs, model: str) -> dict[str, Any]:
    run, entry = inputs.run, inputs.run.model(model)
    return {
        "adapter": entry["adapter"],
        "stage": f"{'predict' if run.traits(model).modality == 'perturbation' else 'embed'} {entry['adapter']}",
        "environment": run.model_env(model),
        "params": dict(run.params(model)),
        "seed": run.seed(model),
        "draws": run.traits(model).stochastic,
        "files": files_of(inputs.grid, model),
    }


def _task(inputs: Inputs, task: str) -> dict[str, Any]:
    traits = task_traits(task)
    return {
        "scope": traits.scope,
        "modality": traits.modality,
        "environment": inputs.run.task_env(task),
        "params": dict(inputs.run.task_params(task)),
        "profiles": list(inputs.run.options["profiles"]),
    }


def _code(inputs: Inputs) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each stage whose code can change a number, with the digests of our files that it runs."""
    yield "split", code("split_dataset")
    yield "tables", code("collect_tables")
    for model in inputs.run.models:
        yield _model(inputs, model)["stage"], inputs.model_code(Cell("", model, "", ""))
    for task in inputs.run.tasks:
        yield f"score {task}", inputs.task_code(SimpleNamespace(task=task))
        if task_traits(task).modality == "perturbation":
            yield "truth", code("measure_truth")
        elif inputs.keeps_neighbors(task):
            yield f"neighbors {task}", inputs.neighbor_code(SimpleNamespace(task=task))


def _environments(inputs: Inputs) -> Iterator[tuple[str, str]]:
    """Yield the files that say which packages are installed, each with the digest of what it says."""
    run = inputs.run
    names = {*map(run.model_env, run.models), *map(run.task_env, run.tasks)}
    for path in (ROOT / "requirements.lock", *(ROOT / f"workflow/envs/{name}.yaml" for name in sorted(names))):
        if path.is_file():
            yield path.relative_to(ROOT).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()[:12]

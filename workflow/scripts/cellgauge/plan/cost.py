"""What the jobs of a run cost before it runs: CPU hours, GPU hours, memory and downloads, by the table config/costs.yaml.

A job costs a sum of weighted `TERMS`: how its work grows with its cells and, for scores, with the dimensions of the
embedding. The table holds the weights and says where they come from.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from cellgauge.plan import paths
from cellgauge.plan.sources import ROOT

if TYPE_CHECKING:
    from cellgauge.plan.grid import Cell
    from cellgauge.plan.inputs import Inputs
    from cellgauge.plan.planned import PlannedJob
    from cellgauge.plan.run import Run

STAGES = ("split", "embed", "predict", "truth", "score")
"""The stages that cost something, in the order in which they run; a score counts with the search of its neighbors."""
DIMS = ("n_components", "n_dims", "n_latent", "n_top_genes")
"""Params of models that say how many dimensions an embedding has; of several the first."""
CELLS = 40_000
"""The cells of a split whose size the catalogue does not tell."""
EPOCHS, EPOCH_CELLS = 400, 20_000
"""What a model trains for without `max_epochs`: fewer epochs beyond so many cells (scvi-tools 1.4)."""

Law = Mapping[str, float]
"""Term -> weight, see `TERMS`."""
Costs = Mapping[str, Any]
"""config/costs.yaml; its head says what the keys are."""

TERMS: Mapping[str, Callable[[int, int, int], float]] = {
    "job": lambda cells, dims, epochs: 1,
    "cells": lambda cells, dims, epochs: cells,
    "values": lambda cells, dims, epochs: cells * dims,
    "pairs": lambda cells, dims, epochs: cells**2,
    "products": lambda cells, dims, epochs: cells**2 * dims,
    "forest": lambda cells, dims, epochs: cells * math.log2(cells + 1) * math.sqrt(dims),
    "passes": lambda cells, dims, epochs: cells * epochs,
}
"""How work grows: per job, cell, value of the embedding, pair of cells, product of a pair, value that a random forest looks
at for its splits, and cell that is trained on once."""


class Job(NamedTuple):
    """A job of a run; NaN is what the table does not know.

    Attributes:
        result: the path that it makes.
        stage: one of `STAGES`.
        model: "" where the job serves all models.
        cpu_hours: hours of one CPU thread, without a GPU.
        gpu_hours: what a GPU takes instead, measured or by arithmetic; 0 where none is asked for.
        memory_mb: peak resident memory in MB (2**20 bytes), without a GPU.
    """

    result: str
    stage: str
    model: str
    cpu_hours: float
    gpu_hours: float
    memory_mb: float


def read_costs() -> Costs:
    """Return the table of costs."""
    import yaml

    return yaml.safe_load((ROOT / "config/costs.yaml").read_text(encoding="utf-8"))


def evaluate(law: Law, cells: int, dims: int = 0, epochs: int = 0) -> float:
    """Return what a law says of a job."""
    return sum(weight * TERMS[term](cells, dims, epochs) for term, weight in law.items())


def measured_speeds(runtime: Path) -> dict[str, float]:
    """Return the cells per second of each model that embedded on an NVIDIA GPU, from a runtime.csv; {} where there is none."""
    seconds: dict[str, float] = {}
    cells: dict[str, float] = {}
    if not runtime.is_file():
        return {}
    with runtime.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["stage"] == "embed" and row.get("device") == "cuda" and row.get("network_seconds"):
                model, took = row["model"].partition("@")[0], float(row["network_seconds"])
                seconds[model] = seconds.get(model, 0) + took
                cells[model] = cells.get(model, 0) + took * float(row["cells_per_second"] or 0)
    return {model: cells[model] / took for model, took in seconds.items() if cells[model]}


def jobs(inputs: Inputs, costs: Costs, cells: int, speeds: Mapping[str, float] | None = None) -> Iterator[Job]:
    """Yield the jobs that cost something, each once.

    Args:
        cells: what a split has whose size the catalogue does not tell.
        speeds: the cells per second of models that were measured on a GPU.
    """
    run, grid = inputs.run, inputs.grid

    def size(dataset: str, splits: Iterable[str]) -> int:
        return sum(run.n_cells(dataset, split) or cells for split in splits)

    for dataset, split in _splits(inputs):
        modality, n_cells = run.modality(dataset), size(dataset, [split])
        place = {"dataset": dataset, "split": split}
        yield _job(paths.SPLIT.format(**place), "split", "", costs["splits"][modality], n_cells)
        if modality == "perturbation":
            yield _job(paths.TRUTH.format(**place), "truth", "", costs["truth"], n_cells)
    results = {path: cell for cell in grid.cells for path in inputs.results(cell)}
    for path, cell in results.items():
        n_cells = size(cell.dataset, run.splits_of(cell.dataset, Path(path).stem))
        params = run.params(cell.model)
        epochs = params.get("max_epochs") or min(EPOCHS, round(EPOCHS * EPOCH_CELLS / n_cells))
        stage = "predict" if run.modality(cell.dataset) == "perturbation" else "embed"
        tflops = costs["tflops"][params.get("precision", "auto")] if inputs.gpus(cell) else 0
        laws, speed = _of_model(run, costs, cell), (speeds or {}).get(cell.model.partition("@")[0])
        parts = [path]
        if path in inputs.divided:
            yield _job(path, stage, cell.model, costs["join"], n_cells, laws.get("dims", 0))
            parts = inputs.divided[path].shards
            n_cells = -(-n_cells // len(parts))
        for part in parts:
            job = _job(part, stage, cell.model, laws, n_cells, 0, epochs, tflops)
            if speed and tflops and stage == "embed":
                job = job._replace(gpu_hours=n_cells / speed / 3600)
            yield job
    for cell in grid.cells:
        laws = costs["tasks"].get(cell.task, {})
        if "reference" in run.options["profiles"] and run.traits(cell.model).reference_on_counts:
            laws = costs["tasks"].get(f"{cell.task}_on_counts", laws)
        params, usual = run.params(cell.model), _of_model(run, costs, cell).get("dims", 0)
        dims = next((params[name] for name in DIMS if name in params), usual)
        if not dims and run.modality(cell.dataset) == "expression":
            laws = {}
        n_cells = size(cell.dataset, run.splits_of(cell.dataset, cell.split))
        yield _job(cell.path, "score", cell.model, laws, n_cells, dims)


def _job(
    result: str,
    stage: str,
    model: str,
    laws: Mapping[str, Law],
    cells: int,
    dims: int = 0,
    epochs: int = 0,
    tflops: float = 0,
) -> Job:
    """Return a job; `tflops` is 0 where it asks for no GPU."""
    quantities = ("cpu_seconds", "gflop", "memory_mb")
    cpu, gflop, memory = (evaluate(laws[q], cells, dims, epochs) if q in laws else math.nan for q in quantities)
    # small networks have no `gflop`: a GPU takes them no longer than a CPU does
    gpu = 0.0 if not tflops else cpu if math.isnan(gflop) else gflop / (1000 * tflops)
    return Job(result, stage, model, cpu / 3600, gpu / 3600, memory)


def _of_model(run: Run, costs: Costs, cell: Cell) -> Mapping[str, Any]:
    """Return the entry of a model: that of its name, else that of its adapter, else an empty one."""
    models = costs["models"]
    return models.get(cell.model.partition("@")[0]) or models.get(run.model(cell.model)["adapter"], {})


def _splits(inputs: Inputs) -> list[tuple[str, str]]:
    """Return the (dataset, split) that some score needs."""
    return list(dict.fromkeys((dataset, split) for _, dataset, split in inputs.grid.parts))


def report(
    to_run: Sequence[PlannedJob],
    inputs: Inputs,
    costs: Costs,
    cells: int,
    known_sizes: Mapping[str, int],
    speeds: Mapping[str, float] | None = None,
) -> Iterator[str]:
    """Yield the lines of the report on the costs of some jobs.

    Args:
        to_run: the jobs; their downloads count, and their costs by what they make.
        cells, speeds: see `jobs`.
        known_sizes: the bytes of objects that were ever fetched, by URL.
    """
    results = {path for job in to_run for path in job.outputs}
    planned = [job for job in jobs(inputs, costs, cells, speeds) if job.result in results]
    yield f"{'':34}{'':>6}{'without GPUs':>14}{'with GPUs':>22}"
    yield f"{'stage':34}{'jobs':>6}{'CPU h':>14}{'CPU h':>12}{'GPU h*':>10}{'peak MB':>10}"
    for stage in STAGES:
        yield from _row(stage, [job for job in planned if job.stage == stage])
    yield from _row("all", planned)
    models = list(dict.fromkeys(job.model for job in planned if job.model))
    if models:
        yield "model, scores included"
    for model in models:
        yield from _row(model, [job for job in planned if job.model == model])
    embedding = {job.model.partition("@")[0] for job in planned if job.gpu_hours and job.stage == "embed"}
    measured = {model: speed for model, speed in (speeds or {}).items() if model in embedding}
    if any(job.gpu_hours and job.model.partition("@")[0] not in measured for job in planned):
        tflops = ", ".join(f"{speed} in {precision}" for precision, speed in costs["tflops"].items())
        yield (
            f"* Arithmetic, not measured: operations of the networks at 40 % of an H100's peak (TFLOP/s: {tflops});"
            " loading and tokenizing come on top, and a thread is busy as long. Small networks: their CPU time, the most it"
            " can be. Foundation models: cells of as many tokens as the model takes; smaller cells cost less."
        )
    if measured:
        rates = ", ".join(f"{model} {speed:,.0f}" for model, speed in measured.items())
        yield f"* Measured in this folder's results, on its GPU, in cells per second: {rates}."
    if unknown := _names(job for job in planned if math.isnan(job.cpu_hours)):
        yield f"Not known, and in no sum ({unknown}). An entry in config/costs.yaml makes them known."
    if unknown := _names(job for job in planned if math.isnan(job.memory_mb) and not math.isnan(job.cpu_hours)):
        yield f"+ At least: the memory of some jobs is not known ({unknown})."
    splits = _splits(inputs)
    known = [split for split in splits if inputs.run.n_cells(*split)]
    others = len(splits) - len(known)
    rest = f", {cells:,} (--cells) for each of the other {others}" if others else ""
    yield f"Cells: the catalogue's n_cells for {len(known)} of {len(splits)} splits{rest}."
    yield downloads(urls(to_run, inputs), costs, known_sizes)


def _row(name: str, chosen: Sequence[Job]) -> Iterator[str]:
    if not chosen:
        return
    known = [job for job in chosen if not math.isnan(job.cpu_hours)]
    memory = [job.memory_mb for job in known if not math.isnan(job.memory_mb)]
    alone, gpu = sum(job.cpu_hours for job in known), sum(job.gpu_hours for job in known)
    with_gpus = sum(job.gpu_hours or job.cpu_hours for job in known)  # a job on a GPU keeps a thread busy as long
    peak = (f"{max(memory):,.0f}" if memory else "?") + "+" * (len(memory) < len(known))
    hours = [f"{value:,.2f}" if value else "-" for value in (alone, with_gpus, gpu)] if known else ["?"] * 3
    yield f"{name:34}{len(chosen):>6}{hours[0]:>14}{hours[1]:>12}{hours[2]:>10}{peak:>10}"


def _names(chosen: Iterable[Job]) -> str:
    """Return the models of some jobs by stage, such as "embed: uce_4l, mine; score: mine"."""
    stages: dict[str, dict[str, None]] = {}
    for job in chosen:
        stages.setdefault(job.stage, {})[job.model] = None
    return "; ".join(f"{stage}: {', '.join(models)}" for stage, models in stages.items())


def urls(to_run: Iterable[PlannedJob], inputs: Inputs) -> list[str]:
    """Return the URLs that the downloads among some jobs fetch."""
    url_of = {"download": inputs.object_url, "download_weights": inputs.weights_url}
    url_of |= {"download_published": inputs.published_url}
    return [url_of[job.rule](SimpleNamespace(**job.wildcards)) for job in to_run if job.rule in url_of]


def downloads(urls: Iterable[str], costs: Costs, known_sizes: Mapping[str, int]) -> str:
    """Return a sentence on the bytes that are fetched, and on files of unknown size."""
    files = dict.fromkeys(map(_fetched, urls))
    sizes = {url: float(known_sizes[url]) for url in files if url in known_sizes}
    for end, gigabytes in costs["downloads_gb"].items():
        sizes |= {url: gigabytes * 1e9 for url in files if url.endswith(end) and url not in sizes}
    return (
        f"Downloads: {sum(sizes.values()) / 1e9:.2f} GB in {len(sizes)} files of known size"
        f" (checkpoints by their parameters); {len(files) - len(sizes)} files of unknown size."
    )


def _fetched(url: str) -> str:
    """Return what is fetched for a file: the package or archive that holds it, or the file itself."""
    whole = url.partition("!")[0]
    return "/".join(whole.split("/")[:3]) if whole.startswith("pypi://") else whole

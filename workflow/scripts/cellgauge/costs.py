"""What a run will cost: CPU, memory and bytes of its jobs, from costs that were measured and fitted, and what it did cost.

A scoring job costs a weighted sum of `TERMS`, how its work grows with cells and dimensions; the weights stand in
config/costs.yaml, fitted to measured jobs by bench/fit_costs.py. An embedding job costs what the model's measured jobs
cost per cell. What has never been measured is said, not guessed.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from cellgauge import ALL_SPLITS
from cellgauge.grid import is_remote

if TYPE_CHECKING:
    from cellgauge.grid import Cell, Grid

TERMS: Mapping[str, Callable[[float, float], float]] = {
    "job": lambda cells, dims: 1,
    "cells": lambda cells, dims: cells,
    "values": lambda cells, dims: cells * dims,
    "pairs": lambda cells, dims: cells**2,
    "pair_values": lambda cells, dims: cells**2 * dims,
    "forest": lambda cells, dims: cells * math.log2(cells + 1) * math.sqrt(dims),
}
"""How work grows: per job, cell, value of the embedding, pair of cells, product of a pair, and node of the forests' trees."""
ON_COUNTS = " on counts"
"""Marks the weights of a task that scores counts of genes instead of an embedding; its dimensions are genes."""
EMBEDDINGS = "results/embeddings/"
SIZES = ("n_components", "n_dims", "n_latent", "n_top_genes")
"""Params of models that say how many dimensions an embedding has; of several the first."""


class Cost(NamedTuple):
    """CPU seconds and peak memory in MB (2**20 bytes)."""

    cpu_seconds: float
    memory_mb: float


class Measured(NamedTuple):
    """A job that ran: its size and what it cost."""

    cells: int
    dims: int
    cost: Cost


Weights = Mapping[str, Mapping[str, float]]
"""Of one kind of job, the weight of each term: quantity -> term -> weight, with the quantities of `Cost`."""


def fit(measured: Sequence[Measured]) -> dict[str, dict[str, float]]:
    """Find the weights, none negative, that predict measured jobs with the least relative error."""
    import numpy as np
    from scipy.optimize import nnls

    found = {}
    for quantity in Cost._fields:
        truth = np.asarray([getattr(job.cost, quantity) for job in measured])
        table = np.asarray([[term(job.cells, job.dims) for term in TERMS.values()] for job in measured], dtype=float)
        size = table.max(axis=0)  # brings all columns to one scale
        weights = nnls(table / size / truth[:, None], np.ones(len(truth)))[0] / size
        found[quantity] = {name: float(weight) for name, weight in zip(TERMS, weights, strict=True) if weight > 0}
    return found


def predict(weights: Weights, cells: int, dims: int) -> Cost:
    """Return what a job of this size costs."""
    return Cost(
        *(
            sum(weight * TERMS[term](cells, dims) for term, weight in weights[quantity].items())
            for quantity in Cost._fields
        )
    )


@dataclass(frozen=True)
class Job:
    """A job of a run.

    Attributes:
        rule: embed or score.
        name: the rest of its path, such as "clustering/uce_4l/baron_pancreas/human".
        kind: the task or the model.
        predicted, measured: what it will cost, and did; None where nothing is known.
        bytes: of the embedding that it writes, 0 for scores.
        lacking: why nothing could be predicted.
    """

    rule: str
    name: str
    kind: str
    predicted: Cost | None
    measured: Cost | None
    bytes: int = 0
    lacking: str = ""


class Sizes:
    """How many cells splits have, and how many dimensions embeddings: read from files where they are there.

    Args:
        folder: where the run's results, benchmarks and config lie.
        cells: what to take for splits that have not been made; 0 leaves them unknown.
        dims: what to take for embeddings that have not been made and whose params do not say.
    """

    def __init__(self, grid: Grid, folder: Path, cells: int, dims: int) -> None:
        self._grid, self._folder, self._cells, self._dims = grid, folder, cells, dims

    def cells(self, dataset: str, splits: Sequence[str]) -> int:
        """Return the number of cells of some splits together, 0 where it is not known."""
        found = [self._shape(f"results/splits/{dataset}/{split}.h5ad")[0] or self._cells for split in splits]
        return sum(found) if all(found) else 0

    def dims(self, path: str, params: Mapping[str, Any]) -> int:
        """Return the number of dimensions of an embedding."""
        said = next((int(params[name]) for name in SIZES if name in params), self._dims)
        return self._shape(path)[1] or said

    def genes(self, dataset: str, split: str) -> int:
        """Return the number of genes of a split, 0 where it is not known."""
        return self._shape(f"results/splits/{dataset}/{split}.h5ad")[1]

    def _shape(self, path: str) -> tuple[int, int]:
        import h5py

        file = self._folder / path
        if not file.is_file():
            return 0, 0
        with h5py.File(file) as opened:
            matrix = opened["X"]
            shape = matrix.shape if isinstance(matrix, h5py.Dataset) else matrix.attrs["shape"]
            return int(shape[0]), int(shape[1])


def jobs(grid: Grid, weights: Mapping[str, Weights], sizes: Sizes, folder: Path) -> Iterator[Job]:
    """Yield every embedding and scoring job of a run with what it costs."""
    rates: dict[str, list[float]] = {}
    embeddings: dict[tuple[str, str, str], Cost | None] = {}
    for path in (
        path for path in grid.embeddings() if path.startswith(EMBEDDINGS)
    ):  # predictions of responses: not yet
        model, dataset, split = path.removeprefix(EMBEDDINGS).removesuffix(".h5ad").split("/")
        measured = read_benchmark(folder / "benchmarks" / "embed" / model / dataset / f"{split}.tsv")
        embeddings[model, dataset, split] = measured
        cells = sizes.cells(dataset, _splits(grid, dataset, split))
        if measured and cells:
            rates.setdefault(model, []).append(measured.cpu_seconds / cells)
    for (model, dataset, split), measured in embeddings.items():
        cells = sizes.cells(dataset, _splits(grid, dataset, split))
        dims = sizes.dims(f"results/embeddings/{model}/{dataset}/{split}.h5ad", grid.params(model))
        known = median(rates[model]) * cells if cells and model in rates else None
        predicted = Cost(known, measured.memory_mb if measured else math.nan) if known else None
        lacking = "" if predicted else _unknown(cells) or "the model has not been measured yet"
        yield Job("embed", f"{model}/{dataset}/{split}", model, predicted, measured, 4 * cells * dims, lacking)
    for cell in grid.cells:
        yield _score_job(grid, cell, weights, sizes, folder)


def _score_job(grid: Grid, cell: Cell, weights: Mapping[str, Weights], sizes: Sizes, folder: Path) -> Job:
    splits = _splits(grid, cell.dataset, cell.split)
    cells = sizes.cells(cell.dataset, splits)
    kind, dims = cell.task, sizes.dims(grid.result_of(cell), grid.params(cell.model))
    if cell.task in getattr(grid.traits(cell.model), "expression_tasks", ()):  # predictors of responses have none
        kind, dims = cell.task + ON_COUNTS, sizes.genes(cell.dataset, splits[0])
    lacking = _unknown(cells) or ("" if dims else "the number of genes is not known before the split is made")
    if kind not in weights:
        lacking = "the task has not been measured (bench/fit_costs.py measures tasks that score embeddings)"
    name = f"{cell.task}/{cell.model}/{cell.dataset}/{cell.split}"
    measured = read_benchmark(folder / "benchmarks" / "score" / f"{name}.tsv")
    predicted = None if lacking else predict(weights[kind], cells, dims)
    return Job("score", name, cell.task, predicted, measured, lacking=lacking)


def _splits(grid: Grid, dataset: str, split: str) -> list[str]:
    return grid.datasets[dataset] if split == ALL_SPLITS else [split]


def _unknown(cells: int) -> str:
    return "" if cells else "the number of cells is not known before the split is made: say it with --cells"


def read_benchmark(path: Path) -> Cost | None:
    """Return what a benchmark file of Snakemake says, None where there is none or it measured nothing."""
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file, delimiter="\t"), {})
    values = [row.get(column, "-") for column in ("cpu_time", "max_rss")]
    return None if "-" in values or "" in values else Cost(*map(float, values))


def downloads(grid: Grid, ledger: Mapping[str, Mapping[str, Any]]) -> str:
    """Say how many bytes the datasets of a run are, as far as the ledger of checksums knows."""
    urls = {url for dataset in grid.datasets for url in grid.objects(dataset).values() if is_remote(url)}
    known = [int(ledger[url]["size"]) for url in urls if "size" in ledger.get(url, {})]
    unknown = len(urls) - len(known)
    more = f", and {unknown} that were never fetched and whose size is not known" if unknown else ""
    return f"downloads of datasets: {len(known)} objects of {sum(known) / 1e9:.2f} GB{more}"


def summary(found: Sequence[Job]) -> Iterator[str]:
    """Yield the lines of the report: per kind of job, in all, what is not known, and how good the prediction was."""
    yield f"{'':34}{'jobs':>6}{'CPU h':>10}{'longest min':>13}{'peak MB':>9}{'writes GB':>11}"
    for rule in ("embed", "score"):
        for kind in dict.fromkeys(job.kind for job in found if job.rule == rule):
            yield _line(f"{rule} {kind}", [job for job in found if (job.rule, job.kind) == (rule, kind)])
    yield _line("all", found)
    for reason in dict.fromkeys(job.lacking for job in found if job.lacking):
        concerned = [job for job in found if job.lacking == reason]
        yield f"not in these numbers: {len(concerned)} jobs, {concerned[0].rule} {concerned[0].name} the first: {reason}"
    both = [job for job in found if job.predicted and job.measured and job.rule == "score"]
    if both:
        truth, said = (sum(cost.cpu_seconds for cost in costs) for costs in zip(*map(_costs, both), strict=True))
        ratios = sorted(truth.cpu_seconds / said.cpu_seconds for truth, said in map(_costs, both) if said.cpu_seconds)
        memory = max(truth.memory_mb / said.memory_mb for truth, said in map(_costs, both))
        yield (
            f"{len(both)} scoring jobs have run: {truth:.0f} CPU s, {said:.0f} predicted; measured / predicted is"
            f" {median(ratios):.2f} in the middle, {ratios[0]:.2f} to {ratios[-1]:.2f}; memory at most {memory:.2f} times"
        )


def _costs(job: Job) -> tuple[Cost, Cost]:
    return job.measured, job.predicted


def _line(name: str, found: Sequence[Job]) -> str:
    known = [job.predicted for job in found if job.predicted]
    cpu = f"{sum(cost.cpu_seconds for cost in known) / 3600:.2f}" if known else "?"
    longest = f"{max(cost.cpu_seconds for cost in known) / 60:.1f}" if known else "?"
    memories = [cost.memory_mb for cost in known if not math.isnan(cost.memory_mb)]
    peak = f"{max(memories):.0f}" if memories else "?"
    return f"{name:34}{len(found):>6}{cpu:>10}{longest:>13}{peak:>9}{sum(job.bytes for job in found) / 1e9:>11.2f}"

"""What jobs cost: CPU, memory and disk, from costs that were measured.

A job costs a weighted sum of `TERMS`, how its work grows with its size. The weights stand in config/costs.yaml, fitted to
measured jobs by bench/fit_costs.py, and in config/model_costs.yaml, written by hand for models whose jobs are too long to
be measured in many sizes. What has never been measured has no entry: it is said, not guessed.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Size(NamedTuple):
    """What the cost of a job grows with.

    Attributes:
        cells: of all its splits together.
        columns: dimensions of the embedding that it reads, or genes of the cells.
        conditions: test conditions of a screen.
        epochs: of a model that is trained.
    """

    cells: int
    columns: int
    conditions: int = 0
    epochs: int = 0


class Cost(NamedTuple):
    """CPU seconds, peak memory and what is written, both in MB (2**20 bytes); NaN where it is not known."""

    cpu_seconds: float
    memory_mb: float
    disk_mb: float = math.nan


def together(first: Cost, then: Cost) -> Cost:
    """Return what two jobs cost that run one after the other."""
    return Cost(
        first.cpu_seconds + then.cpu_seconds, max(first.memory_mb, then.memory_mb), first.disk_mb + then.disk_mb
    )


class Measured(NamedTuple):
    """A job that ran: its size and what it cost."""

    size: Size
    cost: Cost


TERMS: Mapping[str, Callable[[Size], float]] = {
    "job": lambda size: 1,
    "cells": lambda size: size.cells,
    "values": lambda size: size.cells * size.columns,
    "pairs": lambda size: size.cells**2,
    "pair_values": lambda size: size.cells**2 * size.columns,
    "forest": lambda size: size.cells * math.log2(size.cells + 1) * math.sqrt(size.columns),
    "conditions": lambda size: size.conditions,
    "responses": lambda size: size.conditions * size.columns,
    "response_pairs": lambda size: size.conditions**2 * size.columns,
    "passes": lambda size: size.cells * size.epochs,
}
"""How work grows: per job, cell, value of the matrix, pair of cells, product of a pair, node of the forests' trees, test
condition, gene of a condition, product of two conditions, and cell that is trained on once."""
HELD = ("job", "cells", "values", "conditions", "responses")
"""The terms of memory and disk: pairs are computed block by block and never held at once."""
ON_COUNTS = " on counts"
"""Marks the weights of a task that scores counts of genes instead of an embedding."""
APPROXIMATELY = ", approximate"
"""Marks the weights of a task that searches neighbours approximately."""

Weights = Mapping[str, Mapping[str, float]]
"""Of one kind of job, the weight of each term: quantity -> term -> weight, with the quantities of `Cost`."""
Costs = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Rule -> kind of job (task, model or adapter) -> `Weights`, and what else is known: `source`, `of`, `dims`, `left_out`."""


def fit(measured: Sequence[Measured], terms: Sequence[str] = tuple(TERMS)) -> dict[str, dict[str, float]]:
    """Find the weights, none negative, that predict measured jobs with the least relative error.

    A quantity that no job has is left out; so are terms that are 0 for all jobs.
    """
    import numpy as np
    from scipy.optimize import nnls

    found = {}
    for quantity in Cost._fields:
        jobs = [job for job in measured if not math.isnan(getattr(job.cost, quantity))]
        if not jobs:
            continue
        own = [term for term in terms if quantity == "cpu_seconds" or term in HELD]
        truth = np.asarray([getattr(job.cost, quantity) for job in jobs])
        table = np.asarray([[TERMS[term](job.size) for term in own] for job in jobs], dtype=float)
        size = np.maximum(table.max(axis=0), np.finfo(float).tiny)  # brings all columns to one scale
        weights = nnls(table / size / truth[:, None], np.ones(len(truth)))[0] / size
        counts = weights * size > 1e-9 * truth.max()  # not what is left of rounding
        found[quantity] = {name: float(weight) for name, weight, kept in zip(own, weights, counts, strict=True) if kept}
    return found


def left_out(measured: Sequence[Measured], terms: Sequence[str] = tuple(TERMS)) -> dict[str, list[float]]:
    """Return the lowest and highest of measured / predicted, each job predicted by a fit to the others alone."""
    ratios: dict[str, list[float]] = {}
    for place, job in enumerate(measured):
        predicted = predict(fit([*measured[:place], *measured[place + 1 :]], terms), job.size)
        for quantity, said, truth in zip(Cost._fields, predicted, job.cost, strict=True):
            if not math.isnan(said) and not math.isnan(truth):
                ratios.setdefault(quantity, []).append(truth / said)
    return {quantity: [min(found), max(found)] for quantity, found in ratios.items()}


def predict(weights: Weights, size: Size) -> Cost:
    """Return what a job of this size costs."""
    known = {
        quantity: sum(weight * TERMS[term](size) for term, weight in weights[quantity].items())
        for quantity in Cost._fields
        if quantity in weights
    }
    return Cost(**{quantity: known.get(quantity, math.nan) for quantity in Cost._fields})


def read_costs(folder: Path) -> Costs:
    """Return the costs of config/, those that were fitted and those written by hand."""
    import yaml

    fitted = yaml.safe_load((folder / "costs.yaml").read_text(encoding="utf-8"))["fitted"]
    by_hand = yaml.safe_load((folder / "model_costs.yaml").read_text(encoding="utf-8"))
    return {rule: {**fitted.get(rule, {}), **by_hand.get(rule, {})} for rule in [*fitted, *by_hand]}


def read_benchmark(path: Path, written: Path | None = None) -> Cost | None:
    """Return what a benchmark file of Snakemake says, None where there is none or it measured nothing.

    Args:
        written: the file that the job made, whose size is what it wrote.
    """
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file, delimiter="\t"), {})
    values = [row.get(column, "-") for column in ("cpu_time", "max_rss")]
    if "-" in values or "" in values:
        return None
    disk_mb = written.stat().st_size / 2**20 if written and written.is_file() else math.nan
    return Cost(*map(float, values), disk_mb)

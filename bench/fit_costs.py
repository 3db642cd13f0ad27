"""Measure scoring jobs in some sizes and fit what they cost: prints the entries of config/costs.yaml, some 6 CPU minutes.

    .venv/bin/python bench/fit_costs.py [--tasks clustering ...] [--shapes 2000x512 ...]

Jobs are run as the workflow runs them: whole processes, one thread, both profiles, the catalogue's params, on synthetic
cells (bench/synthetic.py). Each job is also predicted by a fit to the others; the ratios that are printed say how far off
such a prediction is. What a law may grow with are the terms of cellgauge/plan/cost.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_scorers import BENCHES, SCRIPTS, make_cells, our_commands, run, shape

sys.path.insert(0, str(SCRIPTS))

from cellgauge.plan.cost import TERMS, evaluate

TASKS = ("clustering", "cross_species", "label_prediction")
SHAPES = [
    *((2000, 50), (2000, 512), (10_000, 50), (10_000, 512), (10_000, 2048)),
    *((30_000, 50), (30_000, 512), (60_000, 50)),
]
HELD = ("job", "cells", "values")  # pairs are never held at once


def measure(task: str, folder: Path) -> tuple[float, float]:
    """Return the CPU seconds and the peak memory (MB) of a score and the search of its neighbors."""
    commands = our_commands(BENCHES[task], folder, folder / "scores.tsv", ["reference", "corrected"])
    cost = run(*commands)
    return cost.cpu, cost.memory_mb


def fit(sizes: Sequence[tuple[int, int]], values: Sequence[float], terms: Sequence[str]) -> dict[str, float]:
    """Return the weights, none negative, with the least relative squared error."""
    import numpy as np
    from scipy.optimize import nnls

    table = np.asarray([[TERMS[term](*size, 0) for term in terms] for size in sizes], dtype=float)
    scale = table.max(axis=0)  # brings all columns to one size
    weights = nnls(table / scale / np.asarray(values)[:, None], np.ones(len(values)))[0]
    return {term: float(f"{w / s:.2g}") for term, w, s in zip(terms, weights, scale, strict=True) if w > 1e-9}


def entry(task: str, sizes: Sequence[tuple[int, int]], costs: Sequence[tuple[float, float]]) -> Iterator[str]:
    """Yield the lines of a task's entry, with measured / predicted of each job by a fit to the others."""
    worked = (*HELD, "pairs", "products", *(["forest"] if task == "label_prediction" else []))
    yield f"  {task}:"
    for quantity, terms, values in zip(
        ("cpu_seconds", "memory_mb"), (worked, HELD), zip(*costs, strict=True), strict=True
    ):
        ratios = []
        for i, size in enumerate(sizes):
            law = fit([*sizes[:i], *sizes[i + 1 :]], [*values[:i], *values[i + 1 :]], terms)
            ratios.append(values[i] / evaluate(law, *size))
        law = ", ".join(f"{term}: {weight:g}" for term, weight in fit(sizes, values, terms).items())
        yield f"    {quantity}: {{{law}}}  # left out: {min(ratios):.2f} to {max(ratios):.2f}"


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    cli.add_argument("--shapes", nargs="+", type=shape, default=SHAPES, metavar="CELLSxDIMS")
    args = cli.parse_args()
    measured: dict[str, list[tuple[float, float]]] = {task: [] for task in args.tasks}
    for n_cells, n_dims in args.shapes:
        with tempfile.TemporaryDirectory() as folder:
            make_cells(Path(folder), n_cells, n_dims)
            for task, costs in measured.items():
                if not costs:
                    measure(task, Path(folder))  # once without timing: what is compiled is then on the disk
                costs.append(measure(task, Path(folder)))
                print(f"{task} {n_cells}x{n_dims}: {costs[-1][0]:.2f} CPU s, {costs[-1][1]:.0f} MB", flush=True)
    for task, costs in measured.items():
        print("\n".join(entry(task, args.shapes, costs)))


if __name__ == "__main__":
    main()

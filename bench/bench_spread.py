"""Measure how far scores of one embedding differ between runs that should agree: what a published number may differ by.

    .venv/bin/snakemake --cores 2 --configfile config/demo-all.yaml   # the splits and embeddings that are measured on
    .venv/bin/python bench/bench_spread.py [--folder DIR] [--models linear ...] [--runs 10]

Each line is the standard deviation over runs of a score of profile reference, by what differed between them:

seeds   Leiden's seed; the seed of folds and forests
moved   the embedding, every number by a normal draw of 1e-3 of its column's standard deviation: what another processor
        or another search of neighbors does
searched  the neighbors of the graph, approximate ones (PyNNDescent, as scanpy searches) with another seed each time
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow/scripts"))

from cellgauge.files.embedding import Embedding
from cellgauge.files.split import Split
from cellgauge.tasks.cells import CellsToScore, gather
from cellgauge.tasks.run import load_task

MOVED = 1e-3
SEED = 42
SHOWN = (
    "ari",
    "nmi",
    "silhouette",
    "accuracy",
    "f1",
    "precision",
    "recall",
    "auroc",
    "entropy_per_cell",
    "batch_silhouette",
)


def scored(cells: CellsToScore, task: str, seed: int = SEED) -> dict[tuple[str, str], float]:
    """Return the scores of profile reference, by (metric, classifier)."""
    rows = load_task(task).score(cells, profiles=["reference"], seed=seed)
    return {
        (r.metric, r.classifier): r.value for r in rows if r.fold is None and r.value is not None and r.metric in SHOWN
    }


def moved(cells: CellsToScore, seed: int) -> CellsToScore:
    """Return the cells with every number of their embedding moved a little."""
    scale = MOVED * cells.matrix.std(axis=0)
    noise = np.random.default_rng(seed).normal(size=cells.matrix.shape) * scale
    return replace(cells, matrix=(cells.matrix + noise).astype(np.float32))


def searched(cells: CellsToScore, seed: int) -> CellsToScore:
    """Return the cells with approximate neighbors."""
    from pynndescent import NNDescent

    indices, distances = NNDescent(cells.matrix, n_neighbors=15, random_state=seed).neighbor_graph
    return replace(cells, neighbors={"indices": indices, "distances": distances, "widths": np.zeros(len(indices))})


def spreads(cells: CellsToScore, n_runs: int) -> Iterator[tuple[str, dict[tuple[str, str], float]]]:
    """Yield (what differed, the standard deviation of each score)."""
    seeds = range(SEED, SEED + n_runs)
    if len(cells.splits) > 1:
        yield "moved", _sd([scored(moved(cells, seed), "cross_species") for seed in seeds])
        return
    for task in ("clustering", "label_prediction"):
        yield "seeds", _sd([scored(cells, task, seed) for seed in seeds])
        yield "moved", _sd([scored(moved(cells, seed), task) for seed in seeds])
    runs = [scored(searched(cells, seed), "clustering") for seed in seeds]
    yield "searched", {key: sd for key, sd in _sd(runs).items() if key[0] != "silhouette"}


def _sd(runs: list[dict[tuple[str, str], float]]) -> dict[tuple[str, str], float]:
    return {key: float(np.std([run[key] for run in runs], ddof=1)) for key in runs[0]}


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--folder", type=Path, default=Path(), help="where results/ of a run lies")
    cli.add_argument("--models", nargs="+", default=["linear"])
    cli.add_argument("--runs", type=int, default=10)
    args = cli.parse_args()
    for model in args.models:
        for path in sorted((args.folder / "results/embeddings" / model).glob("*/*.h5ad")):
            folder = args.folder / "results/splits" / path.parent.name
            embedding = Embedding.read(path)
            splits = [Split.open(folder / f"{split}.h5ad") for split in dict.fromkeys(embedding.splits)]
            cells = gather([embedding], splits, ("label",))  # the embedding, for every task
            for kind, found in spreads(cells, args.runs):
                for (metric, classifier), sd in found.items():
                    print(
                        f"{model:24}{path.parent.name}/{path.stem:16}{kind:10}{metric:12}{classifier:20}{sd:.5f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()

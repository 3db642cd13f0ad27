"""From worlds to values: files of the contracts, scored by the functions that the jobs of the workflow call.

python tests/calibration/scoring.py scib 0 1 2        # the values of a task as JSON, by the Python of its environment
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow/scripts"), str(Path(__file__).parent)]

import anndata
import numpy as np
import pandas as pd
import worlds_cells  # noqa: F401  each registers its worlds
import worlds_screens  # noqa: F401
import worlds_species  # noqa: F401
from scipy.sparse import csr_matrix
from worlds import WORLDS, CellWorld, Change, Copy, Planted, ScreenWorld

from cellgauge.data.make_split import make_split
from cellgauge.files.embedding import write_embedding
from cellgauge.files.score import Score
from cellgauge.files.split import Split
from cellgauge.results.entries import Variant
from cellgauge.tasks.run import score_files

N_GENES = 100
DATASET, MODEL = "planted", "planted"


@dataclass(frozen=True)
class Value:
    """The value of one score of one model in one world and seed, None where there is none."""

    task: str
    world: str
    variant: Variant
    model: str
    seed: int
    value: float | None


def score_world(planted: Planted, tasks: Sequence[str], seed: int, **params: Any) -> Iterator[Value]:
    """Yield the scores of every model of a world, without those of single labels, conditions, folds and seeds.

    Args:
        params: of the tasks, where they are not to be the defaults.
    """
    made = planted.at(seed)
    with tempfile.TemporaryDirectory() as folder:
        write = write_cells if isinstance(made, CellWorld) else write_screen
        for model, (scored, against) in write(made, Path(folder)):
            for task in tasks:
                for row in means(score_files(task, scored, against, **params)):
                    variant = Variant(row.profile, row.metric, row.classifier, row.subset)
                    yield Value(task, planted.name, variant, model, seed, row.value)


def means(rows: Iterator[Score]) -> list[Score]:
    """Return the rows that stand for a model: the means over folds, seeds and classifiers where there are any."""
    rows = [row for row in rows if not row.condition and row.fold is None and "/" not in row.subset]
    key = [(row.profile, row.metric, row.classifier, row.subset) for row in rows]
    averaged = {k for k, row in zip(key, rows, strict=True) if row.seed is None}
    several = any(row.classifier == "mean" for row in rows)
    return [
        row
        for k, row in zip(key, rows, strict=True)
        if (row.seed is None or k not in averaged) and (not several or row.classifier in ("mean", ""))
    ]


Files = tuple[list[Path], list[Path]]
"""What is scored, and the splits or the truth that it is scored against."""


def write_cells(made: CellWorld, folder: Path) -> Iterator[tuple[str, Files]]:
    """Write a split for each species and each model's embeddings of them, model by model."""
    species = made.obs["organism"]
    names = list(dict.fromkeys(species))
    splits = [_split(made, folder, name) for name in names]
    for model, matrix in made.models.items():
        paths = [folder / f"{name}_embedding.h5ad" for name in names]
        for name, path, split in zip(names, paths, map(Split.open, splits), strict=True):
            write_embedding(path, matrix[species == name], split.cells, [split], _provenance(name))
        yield model, (paths, splits)


def _provenance(split: str) -> dict[str, object]:
    return {"model": MODEL, "dataset": DATASET, "split": split, "shared_space": True}


def _split(made: CellWorld, folder: Path, organism: str) -> Path:
    """Write the cells of one species as a split; their counts hold the labels, and a little of the batches."""
    chosen = made.obs["organism"] == organism
    obs = pd.DataFrame({name: pd.Categorical(column[chosen]) for name, column in made.obs.items()})
    obs.index = [f"{organism} cell {number}" for number in range(len(obs))]
    rng = np.random.default_rng(0)
    rates = rng.gamma(1, 2, (obs["label"].nunique(), N_GENES))[obs["label"].cat.codes]
    rates *= rng.gamma(20, 1 / 20, (obs["batch"].nunique(), N_GENES))[obs["batch"].cat.codes]
    counts = csr_matrix((rng.poisson(rates) + np.eye(1, N_GENES)).astype(np.float32))
    var = pd.DataFrame(index=[f"gene-{number}" for number in range(N_GENES)])  # of no species
    options = {"label": "label", "donor": "donor", "batch": "batch", "organism": organism, "split": organism}
    return _written(anndata.AnnData(counts, obs, var), folder / f"{organism}.h5ad", options)


def _written(data: anndata.AnnData, path: Path, options: dict[str, object]) -> Path:
    published = path.with_suffix(".published.h5ad")
    data.write_h5ad(published)
    make_split(published, path, {"dataset": DATASET, "symbol": "index", **options})
    return path


def write_screen(made: ScreenWorld, folder: Path) -> Iterator[tuple[str, Files]]:
    """Write the split of a screen, what was measured, and each model's predictions, model by model."""
    import planted as answers

    from cellgauge.predictors import base
    from cellgauge.screens.ground_truth import measure_truth

    obs = pd.DataFrame({"label": pd.Categorical(made.conditions)})
    obs.index = [f"cell {number}" for number in range(len(obs))]
    var = pd.DataFrame(index=[f"GENE{number}" for number in range(made.counts.shape[1])])
    options = {"organism": "human", "label": "label", "modality": "perturbation", "split": "screen"}
    options |= {"test_conditions": list(made.test)}
    split = _written(anndata.AnnData(csr_matrix(made.counts), obs, var), folder / "screen.h5ad", options)
    truth, prediction, answers_path = (folder / name for name in ("truth.h5ad", "prediction.h5ad", "answers.npz"))
    measure_truth(split, truth)
    for model, what in made.models.items():
        if isinstance(what, str):
            base.predict_files(what, split, prediction)
        else:
            np.savez(answers_path, conditions=list(made.test), **_answers(what, made.counts.shape[1]))
            with patch.multiple(base, load_predictor=lambda name: answers, traits_of=lambda name: base.Traits()):
                base.predict_files("planted", split, prediction, weights=answers_path)
        yield model, ([prediction], [truth])


def _answers(what: Change | Copy, n_genes: int) -> dict[str, object]:
    if isinstance(what, Copy):
        return {"copied": list(what.of)}
    genes = np.arange(n_genes) if what.genes is None else what.genes
    return {"genes": genes, "changes": what.values, "cells": what.cells}


def score_apart(task: str, seeds: Sequence[int], python: str) -> list[Value]:
    """Return the values of a task that needs a Python of its own."""
    command = [python, __file__, task, *map(str, seeds)]
    return parse(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def parse(text: str) -> list[Value]:
    """Return the values that `main` writes."""
    return [Value(**{**row, "variant": Variant(**row["variant"])}) for row in json.loads(text)]


def main() -> None:
    task, *seeds = sys.argv[1:]
    chosen = [(planted, int(seed)) for planted in WORLDS.values() if task in planted.tasks for seed in seeds]
    with redirect_stdout(sys.stderr):  # libraries log to it
        values = [value for planted, seed in chosen for value in score_world(planted, [task], seed)]
    json.dump([asdict(value) for value in values], sys.stdout)


if __name__ == "__main__":
    main()

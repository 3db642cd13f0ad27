"""The cases of tests/golden that the GPU check runs, one of each family: inputs are written to a folder of the check."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import vectors

from cellgauge.files.split import Split


@dataclass(frozen=True)
class Golden:
    """A case of tests/golden, as the check runs it.

    Attributes:
        split, weights: the input and the checkpoint.
        options: of the adapter, which is in cellgauge/models, or in cellgauge/predictors where `conditions` are given.
        expected: the vectors of the official code, cell by cell; of predictors condition by condition.
        rows: the cells that it holds; by default all.
        conditions: what a predictor predicts.
    """

    split: Path
    weights: Path
    options: Mapping[str, object]
    expected: np.ndarray
    rows: Any = ...
    conditions: Sequence[str] = ()


def _case(family: str) -> tuple[Path, dict[str, Any]]:
    case = vectors.GOLDEN / family / "case_a"
    return case, json.loads((case / "config.json").read_text())


def scgpt(folder: Path) -> Golden:
    case, config = _case("scgpt")
    split = vectors.split_of(case, folder / "scgpt.h5ad")
    options = {"max_length": config["max_length_full"], "random_stream": "official", "seed": config["seed_run"]}
    return Golden(split, case / "model", options, np.load(case / "embedding_full.npy"))


def uce(folder: Path) -> Golden:
    case, config = _case("uce")
    split = vectors.split_of(case, folder / "uce.h5ad", config["species"])
    options = {"seed": config["np_seed"], "heads": config["nhead"], "sample_size": config["sample_size"]}
    options |= {"min_cells": 10, "min_genes": 25, "random_stream": "official"}
    rows = Split.open(split).cells != config["dropped_cell"]
    return Golden(split, case, options, np.load(case / "embedding_bs1.npy"), rows)


def aido_cell(folder: Path) -> Golden:
    case, rows = vectors.GOLDEN / "aido_cell" / "case_a", slice(2)  # a cell takes a second on a CPU
    weights = vectors.aido_cell_weights(case, folder / "aido_cell")
    split = vectors.split_of(case, folder / "aido_cell.h5ad", rows=rows)
    return Golden(split, weights, {}, np.load(case / "embedding_czb.npy")[rows])


def geneformer(folder: Path) -> Golden:
    case = vectors.GOLDEN / "geneformer" / "case_a"
    split = vectors.geneformer_split(case, folder / "geneformer.h5ad")
    return Golden(split, case, {}, np.load(case / "embedding_cell.npy"))


def transcriptformer(folder: Path) -> Golden:
    case = vectors.GOLDEN / "transcriptformer" / "case_a"
    split = vectors.transcriptformer_split(case, folder / "transcriptformer.h5ad")
    return Golden(split, case / "checkpoint", {}, np.load(case / "embedding.npy"))


def scvi(folder: Path) -> Golden:
    case = vectors.GOLDEN / "scvi" / "case_a"
    split = vectors.split_of(case, folder / "scvi.h5ad")
    return Golden(split, case / "scvi.model", {}, np.load(case / "embedding_qzm.npy"))


def scgenept(folder: Path) -> Golden:
    (case, config), name = _case("scgenept"), "scgenept_go_c"
    weights = vectors.scgenept_weights(case, name, folder / "scgenept")
    screen = vectors.scgenept_screen(case, folder / "scgenept.h5ad")
    panel = vectors.scgenept_panel(case, folder / "scgenept_panel.txt")
    options = {"seed": config["seed"], "heads": config["nhead"], "draw": "each", "panel": str(panel)}
    paths = [case / f"pred__{name}__{condition.replace('+', '_')}__all_ctrl.npy" for condition in config["perts"]]
    return Golden(screen, weights, options, np.concatenate(list(map(np.load, paths))), conditions=config["perts"])


CASES = {case.__name__: case for case in (scgpt, uce, aido_cell, geneformer, transcriptformer, scvi, scgenept)}

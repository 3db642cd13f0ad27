"""Prepare what `bench/gpu_check.py` takes to a GPU machine without network: cells, golden splits and wheels, below 60 MB.

    python bench/gpu_bundle.py [--folder .gpu-check] [--baron H5AD] [--python 3.12]

Checkpoints are not among it: the check makes them there, at random, in the published sizes. The folder holds

    cells/{plain,deep,shallow}.h5ad   splits of human pancreas cells (Baron et al. 2016); the check repeats them to any number
    golden/golden.json, golden/*      the inputs of tests/golden as splits; expected embeddings stay in the repository
    wheels/*.whl                      packages that a machine with PyTorch may lack, for that Python; unpacked where missing
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests" / "helpers"), str(ROOT / "workflow" / "scripts")]

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

LIMIT_MB = 60
BARON = "pypi://came==0.1.13/came/sample_data.zip!raw-Baron_human.h5ad"
CELLS = {"plain": 2048, "deep": 320, "shallow": 1024}  # of each kind; see `real_size.FAMILIES`
WHEELS = [  # what embedding, the official paths and the scorers import; pandas because anndata needs one below 3
    *("anndata", "array-api-compat", "legacy-api-wrap", "natsort", "scverse-misc", "session-info2", "zarr", "donfig"),
    *("google-crc32c", "numcodecs", "igraph", "leidenalg", "texttable", "pandas", "pytz", "tzdata"),
]
NEWEST = {"numcodecs"}  # imported and never called; the newest is a sixth as large as that of the lock
GLIBC = (17, 24, 27, 28)  # of the manylinux tags that the wheels may have


@dataclass(frozen=True)
class Golden:
    """A case of tests/golden, as the check runs it.

    Attributes:
        adapter: of cellgauge/models, or of cellgauge/predictors where `conditions` are given.
        split: the input, below the folder.
        weights: the checkpoint, below the folder or, with "repository:" before it, below the repository.
        options: of the adapter.
        expected: the embedding of the official code, below the repository; of predictors {condition} stands in it.
        rows: the cells that it holds, where those are not all.
        conditions: what a predictor predicts.
    """

    adapter: str
    split: str
    weights: str
    options: Mapping[str, object]
    expected: str
    rows: list[int] | None = None
    conditions: list[str] = field(default_factory=list)


def write_cells(folder: Path, counts: csr_matrix, symbols: list[str], sizes: Mapping[str, int] = CELLS) -> None:
    """Write a split of each kind of cells."""
    import real_size

    makers: dict[str, Callable] = {
        "plain": real_size.some_cells,
        "deep": real_size.deep_cells,
        "shallow": real_size.shallow_cells,
    }
    folder.mkdir(parents=True)
    for name, n_cells in sizes.items():
        cells = makers[name](counts, n_cells, np.random.default_rng(real_size.SEED))
        real_size.write_split_of(folder / f"{name}.h5ad", cells, symbols)


def write_golden(folder: Path) -> list[Golden]:
    """Write the inputs of tests/golden as splits, and golden.json."""
    import vectors

    folder.mkdir(parents=True)
    cases = [
        _scgpt(folder, vectors),
        _uce(folder, vectors),
        _aido_cell(folder, vectors),
        _geneformer(folder, vectors),
        _transcriptformer(folder, vectors),
        _scvi(folder, vectors),
        _scgenept(folder, vectors),
    ]
    (folder / "golden.json").write_text(json.dumps([asdict(case) for case in cases], indent=1))
    return cases


def _expected(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _in_repository(path: Path) -> str:
    return f"repository:{path.relative_to(ROOT)}"


def _config(case: Path) -> dict:
    return json.loads((case / "config.json").read_text())


def _scgpt(folder: Path, vectors) -> Golden:
    case = vectors.GOLDEN / "scgpt" / "case_a"
    config = _config(case)
    split = vectors.split_of(case, folder / "scgpt.h5ad")
    options = {"max_length": config["max_length_full"], "random_stream": "official", "seed": config["seed_run"]}
    return Golden("scgpt", split.name, _in_repository(case / "model"), options, _expected(case / "embedding_full.npy"))


def _uce(folder: Path, vectors) -> Golden:
    from cellgauge.files.split import Split

    case = vectors.GOLDEN / "uce" / "case_a"
    config = _config(case)
    split = vectors.split_of(case, folder / "uce.h5ad", config["species"])
    options = {"seed": config["np_seed"], "heads": config["nhead"], "sample_size": config["sample_size"]}
    options |= {"min_cells": 10, "min_genes": 25, "random_stream": "official"}
    kept = np.flatnonzero(Split.open(split).cells != config["dropped_cell"]).tolist()
    return Golden("uce", split.name, _in_repository(case), options, _expected(case / "embedding_bs1.npy"), kept)


def _aido_cell(folder: Path, vectors) -> Golden:
    case = vectors.GOLDEN / "aido_cell" / "case_a"
    weights = vectors.aido_cell_weights(case, folder / "aido_cell")
    split = vectors.split_of(case, folder / "aido_cell.h5ad", rows=slice(2))  # a cell takes a second on a CPU
    return Golden("aido_cell", split.name, weights.name, {}, _expected(case / "embedding_czb.npy"))


def _geneformer(folder: Path, vectors) -> Golden:
    case = vectors.GOLDEN / "geneformer" / "case_a"
    split = vectors.geneformer_split(case, folder / "geneformer.h5ad")
    return Golden("geneformer", split.name, _in_repository(case), {}, _expected(case / "embedding_cell.npy"))


def _transcriptformer(folder: Path, vectors) -> Golden:
    case = vectors.GOLDEN / "transcriptformer" / "case_a"
    split = vectors.transcriptformer_split(case, folder / "transcriptformer.h5ad")
    return Golden(
        "transcriptformer", split.name, _in_repository(case / "checkpoint"), {}, _expected(case / "embedding.npy")
    )


def _scvi(folder: Path, vectors) -> Golden:
    case = vectors.GOLDEN / "scvi" / "case_a"
    split = vectors.split_of(case, folder / "scvi.h5ad")
    return Golden("scvi", split.name, _in_repository(case / "scvi.model"), {}, _expected(case / "embedding_qzm.npy"))


def _scgenept(folder: Path, vectors) -> Golden:
    case, name = vectors.GOLDEN / "scgenept" / "case_a", "scgenept_go_c"
    config = _config(case)
    weights = vectors.scgenept_weights(case, name, folder / "scgenept")
    screen = vectors.scgenept_screen(case, folder / "scgenept.h5ad")
    panel = vectors.scgenept_panel(case, folder / "scgenept_panel.txt")
    options = {"seed": config["seed"], "heads": config["nhead"], "draw": "each", "panel": panel.name}
    expected = _expected(case / f"pred__{name}__{{condition}}__all_ctrl.npy")
    return Golden("scgenept", screen.name, weights.name, options, expected, None, config["perts"])


def fetch_wheels(folder: Path, python: str) -> None:
    """Download the wheels for a release of Python, such as 3.12, at the versions of requirements.lock."""
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    machine = platform.machine()
    tags = [f"manylinux_2_{minor}_{machine}" for minor in reversed(GLIBC)] + [f"manylinux2014_{machine}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--python-version", python, "--implementation", "cp"]
    command += [word for tag in tags for word in ("--platform", tag)]
    names = [name if name in NEWEST else f"{name}=={pins[name]}" for name in WHEELS]
    subprocess.run([*command, "-d", str(folder), *names], check=True)


def real_cells(baron: Path) -> tuple[csr_matrix, list[str]]:
    """Return the counts and symbols of the Baron pancreas; fetch the file if it is not there."""
    import anndata

    if not baron.is_file():
        from cellgauge.fetch import fetch

        fetch(BARON, baron)
    published = anndata.read_h5ad(baron)
    return published.X.tocsr(), published.var_names.tolist()


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--folder", type=Path, default=ROOT / ".gpu-check")
    cli.add_argument("--baron", type=Path, default=ROOT / ".cache" / "test-data" / "raw-Baron_human.h5ad")
    cli.add_argument("--python", default=".".join(platform.python_version_tuple()[:2]), help="of the GPU machine")
    args = cli.parse_args()
    shutil.rmtree(args.folder, ignore_errors=True)
    write_cells(args.folder / "cells", *real_cells(args.baron))
    write_golden(args.folder / "golden")
    fetch_wheels(args.folder / "wheels", args.python)
    total = size_mb(args.folder)
    if total > LIMIT_MB:
        sys.exit(f"error: {args.folder} holds {total:.0f} MB, more than {LIMIT_MB}")
    print(f"{args.folder}: {total:.0f} MB for Python {args.python}; next: python bench/gpu_check.py")


if __name__ == "__main__":
    main()

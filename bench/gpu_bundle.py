"""Prepare what `bench/gpu_check.py` takes to a GPU machine without network: cells and wheels, below 60 MB.

    python bench/gpu_bundle.py [--folder .gpu-check] [--baron H5AD] [--python 3.12]

Checkpoints are not among it: the check makes them there, at random, in the published sizes. Golden vectors are those of the
repository. The folder holds

    cells/{plain,deep,shallow}.h5ad   splits of human pancreas cells (Baron et al. 2016); the check repeats them to any number
    wheels/*.whl                      packages that a machine with PyTorch may lack, for that Python; unpacked where missing
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
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


def write_cells(folder: Path, counts: csr_matrix, symbols: list[str], sizes: Mapping[str, int] = CELLS) -> None:
    """Write a split of each kind of cells."""
    import real_size

    makers = {"plain": real_size.some_cells, "deep": real_size.deep_cells, "shallow": real_size.shallow_cells}
    folder.mkdir(parents=True)
    for name, n_cells in sizes.items():
        cells = makers[name](counts, n_cells, np.random.default_rng(real_size.SEED))
        real_size.write_split_of(folder / f"{name}.h5ad", cells, symbols)


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


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--folder", type=Path, default=ROOT / ".gpu-check")
    cli.add_argument("--baron", type=Path, default=ROOT / ".cache" / "test-data" / "raw-Baron_human.h5ad")
    cli.add_argument("--python", default=".".join(platform.python_version_tuple()[:2]), help="of the GPU machine")
    args = cli.parse_args()
    shutil.rmtree(args.folder, ignore_errors=True)
    write_cells(args.folder / "cells", *real_cells(args.baron))
    fetch_wheels(args.folder / "wheels", args.python)
    total = sum(path.stat().st_size for path in args.folder.rglob("*") if path.is_file()) / 1e6
    if total > LIMIT_MB:
        sys.exit(f"error: {args.folder} holds {total:.0f} MB, more than {LIMIT_MB}")
    print(f"{args.folder}: {total:.0f} MB for Python {args.python}; next: python bench/gpu_check.py")


if __name__ == "__main__":
    main()

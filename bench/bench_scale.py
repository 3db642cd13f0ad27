"""Score a made-up embedding of many cells, stage by stage: what a split of a million cells costs.

    .venv/bin/python bench/bench_scale.py [--cells 1000000] [--dims 512] [--profiles corrected] [--folder F] [--stages ...]

Each stage is the script that the workflow runs, in a process of its own, on files of the contracts: the search of neighbors
and silhouettes, clustering, and label prediction with each classifier by itself (the workflow runs the three in one job, which
reads the files once). Prints a line as each stage ends, and writes results/bench/scale.tsv. CPU is user + system time of the
process and its children; "peak MB" is the highest resident memory of one process, "job MB" the highest sum over its children,
each shared page counted once, looked at every few seconds. With --folder, cells and results of a former call are taken up.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

# Only the standard library here: the system counts a parent's memory as its child's peak.
ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "workflow" / "scripts"
CLASSIFIERS = ("logistic_regression", "knn", "random_forest")
STAGES = ("make", "neighbors", "clustering", *CLASSIFIERS)
COLUMNS = ("cells", "dims", "profiles", "stage", "cpu_seconds", "wall_seconds", "peak_mb", "job_mb")
LOOK_EVERY = 5  # seconds between two looks at a job's memory

N_LABELS, N_FAMILIES, N_DONORS, RANK = 50, 10, 20, 60
NOISE = 2.5
"""Within a label: logistic regression of 9,000 cells is right about 93 % of 3,000 others, after 95 iterations."""


def make(folder: Path, n_cells: int, n_dims: int, seed: int = 7) -> None:
    """Write a split and its embedding: labels that overlap within families, of unequal sizes, and donors with shifts."""
    import anndata
    import numpy as np
    import pandas as pd
    from scipy.sparse import csr_matrix

    sys.path.insert(0, str(SCRIPTS))
    from cellgauge.files.embedding import write_embedding
    from cellgauge.files.split import Split, write_split

    generator = np.random.default_rng(seed)
    shares = 1 / np.arange(1, N_LABELS + 1) ** 1.5
    labels = generator.choice(N_LABELS, n_cells, p=shares / shares.sum())
    donors = generator.integers(0, N_DONORS, n_cells)
    strength = (1 / np.arange(1, RANK + 1) ** 0.5).astype(np.float32)  # as in real embeddings, few axes matter most
    families = generator.normal(0, 1.5, (N_FAMILIES, RANK))[generator.integers(0, N_FAMILIES, N_LABELS)]
    centers = families + generator.normal(0, 0.9, (N_LABELS, RANK))
    shifts = generator.normal(0, 0.3, (N_DONORS, RANK))
    axes = generator.standard_normal((RANK, n_dims), dtype=np.float32) / np.float32(RANK**0.5)
    matrix = np.empty((n_cells, n_dims), dtype=np.float32)
    for first in range(0, n_cells, 50_000):
        part = slice(first, min(first + 50_000, n_cells))
        latent = (centers[labels[part]] + shifts[donors[part]]).astype(np.float32)
        latent += NOISE * generator.standard_normal(latent.shape, dtype=np.float32)
        matrix[part] = (latent * strength) @ axes
        matrix[part] += 0.1 * generator.standard_normal((len(latent), n_dims), dtype=np.float32)
    cells = [f"cell{row}" for row in range(n_cells)]
    data = anndata.AnnData(
        X=csr_matrix((n_cells, 1), dtype=np.float32),
        obs=pd.DataFrame(
            {
                "label": pd.Categorical([f"type{code:02d}" for code in labels]),
                "donor": pd.Categorical([f"donor{code:02d}" for code in donors]),
            },
            index=cells,
        ),
        var=pd.DataFrame({"feature_name": ["none"]}, index=["none"]),
        uns={"dataset": "made_up", "split": "whole", "organism": "human"},
    )
    write_split(folder / "split.h5ad", data)
    del data
    uns = {"model": "made_up", "dataset": "made_up", "split": "whole", "shared_space": True}
    write_embedding(folder / "embedding.h5ad", matrix, cells, [Split.open(folder / "split.h5ad")], uns)


def command(
    stage: str, folder: Path, n_cells: int, n_dims: int, profiles: Sequence[str], exact_up_to: int
) -> list[str]:
    """Return what runs a stage."""
    if stage == "make":
        return [
            sys.executable,
            __file__,
            "--make",
            "--cells",
            str(n_cells),
            "--dims",
            str(n_dims),
            "--folder",
            str(folder),
        ]
    task = "clustering" if stage in ("neighbors", "clustering") else "label_prediction"
    options: dict[str, object] = {"profiles": list(profiles)}
    if exact_up_to:
        options["exact_up_to"] = exact_up_to
    if stage in CLASSIFIERS:
        options["classifiers"] = [stage]
    script, output = (
        ("find_neighbors.py", "neighbors.npz") if stage == "neighbors" else ("score_task.py", f"{stage}.tsv")
    )
    given = [sys.executable, str(SCRIPTS / script), task, "--embeddings", str(folder / "embedding.h5ad")]
    given += [
        "--splits",
        str(folder / "split.h5ad"),
        "--options",
        json.dumps(options),
        "--output",
        str(folder / output),
    ]
    return [*given, *(["--neighbors", str(folder / "neighbors.npz")] if stage == "clustering" else [])]


def run(arguments: Sequence[str], threads: int) -> tuple[float, float, float, float]:
    """Run a process; return its CPU and wall seconds, and the peak memory of one process and of all its children, in MB."""
    environment = os.environ | dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)
    )
    began, most = time.perf_counter(), 0.0
    process = subprocess.Popen(arguments, env=environment | {"NUMBA_NUM_THREADS": str(threads)})
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        most = max(most, sum(shares_mb(process.pid)))
        time.sleep(min(LOOK_EVERY, 0.2 + 0.05 * (time.perf_counter() - began)))
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"error: {' '.join(arguments)} ended with {process.returncode}")
    peak = usage.ru_maxrss / 1024
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - began, peak, max(most, peak)


def shares_mb(process: int) -> Iterator[float]:
    """Yield the memory of a process and of its descendants, of each page its share, in MB."""
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        yield sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
    except (OSError, IndexError):  # it has just ended
        return
    for child in children:
        yield from shares_mb(int(child))


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--cells", type=int, default=1_000_000)
    cli.add_argument("--dims", type=int, default=512)
    cli.add_argument("--profiles", nargs="+", default=["corrected"])
    cli.add_argument("--exact-up-to", type=int, default=0, help="0: the tasks' default")
    cli.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    cli.add_argument("--threads", type=int, default=1)
    cli.add_argument("--folder", type=Path, help="default: a temporary one")
    cli.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    args = cli.parse_args()
    if args.make:
        make(args.folder, args.cells, args.dims)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows: list[dict[str, object]] = []
        for stage in args.stages:
            if stage == "make" and (folder / "embedding.h5ad").exists():
                continue
            given = command(stage, folder, args.cells, args.dims, args.profiles, args.exact_up_to)
            cpu, wall, peak, job = run(given, args.threads)
            values = (
                args.cells,
                args.dims,
                "+".join(args.profiles),
                stage,
                f"{cpu:.1f}",
                f"{wall:.1f}",
                f"{peak:.0f}",
                f"{job:.0f}",
            )
            rows.append(dict(zip(COLUMNS, values, strict=True)))
            print("  ".join(map(str, values)), flush=True)
            with (folder / "stages.tsv").open("a", encoding="utf-8") as log:
                log.write("\t".join(map(str, values)) + "\n")
    output = ROOT / "results" / "bench" / "scale.tsv"
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

"""Time the scorers against cz-benchmarks on the same embeddings: whole processes, one thread each, A B A B.

    .venv/bin/python bench/bench_scorers.py [--shapes 2000x512 10000x512 ...] [--repeats 2] [--tasks clustering ...]
    .venv/bin/python bench/bench_scorers.py --large 120000x2048      # our side alone: does each task stay under 8 GB?

A is cz-benchmarks 0.15.1 in the anchor's environment (tests/anchor), at its best: on one thread, which costs it least. B is
score_task.py on files of the contracts, profile reference, which computes the same numbers, with find_neighbors.py before it
where the workflow runs that: CPU is the sum of both, memory the higher peak. CPU is user + system time of whole
processes, so that other work on the machine hardly counts; ratios are medians over the pairs. Prints a table,
writes results/bench/, and fails when a goal is missed. "ours, all" is the job as the workflow runs it: both profiles, all
metrics. Two lines are about counts of 20,000 genes instead of an embedding: "expression" is label prediction on them by
logistic regression and nearest neighbors, "pca_baseline" their principal components (the anchor's function against
embed_cells.py).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Only the standard library here: the system counts a parent's memory as its child's peak.
ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "workflow" / "scripts"
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "helpers"), str(SCRIPTS)]

from cellgauge.tasks.traits import task_traits  # noqa: E402

SINGLE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
UNUSUAL = (  # what no user's run has, and some machines' shells
    "OPENBLAS_CORETYPE",  # would tie OpenBLAS to another processor's, slower code
    "OPENBLAS_L2_SIZE",
    "PYTHONDONTWRITEBYTECODE",  # would compile our modules anew in every process, but not those of packages
)
SPECIES = ("human", "mouse", "rhesus_macaque")
APPROXIMATE_FROM = 8192  # cells from which the anchor's clustering searches neighbors approximately
MEMORY_LIMIT_MB = 8000
N_GENES = 20_000

SHAPES = [(2000, 512), (10_000, 512), (30_000, 512), (10_000, 2048)]
CLASSIFIERS = ("logistic_regression", "knn", "random_forest")

NAMES = {  # the anchor's metrics -> ours
    "adjusted_rand_index": "ari",
    "normalized_mutual_info": "nmi",
    "silhouette_score": "silhouette",
    "entropy_per_cell": "entropy_per_cell",
    "batch_silhouette": "batch_silhouette",
    **{f"mean_fold_{name}": name for name in ("accuracy", "f1", "precision", "recall", "auroc")},
    "lr": "logistic_regression",
    "knn": "knn",
    "rf": "random_forest",
    "MEAN(knn,lr,rf)": "mean",
}
TOLERANCES = {
    "ari": 1e-12,
    "nmi": 1e-12,
    "silhouette": 1e-6,
    "entropy_per_cell": 1e-3,
    "batch_silhouette": 1e-6,
    "knn": 1e-12,
    "random_forest": 1e-12,
    "logistic_regression": 1e-3,
    "mean": 1e-3,
}


@dataclass(frozen=True)
class Bench:
    """What is compared: a task of ours with options, the anchor's task that computes the same, and what must be reached.

    Attributes:
        cpu: the anchor's CPU seconds must be at least this many times ours, at the shapes `at` (by default all).
        memory: our peak memory must be at most this share of the anchor's.
        counts: both sides are given counts of genes, not an embedding.
    """

    task: str
    anchor: str
    options: Mapping[str, object]
    cpu: float
    memory: float
    at: tuple[str, ...] = ()
    counts: bool = False


BENCHES = {
    "clustering": Bench("clustering", "clustering", {"metrics": ["ari", "nmi"]}, 20, 1 / 3, ("2000x512", "10000x512")),
    "silhouette": Bench("clustering", "silhouette", {"metrics": ["silhouette"]}, 30, 1 / 3, ("2000x512", "10000x512")),
    "cross_species": Bench("cross_species", "cross_species", {}, 30, 1 / 3, ("2000x512", "10000x512")),
    "label_prediction": Bench("label_prediction", "label_prediction", {}, 6, 1 / 3, ("10000x512",)),
    "expression": Bench(
        "label_prediction",
        "without_forest",
        {"classifiers": ["logistic_regression", "knn"]},
        4,
        1 / 3,
        ("10000x20000",),
        counts=True,
    ),
    "pca_baseline": Bench("embed", "pca_baseline", {}, 3, 1 / 3, ("2000x20000", "10000x20000"), counts=True),
}


@dataclass(frozen=True)
class Cost:
    cpu: float
    memory_mb: float


@dataclass
class Line:
    """One line of the table."""

    name: str
    n_cells: int
    n_dims: int
    anchor: list[Cost] = field(default_factory=list)
    ours: list[Cost] = field(default_factory=list)
    differences: dict[str, float] = field(default_factory=dict)
    goal: Bench | None = None
    note: str = ""

    def ratio(self, attribute: str) -> float:
        pairs = zip(self.anchor, self.ours, strict=True)
        return statistics.median(getattr(a, attribute) / getattr(b, attribute) for a, b in pairs)

    @property
    def misses(self) -> list[str]:
        """What of the goal was not reached."""
        if self.goal is None:
            peak = max(cost.memory_mb for cost in self.ours)
            return (
                [f"{peak:.0f} MB, limit {MEMORY_LIMIT_MB}"] if self.note == "large" and peak > MEMORY_LIMIT_MB else []
            )
        found = []
        if not self.goal.at or f"{self.n_cells}x{self.n_dims}" in self.goal.at:
            if self.ratio("cpu") < self.goal.cpu:
                found.append(f"CPU x{self.ratio('cpu'):.2f}, goal x{self.goal.cpu:g}")
            if 1 / self.ratio("memory_mb") > self.goal.memory:
                found.append(f"memory {1 / self.ratio('memory_mb'):.3f}, goal {self.goal.memory:.3f}")
        return found + [
            f"{name} differs by {value:.1e}" for name, value in self.differences.items() if self._wrong(name)
        ]

    def _wrong(self, name: str) -> bool:
        if self.goal and self.goal.anchor == "clustering" and self.n_cells >= APPROXIMATE_FROM:
            return False  # the anchor's graph is approximate: within the spread of Leiden's seeds at best
        return not self.differences[name] <= TOLERANCES[name.rpartition("/")[2]]

    def cells(self) -> dict[str, str]:
        """Return the line as text."""

        def middle(costs: Sequence[Cost], attribute: str, digits: int) -> str:
            return f"{statistics.median(getattr(c, attribute) for c in costs):.{digits}f}" if costs else ""

        paired = bool(self.anchor)
        worst: dict[str, float] = {}
        for name, value in self.differences.items():
            group = name.rpartition("/")[2]
            worst[group] = max(worst.get(group, 0.0), value)
        return {
            "task": self.name,
            "cells": str(self.n_cells),
            "dims": str(self.n_dims),
            "anchor CPU s": middle(self.anchor, "cpu", 2),
            "our CPU s": middle(self.ours, "cpu", 2),
            "CPU ratio": f"{self.ratio('cpu'):.1f}" if paired else "",
            "anchor MB": middle(self.anchor, "memory_mb", 0),
            "our MB": middle(self.ours, "memory_mb", 0),
            "memory share": f"{1 / self.ratio('memory_mb'):.3f}" if paired else "",
            "largest difference": ", ".join(f"{name} {value:.1e}" for name, value in worst.items()),
            "goal": ("MISSED: " + "; ".join(self.misses)) if self.misses else "met" if self.goal or self.note else "",
        }


def run(*commands: Sequence[str]) -> Cost:
    """Run processes one after the other; return the sum of their CPU seconds and the highest peak of memory."""
    costs = [_run(command) for command in commands]
    return Cost(sum(cost.cpu for cost in costs), max(cost.memory_mb for cost in costs))


def _run(command: Sequence[str]) -> Cost:
    environment = {key: value for key, value in os.environ.items() if key not in UNUSUAL}
    environment |= dict.fromkeys(SINGLE_THREAD, "1") | {"JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            sys.exit(f"error: {' '.join(command)} failed:\n{log.read().decode(errors='replace')[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def our_commands(
    bench: Bench, folder: Path, output: Path, profiles: Sequence[str], **options: object
) -> list[list[str]]:
    """Return the commands that the workflow runs: the search of neighbors where they are kept, and the score."""
    if bench.task == "embed":
        embed = [sys.executable, str(SCRIPTS / "embed_cells.py"), "linear"]
        return [[*embed, "--split", str(folder / "split_counts.h5ad"), "--output", str(output.with_suffix(".h5ad"))]]
    given = {"profiles": list(profiles), **options}
    if not keeps_neighbors(bench, options):
        return [_command("score_task.py", bench, folder, given, output)]
    kept = output.with_suffix(".npz")
    of_search = {name: value for name, value in given.items() if name in task_traits(bench.task).searched}
    return [
        _command("find_neighbors.py", bench, folder, of_search, kept),
        [*_command("score_task.py", bench, folder, given, output), "--neighbors", str(kept)],
    ]


def keeps_neighbors(bench: Bench, options: Mapping[str, object]) -> bool:
    """Return whether the workflow keeps the neighbors of a task with these options."""
    about = task_traits(bench.task)
    return not bench.counts and about.keeps_neighbors({**about.params, **options})


def _command(script: str, bench: Bench, folder: Path, options: Mapping[str, object], output: Path) -> list[str]:
    splits = SPECIES if bench.task == "cross_species" else ("counts",) if bench.counts else ("whole",)
    return [
        sys.executable,
        str(SCRIPTS / script),
        bench.task,
        "--embeddings",
        *(str(folder / f"embedding_{name}.h5ad") for name in splits),
        "--splits",
        *(str(folder / f"split_{name}.h5ad") for name in splits),
        "--options",
        json.dumps(options),
        "--output",
        str(output),
    ]


def anchor_command(python: Path, bench: Bench, folder: Path, output: Path) -> list[str]:
    matrix = "counts" if bench.counts else "matrix"
    arrays = [f"--{option}={folder / name}.npy" for option, name in (("matrix", matrix), ("labels", "label"))]
    species = [f"--species={folder / 'species'}.npy"] if bench.anchor == "cross_species" else []
    runner = str(ROOT / "tests" / "anchor" / "run_anchor.py")
    return [str(python), runner, bench.anchor, *arrays, *species, f"--output={output}"]


def anchor_metrics(path: Path) -> dict[str, float]:
    metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    return {"/".join(NAMES[part] for part in name.split("/")): value for name, value in metrics.items()}


def our_metrics(path: Path) -> dict[str, float]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["status"] == "ok" and not row["fold"]]
    return {"/".join(filter(None, (row["metric"], row["classifier"]))): float(row["value"]) for row in rows}


def compare(name: str, python: Path, folder: Path, n_cells: int, n_dims: int, repeats: int) -> Line:
    """Run both sides in turn and set their metrics against each other."""
    bench = BENCHES[name]
    line = Line(name, n_cells, N_GENES if bench.counts else n_dims, goal=bench)
    theirs, ours = folder / "anchor.json", folder / "ours.tsv"
    for _ in range(repeats):
        line.anchor.append(run(anchor_command(python, bench, folder, theirs)))
        line.ours.append(run(*our_commands(bench, folder, ours, ["reference"], **bench.options)))
    if bench.task == "embed":
        return line  # components have a sign of their own, what they score is compared by the tests
    found = our_metrics(ours)
    line.differences = {key: abs(value - found[key]) for key, value in anchor_metrics(theirs).items()}
    return line


def alone(name: str, folder: Path, n_cells: int, n_dims: int, note: str, **options: object) -> Line:
    """Run our side alone, as the workflow does: both profiles, all metrics."""
    bench = BENCHES[name]
    line = Line(f"{name} (ours, all)", n_cells, n_dims, note=note)
    line.ours.append(run(*our_commands(bench, folder, folder / "all.tsv", ["reference", "corrected"], **options)))
    return line


def show(rows: Sequence[Mapping[str, str]]) -> None:
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    for row in ({key: key for key in widths}, *rows):
        print("  ".join(f"{row[key]:<{width}}" for key, width in widths.items()).rstrip())


def write(lines: Sequence[Line], folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [line.cells() for line in lines]
    with (folder / f"{name}.tsv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def make_cells(folder: Path, *shape: int) -> None:
    run([sys.executable, str(ROOT / "bench" / "synthetic.py"), str(folder), *map(str, shape)])


def paired(args: argparse.Namespace, scratch: Path) -> list[Line]:
    from anchor.environment import AnchorUnavailable, anchor_python

    try:
        python = anchor_python()
    except AnchorUnavailable as reason:
        sys.exit(f"error: nothing to compare with: {reason}")
    lines: list[Line] = []
    for n_cells, n_dims in args.shapes:
        folder = scratch / f"{n_cells}x{n_dims}"
        of_genes = f"{n_cells}x{N_GENES}" if n_dims == SHAPES[0][1] else ""  # once, not again for other embeddings
        tasks = [name for name in args.tasks if not BENCHES[name].counts or of_genes in BENCHES[name].at]
        make_cells(folder, n_cells, n_dims, *([N_GENES] if any(BENCHES[name].counts for name in tasks) else []))
        if not lines:  # once without timing: byte code and file caches are then warm on both sides
            run(anchor_command(python, BENCHES["silhouette"], folder, folder / "warm.json"))
            run(*our_commands(BENCHES["silhouette"], folder, folder / "warm.tsv", ["reference"]))
            run(*our_commands(BENCHES["label_prediction"], folder, folder / "warm.tsv", ["reference"]))  # compiles
        for name in tasks:
            print(f"{name}, {n_cells} cells x {n_dims} ...", file=sys.stderr, flush=True)
            lines.append(compare(name, python, folder, n_cells, n_dims, args.repeats))
        for name in ("clustering", "cross_species", "label_prediction"):
            if name in tasks:
                lines.append(alone(name, folder, n_cells, n_dims, note=""))
    return lines


def large(args: argparse.Namespace, scratch: Path) -> list[Line]:
    n_cells, n_dims = args.large
    folder = scratch / "large"
    make_cells(folder, n_cells, n_dims)
    lines = []
    for name in dict.fromkeys(BENCHES[name].task for name in args.tasks if not BENCHES[name].counts):
        parts = [{"classifiers": [one]} for one in CLASSIFIERS] if name == "label_prediction" else [{}]
        for options in parts:
            print(f"{name}, {n_cells} cells x {n_dims} {options or ''} ...", file=sys.stderr, flush=True)
            lines.append(alone(name, folder, n_cells, n_dims, "large", **options))
            lines[-1].name += "".join(f" {value[0]}" for value in options.values())
    return lines


def shape(text: str) -> tuple[int, int]:
    """Read CELLSxDIMS."""
    n_cells, _, n_dims = text.partition("x")
    return int(n_cells), int(n_dims)


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--shapes", type=shape, nargs="+", default=SHAPES, metavar="CELLSxDIMS")
    cli.add_argument("--repeats", type=int, default=2)
    cli.add_argument("--tasks", nargs="+", choices=list(BENCHES), default=list(BENCHES))
    cli.add_argument(
        "--large",
        type=shape,
        metavar="CELLSxDIMS",
        help="our side alone, each classifier by itself, with a memory limit",
    )
    args = cli.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        lines = large(args, Path(scratch)) if args.large else paired(args, Path(scratch))
    show([line.cells() for line in lines])
    write(lines, ROOT / "results" / "bench", "large" if args.large else "scorers")
    if any(line.misses for line in lines):
        sys.exit("error: a goal was missed, see the column `goal`")


if __name__ == "__main__":
    main()

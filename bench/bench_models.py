"""Time the foundation models against the official paths: the same real cells, the same weights of full size, one thread.

    .venv/bin/python bench/bench_models.py [--models scgpt uce ...] [--cells 28] [--device cpu] [--skip-precisions]
    .venv/bin/python bench/bench_models.py --host [--processes 0 1 2] [--repeats 3]  # with a network that returns at once

Official is bench/official, what the published codes do; ours is embed_cells.py. Both are whole processes, on as many cells
and on a few: the difference is what a cell costs, without imports and the reading of weights. Weights are random, so only
costs and the equality of the embeddings mean something. Cells of models that sample genes get the same sample on both sides
(random_stream official). On the CPU costs are CPU seconds (user + system), so that other work on the machine hardly counts;
on a GPU they are seconds. Then our side again in the precisions that are not fp32. Prints tables, writes
results/bench/models.{csv,md}, and fails when a goal is missed.

--host measures what comes before the network, as it runs for a GPU: cells per CPU second, and per second, which depends on
what else the machine does; beside them what an H100 takes at 40 % of its peak, by arithmetic. It writes host.csv and host.md.
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
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Only the standard library here: the system counts a parent's memory as its child's peak.
from bench_scorers import ROOT, SINGLE_THREAD, Cost, run, show

SCRIPTS = ROOT / "workflow" / "scripts"
BARON = "pypi://came==0.1.13/came/sample_data.zip!raw-Baron_human.h5ad"
TOLERANCE = 1e-5  # of the largest value: sums of float32 in another order
HOST_CELLS = (2048, 10_240)  # of the two runs of --host
GPU_CELLS = 40  # times as many as on the CPU


@dataclass(frozen=True)
class Bench:
    """What is compared, and what must be reached.

    Attributes:
        title: the model, and the cells if they are special.
        cells, few: cells of the two runs.
        our_cells: cells of our longer run, where a cell costs us so little that more are needed to tell.
        h100: cells per second that an H100 takes at 40 % of its bf16 peak (operations of the network, not measured).
        official: options of the official path. Batches are small on the CPU, which costs it nothing but memory.
        ours: options of the adapter.
        cpu: the official cost of a cell must be at least this many times ours.
        memory: our peak memory beyond an idle process must be at most this share of the official one, where that is a goal.
    """

    title: str
    cells: int
    few: int
    official: Mapping[str, object]
    ours: Mapping[str, object]
    cpu: float
    h100: int
    memory: float = float("inf")
    our_cells: int = 0


SAME_SAMPLE = {"random_stream": "official"}
BENCHES = {
    "scgpt": Bench("scGPT whole human", 28, 4, {"batch_size": 32}, SAME_SAMPLE, 2.5, 5000),
    # one by one, because its padding changes what a cell's neighbors in a batch get
    "uce": Bench("UCE, 4 layers", 6, 2, {"batch_size": 1, "min_cells": 0, "min_genes": 0}, SAME_SAMPLE, 1.3, 1400),
    "aido_cell": Bench("AIDO.Cell-3M", 2, 1, {"batch_size": 1}, {}, 1.0, 350, 1 / 3),
    "geneformer": Bench("Geneformer 12L-95M, 4,096 tokens", 4, 2, {"batch_size": 2}, {}, 1.4, 640),
    "transcriptformer": Bench("TF-Sapiens, 600 genes", 2, 1, {"batch_size": 1}, {}, 3.0, 530, our_cells=12),
}


@dataclass(frozen=True)
class Timed:
    """A process: the cells it embedded, its CPU seconds, its seconds, and its peak memory."""

    n_cells: int
    cpu: float
    wall: float
    memory_mb: float


@dataclass
class Line:
    """One line of the table: the costs of both sides, on all cells and on a few."""

    bench: Bench
    measure: str
    idle_mb: float
    official: dict[str, Timed] = field(default_factory=dict)
    ours: dict[str, Timed] = field(default_factory=dict)
    difference: float = float("nan")
    largest_value: float = float("nan")
    between_cells: float = float("nan")

    def per_cell(self, side: str) -> float:
        """Return the seconds that a cell costs, beyond what a process costs anyway."""
        return per_cell(getattr(self, side), self.measure)

    def beyond_idle(self, side: str) -> float:
        """Return the peak memory of the run on all cells beyond that of an idle process, in MiB."""
        return getattr(self, side)["all"].memory_mb - self.idle_mb

    @property
    def ratio(self) -> float:
        return self.per_cell("official") / self.per_cell("ours")

    @property
    def memory_share(self) -> float:
        return self.beyond_idle("ours") / self.beyond_idle("official")

    @property
    def misses(self) -> list[str]:
        """What of the goal was not reached."""
        found = []
        if not self.ratio >= self.bench.cpu:
            found.append(f"x{self.ratio:.2f}, goal x{self.bench.cpu:g}")
        if not self.memory_share <= self.bench.memory:
            found.append(f"memory {self.memory_share:.2f}, goal {self.bench.memory:.2f}")
        if not self.difference <= TOLERANCE * self.largest_value:
            found.append(f"embeddings differ by {self.difference:.1e}, largest value {self.largest_value:.1e}")
        return found

    def cells(self) -> dict[str, str]:
        """Return the line as text."""
        unit = "CPU s" if self.measure == "cpu" else "s"
        longer = {side: getattr(self, side)["all"] for side in ("official", "ours")}
        whole = {side: f"{getattr(run, self.measure):.1f} ({run.n_cells})" for side, run in longer.items()}
        return {
            "model": self.bench.title,
            f"official {unit} per cell": f"{self.per_cell('official'):.2f}",
            f"our {unit} per cell": f"{self.per_cell('ours'):.2f}",
            "ratio": f"{self.ratio:.2f}",
            "goal": f"{self.bench.cpu:g}",
            f"official {unit}, process (cells)": whole["official"],
            f"our {unit}, process (cells)": whole["ours"],
            "official MB beyond idle (total)": f"{self.beyond_idle('official'):.0f} ({longer['official'].memory_mb:.0f})",
            "our MB beyond idle (total)": f"{self.beyond_idle('ours'):.0f} ({longer['ours'].memory_mb:.0f})",
            "memory share": f"{self.memory_share:.2f}",
            "largest difference": f"{self.difference:.1e}",
            "cells differ by": f"{self.between_cells:.1e}",
            "verdict": ("MISSED: " + "; ".join(self.misses)) if self.misses else "met",
        }


def per_cell(runs: Mapping[str, Timed], measure: str) -> float:
    """Return the cost of a cell: what the run on all cells costs beyond that on a few, by how many more they are."""
    few, more = runs["few"], runs["all"]
    return (getattr(more, measure) - getattr(few, measure)) / (more.n_cells - few.n_cells)


def timed(command: Sequence[str], n_cells: int = 0) -> Timed:
    began = time.perf_counter()
    cost: Cost = run(command)
    return Timed(n_cells, cost.cpu, time.perf_counter() - began, cost.memory_mb)


def sizes(family: str, n_cells: int) -> dict[str, tuple[int, int]]:
    """Return the cells of the two runs of the official path and of ours, where `n_cells` are asked for (0: the default)."""
    bench = BENCHES[family]
    few, most = bench.few, max(n_cells, bench.few + 1) if n_cells else bench.cells
    return {"official": (few, most), "ours": (few, max(most, bench.our_cells))}


def official_command(family: str, folder: Path, n_cells: int, device: str) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "bench" / "official"),
        family,
        *("--split", str(folder / f"{n_cells}.h5ad"), "--weights", str(folder / "weights")),
        *("--options", json.dumps({**BENCHES[family].official, "device": device})),
        *("--output", str(folder / "official.npy")),
    ]


def our_command(family: str, folder: Path, n_cells: int, output: str, **options: object) -> list[str]:
    return [
        sys.executable,
        str(SCRIPTS / "embed_cells.py"),
        family,
        *("--split", str(folder / f"{n_cells}.h5ad"), "--weights", str(folder / "weights")),
        *("--options", json.dumps({**BENCHES[family].ours, **options})),
        *("--output", str(folder / f"{output}.h5ad")),
    ]


def our_runs(family: str, folder: Path, n_cells: tuple[int, int], output: str, **options: object) -> dict[str, Timed]:
    return {
        name: timed(our_command(family, folder, n, output, **options), n)
        for name, n in zip(("few", "all"), n_cells, strict=True)
    }


def compared(folder: Path, first: str, second: str) -> dict[str, float]:
    """Return how far two embeddings are apart, and what the second says of itself; in a process of its own, for memory."""
    code = f"import sys; sys.path[:0] = {[str(ROOT / 'bench'), str(SCRIPTS)]!r}; import bench_models as b; b._compare()"
    target = folder / "compared.json"
    run([sys.executable, "-c", code, str(folder / first), str(folder / second), str(target)])
    return json.loads(target.read_text())


def _compare() -> None:
    import numpy as np

    from cellgauge.files.embedding import Embedding

    first, second, target = sys.argv[1:]
    found = Embedding.read(second)
    expected = np.load(first) if first.endswith(".npy") else Embedding.read(first).matrix
    matrix = found.matrix[: len(expected)]
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(matrix, axis=1)
    pairs = np.abs(expected[:1] - expected[1:]).max(axis=1)
    facts = ("cells_per_second", "gpu_seconds", "peak_gpu_memory_mb")
    result = {
        "difference": float(np.abs(expected - matrix).max()),
        "largest_value": float(np.abs(expected).max()),
        "between_cells": float(np.median(pairs)) if len(pairs) else float("nan"),
        "cosine": float(((expected * matrix).sum(axis=1) / norms).min()),
        **{name: float(found.uns[name]) for name in facts},
    }
    Path(target).write_text(json.dumps(result))


def make_inputs(family: str, folder: Path, n_cells: Mapping[str, tuple[int, int]]) -> None:
    baron = ROOT / ".cache" / "test-data" / "raw-Baron_human.h5ad"  # where the tests keep it
    if not baron.is_file():
        run([sys.executable, str(SCRIPTS / "download_object.py"), BARON, str(baron)])
    numbers = [str(n) for n in sorted({*n_cells["official"], *n_cells["ours"]})]
    script = str(ROOT / "bench" / "real_size.py")
    run([sys.executable, script, family, str(folder), "--baron", str(baron), "--cells", *numbers])


def compare(family: str, folder: Path, n_cells: Mapping[str, tuple[int, int]], device: str, idle_mb: float) -> Line:
    """Run both sides, on a few cells and on all, and set the embeddings of all against each other."""
    line = Line(BENCHES[family], "cpu" if device == "cpu" else "wall", idle_mb)
    for name, n in zip(("few", "all"), n_cells["official"], strict=True):
        line.official[name] = timed(official_command(family, folder, n, device), n)
    line.ours = our_runs(family, folder, n_cells["ours"], "fp32", device=device)
    found = compared(folder, "official.npy", "fp32.h5ad")
    line.difference, line.largest_value = found["difference"], found["largest_value"]
    line.between_cells = found["between_cells"]
    return line


def precisions(family: str, folder: Path, n_cells: tuple[int, int], device: str) -> list[dict[str, str]]:
    """Return a row for each precision: what it costs and how far it is from fp32."""
    rows = []
    for precision in ("fp32", "bf16") if device == "cpu" else ("fp32", "tf32", "bf16"):
        # on the CPU cell by cell: the first batch is computed in fp32 too, which is one cell then, in both runs
        options = {"precision": precision, "device": device} | ({"tokens_per_batch": 1} if device == "cpu" else {})
        runs = our_runs(family, folder, n_cells, precision, **options)
        found = compared(folder, "fp32.h5ad", f"{precision}.h5ad")
        on_gpu = {
            "cells per s": f"{found['cells_per_second']:.1f}",
            "GPU s": f"{found['gpu_seconds']:.2f}",
            "peak GPU MB": f"{found['peak_gpu_memory_mb']:.0f}",
        }
        cost = {"CPU s per cell": f"{per_cell(runs, 'cpu'):.2f}"} if device == "cpu" else on_gpu
        rows.append(
            {
                "model": BENCHES[family].title,
                "precision": precision,
                **cost,
                "largest deviation from fp32": f"{found['difference']:.1e}",
                "largest value": f"{found['largest_value']:.1e}",
                "lowest cosine with fp32": f"{found['cosine']:.6f}",
            }
        )
    return rows


def host_rows(family: str, folder: Path, processes: Sequence[int], repeats: int) -> list[dict[str, str]]:
    """Return a row for each number of processes: how many cells the host prepares, beyond what a start costs anyway."""
    make_inputs(family, folder, {"official": HOST_CELLS, "ours": HOST_CELLS})
    rows = []
    for n_processes in processes:
        pairs = [[host_run(family, folder, n, n_processes) for n in HOST_CELLS] for _ in range(repeats)]
        n_cells = HOST_CELLS[1] - HOST_CELLS[0]
        rates = {of: statistics.median(n_cells / (more[of] - few[of]) for few, more in pairs) for of in ("cpu", "wall")}
        largest = pairs[0][1]
        rows.append(
            {
                "model": BENCHES[family].title,
                "prepared by": f"{n_processes} processes" if n_processes else "a thread",
                "cells per CPU s": f"{rates['cpu']:.0f}",
                "cells per s": f"{rates['wall']:.0f}",
                "an H100 at 40 % takes": str(BENCHES[family].h100),
                "CPU cores for 1.5 times that": f"{1.5 * BENCHES[family].h100 / rates['cpu']:.1f}",
                "MB": f"{largest['memory_mb']:.0f}",
                "MB of a process": f"{largest['largest_child_mb']:.0f}" if n_processes else "",
            }
        )
    return rows


def host_run(family: str, folder: Path, n_cells: int, n_processes: int) -> dict[str, float]:
    paths = ["--split", str(folder / f"{n_cells}.h5ad"), "--weights", str(folder / "weights")]
    command = [sys.executable, str(ROOT / "bench" / "host_rate.py"), family, *paths, "--processes", str(n_processes)]
    environment = os.environ | dict.fromkeys(SINGLE_THREAD, "1")
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout)


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write(tables: Mapping[str, Sequence[Mapping[str, str]]], folder: Path, page: str = "models.md") -> None:
    """Write a page of the tables, and a csv of each: models.csv, and models_precisions.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {name: rows for name, rows in tables.items() if rows}
    (folder / page).write_text("\n".join(markdown(rows) for rows in tables.values()), encoding="utf-8")
    for name, rows in tables.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def measure_host(families: Sequence[str], processes: Sequence[int], repeats: int, output: Path) -> None:
    rows = []
    for family in families:
        with tempfile.TemporaryDirectory() as scratch:
            rows += host_rows(family, Path(scratch) / family, processes, repeats)
        show(rows[-len(processes) :])
    write({"host": rows}, output, "host.md")


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--models", nargs="+", choices=list(BENCHES), default=list(BENCHES))
    cli.add_argument("--cells", type=int, help="of each model (default: few on the CPU, as much slower models allow)")
    cli.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    cli.add_argument("--skip-precisions", action="store_true", help="measure fp32 alone")
    cli.add_argument("--output", type=Path, default=ROOT / "results" / "bench")
    cli.add_argument("--host", action="store_true", help="measure what comes before the network alone")
    cli.add_argument("--processes", type=int, nargs="+", default=[0, 1, 2], help="of --host, 0 is a thread")
    cli.add_argument("--repeats", type=int, default=3, help="of --host: pairs of runs, of which the median is taken")
    args = cli.parse_args()
    if args.host:
        measure_host(args.models, args.processes, args.repeats, args.output)
        return
    idle_mb = timed([sys.executable, "-c", "import anndata, torch"]).memory_mb
    lines, rows = [], []
    for family in args.models:
        bench = BENCHES[family]
        n_cells = sizes(family, args.cells or (0 if args.device == "cpu" else bench.cells * GPU_CELLS))
        with tempfile.TemporaryDirectory() as scratch:  # a checkpoint may have gigabytes
            print(f"{bench.title}, {n_cells['official'][1]} cells ...", file=sys.stderr, flush=True)
            folder = Path(scratch) / family
            make_inputs(family, folder, n_cells)
            lines.append(compare(family, folder, n_cells, args.device, idle_mb))
            show([lines[-1].cells()])
            rows += [] if args.skip_precisions else precisions(family, folder, n_cells["ours"], args.device)
    tables = {"models": [line.cells() for line in lines], "models_precisions": rows}
    print()
    for table in filter(None, tables.values()):
        show(table)
    write(tables, args.output)
    if any(line.misses for line in lines):
        sys.exit("error: a goal was missed, see the column `verdict`")


if __name__ == "__main__":
    main()

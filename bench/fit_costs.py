"""Measure scoring jobs of many sizes and fit what they cost: writes config/costs.yaml, which `make estimate` reads.

    .venv/bin/python bench/fit_costs.py [--shapes 1000x50 8000x512 ...] [--counts 1000x5000 ...]

Jobs are run as the workflow does: whole processes, one thread, both profiles, the catalogue's params.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_scorers import BENCHES, ROOT, make_cells, run, score_command, shape

sys.path.insert(0, str(ROOT / "workflow" / "scripts"))

from cellgauge.costs import ON_COUNTS, Cost, Measured, fit, predict

SHAPES = ["1000x50", "4000x50", "2000x512", "8000x512", "16000x128", "4000x2048", "24000x50"]
COUNTS = ["500x5000", "1000x20000", "2000x5000", "2500x20000"]
TASKS = ("clustering", "cross_species", "label_prediction")


def measure(task: str, shapes: list[tuple[int, int]], scratch: Path, counts: bool = False) -> list[Measured]:
    """Return what jobs of a task cost; of counts the second number of a shape is genes."""
    found = []
    for n_cells, n_dims in shapes:
        folder = scratch / f"{'counts' if counts else 'cells'}{n_cells}x{n_dims}"
        if not folder.exists():
            make_cells(folder, n_cells, *((2, n_dims) if counts else (n_dims,)))
        bench = BENCHES["expression" if counts else task]
        cost = run(score_command(bench, folder, folder / "scores.tsv", ["reference", "corrected"]))
        found.append(Measured(n_cells, n_dims, Cost(cost.cpu, cost.memory_mb)))
        print(
            f"{task} {n_cells} x {n_dims}: {cost.cpu:.2f} CPU s, {cost.memory_mb:.0f} MB", file=sys.stderr, flush=True
        )
    return found


def main() -> None:
    import yaml

    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--shapes", type=shape, nargs="+", default=list(map(shape, SHAPES)), metavar="CELLSxDIMS")
    cli.add_argument("--counts", type=shape, nargs="*", default=list(map(shape, COUNTS)), metavar="CELLSxGENES")
    args = cli.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        measured = {task: measure(task, args.shapes, Path(scratch)) for task in TASKS}
        if args.counts:
            measured["label_prediction" + ON_COUNTS] = measure("label_prediction", args.counts, Path(scratch), True)
    weights = {kind: fit(found) for kind, found in measured.items()}
    for kind, found in measured.items():
        errors = [job.cost.cpu_seconds / predict(weights[kind], job.cells, job.dims).cpu_seconds for job in found]
        print(f"{kind}: measured / fitted CPU {min(errors):.2f} to {max(errors):.2f}", file=sys.stderr)
    runs = {
        kind: [[job.cells, job.dims, *(round(c, 2) for c in job.cost)] for job in found]
        for kind, found in measured.items()
    }
    head = "# Fitted by bench/fit_costs.py; cellgauge/costs.py says what the terms are. `measured`: cells, dims, CPU s, MB.\n"
    content = {
        "machine": f"{platform.processor() or platform.machine()}, one thread",
        "score": weights,
        "measured": runs,
    }
    text = head + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120)
    (ROOT / "config" / "costs.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

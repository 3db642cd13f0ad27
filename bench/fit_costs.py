"""Measure jobs of many sizes and fit what they cost: writes config/costs.yaml, which `make estimate` reads.

    .venv/bin/python bench/fit_costs.py                              # everything, some 60 CPU minutes; `make setup-scib` first
    .venv/bin/python bench/fit_costs.py --kinds "score clustering"   # measure this kind anew, keep what is known of the others
    .venv/bin/python bench/fit_costs.py --refit                      # measure nothing, fit again what was measured

Jobs are run as the workflow does: whole processes, one thread, both profiles, the catalogue's params. The cells are
synthetic (bench/synthetic.py, bench/bench_perturbation.py). Each fit is also judged by leaving out one job after the other.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_perturbation import make_command
from bench_scorers import BENCHES, ROOT, SCRIPTS, kept_neighbours, make_cells, our_commands, run

sys.path.insert(0, str(SCRIPTS))

from cellgauge.costs import APPROXIMATELY, ON_COUNTS, TERMS, Cost, Measured, Size, fit, left_out
from cellgauge.errors import CellgaugeError
from cellgauge.interpreter import python_of, require

COSTS = ROOT / "config" / "costs.yaml"
BOTH = {"profiles": ["reference", "corrected"]}

SHAPES = [
    *(Size(2000, 50), Size(2000, 512), Size(2000, 2048), Size(8000, 512), Size(16_000, 128), Size(24_000, 50)),
    *(Size(10_000, 2048), Size(30_000, 512), Size(60_000, 50)),
]
LARGE = [Size(60_000, 512), Size(60_000, 2048)]  # five minutes and more where forests are grown
APPROXIMATE = [Size(20_000, 512), Size(40_000, 50), Size(60_000, 512), Size(60_000, 2048), Size(120_000, 50)]
SUITE = [Size(1000, 50), Size(2000, 512), Size(5000, 50), Size(5000, 2048), Size(10_000, 512), Size(20_000, 50)]
SUITE_GENES = 5000  # of the PCA that scIB compares batches with
COUNTS = [Size(1000, 20_000), Size(2000, 5000), Size(2500, 20_000), Size(10_000, 5000), Size(10_000, 20_000)]
CELLS = [Size(2000, 20_000), Size(10_000, 5000), Size(10_000, 20_000), Size(20_000, 5000)]
SCREENS = [Size(10_000, 5000, 283), Size(30_000, 2000, 283), Size(30_000, 5000, 60), Size(60_000, 5000, 283)]

GROWTH = ("job", "cells", "values")
OF_SCREENS = ("job", "values", "responses", "response_pairs")
OF_NEIGHBOURS = (*GROWTH, "pairs", "pair_values")
OF_CLASSIFIERS = (*OF_NEIGHBOURS, "forest")

# of a folder with inputs: the commands of a job, and the file that it writes
Commands = Callable[[Path], tuple[Sequence[Sequence[str]], Path]]


@dataclass(frozen=True)
class Kind:
    """A kind of job: the sizes that it is measured in, how its work may grow, its commands, and what it reads.

    Attributes:
        inputs: embedding, expressed (with counts), counts or screen, see `make_inputs`.
        after: kinds of jobs whose files it reads too.
    """

    sizes: Sequence[Size]
    terms: Sequence[str]
    commands: Commands
    inputs: str
    after: Sequence[str] = ()


def scored(name: str, **options: object) -> Commands:
    def commands(folder: Path) -> tuple[Sequence[Sequence[str]], Path]:
        output = folder / "scores.tsv"
        return our_commands(BENCHES[name], folder, output, **BOTH, **options), output

    return commands


def script(name: str, output: str, *arguments: str, python: str = sys.executable) -> Commands:
    """Return the command of one of our scripts; {} in its arguments is the folder."""

    def commands(folder: Path) -> tuple[Sequence[Sequence[str]], Path]:
        said = [argument.replace("{}", str(folder)) for argument in arguments]
        return [[python, str(SCRIPTS / name), *said, "--output", str(folder / output)]], folder / output

    return commands


def split_again(name: str, **more: str) -> Commands:
    known = {"label": "label", "symbol": "feature_name", "organism": "human", "dataset": "synthetic", "split": "one"}

    def commands(folder: Path) -> tuple[Sequence[Sequence[str]], Path]:
        output = folder / "again.h5ad"
        files = [str(folder / name), str(output)]
        return [
            [sys.executable, str(SCRIPTS / "split_dataset.py"), *files, "--options", json.dumps(known | more)]
        ], output

    return commands


def embedded(adapter: str) -> Commands:
    return script("embed_cells.py", f"{adapter}.h5ad", adapter, "--split", "{}/split_counts.h5ad")


def predicted(adapter: str) -> Commands:
    return script("predict_responses.py", f"{adapter}.h5ad", adapter, "--split", "{}/split.h5ad")


SCREEN = {"modality": "perturbation", "expression": "layers/expression"}
TRUTH = script("measure_truth.py", "truth.h5ad", "{}/split.h5ad")
RESPONSES = script(
    "score_task.py", "scores.tsv", "perturbation", "--predictions", "{}/additive.h5ad", "--truth", "{}/truth.h5ad",
    "--options", json.dumps(BOTH),
)  # fmt: skip
SUITE_OF_CELLS = script(
    "score_task.py", "scores.tsv", "scib", "--embeddings", "{}/embedding_expressed.h5ad", "--splits",
    "{}/split_expressed.h5ad", "--options", json.dumps({"profiles": ["corrected"]}), python=str(ROOT / python_of("scib")),
)  # fmt: skip
EMBEDDERS = ("linear", "hvg", "random", "shuffled", "oracle")
PREDICTORS = ("no_change", "training_mean", "matching_mean", "additive", "linear_responses", "ceiling")
KINDS: Mapping[str, Kind] = {
    "score clustering": Kind([*SHAPES, *LARGE], OF_NEIGHBOURS, scored("clustering"), "embedding"),
    "score cross_species": Kind([*SHAPES, *LARGE], OF_NEIGHBOURS, scored("cross_species"), "embedding"),
    **{
        f"score {task}{APPROXIMATELY}": Kind(
            APPROXIMATE, OF_NEIGHBOURS, scored(task, search="approximate", approximate_above=0, **options), "embedding"
        )
        for task, options in (("clustering", {"metrics": ["ari", "nmi"]}), ("cross_species", {}))
    },
    "score scib": Kind(SUITE, OF_NEIGHBOURS, SUITE_OF_CELLS, "expressed"),
    "score label_prediction": Kind(SHAPES, OF_CLASSIFIERS, scored("label_prediction"), "embedding"),
    f"score label_prediction{ON_COUNTS}": Kind(COUNTS, OF_CLASSIFIERS, scored("expression"), "counts"),
    "split expression": Kind(CELLS, GROWTH, split_again("split_counts.h5ad"), "counts"),
    **{f"embed {name}": Kind(CELLS, GROWTH, embedded(name), "counts") for name in EMBEDDERS},
    "split perturbation": Kind(SCREENS, GROWTH, split_again("split.h5ad", **SCREEN), "screen"),
    "truth perturbation": Kind(SCREENS, OF_SCREENS, TRUTH, "screen"),
    **{f"predict {name}": Kind(SCREENS, OF_SCREENS, predicted(name), "screen") for name in PREDICTORS},
    "score perturbation": Kind(SCREENS, OF_SCREENS, RESPONSES, "screen", ("truth perturbation", "predict additive")),
}


def make_inputs(inputs: str, size: Size, folder: Path) -> Size:
    """Write what jobs of a size read; return the size with the number of conditions that are held out."""
    if inputs == "screen":
        folder.mkdir()
        said = subprocess.run(
            make_command(folder / "split.h5ad", *size[:3]), check=True, capture_output=True, text=True
        ).stdout
        return size._replace(conditions=int(said.split()[-3]))
    shape = {"embedding": (size.columns,), "expressed": (size.columns, SUITE_GENES), "counts": (2, size.columns)}
    make_cells(folder, size.cells, *shape[inputs])
    return size


def measure(kinds: Sequence[str], scratch: Path) -> dict[str, list[Measured]]:
    """Return what jobs of some kinds cost; inputs are made once for all kinds of a size."""
    found: dict[str, list[Measured]] = {kind: [] for kind in kinds}
    wanted = dict.fromkeys((KINDS[kind].inputs, size) for kind in kinds for size in KINDS[kind].sizes)
    for inputs, asked in wanted:
        folder = scratch / "inputs"
        size = make_inputs(inputs, asked, folder)
        for kind in kinds:
            if KINDS[kind].inputs != inputs or asked not in KINDS[kind].sizes:
                continue
            for other in KINDS[kind].after:
                if other not in kinds:
                    run(*KINDS[other].commands(folder)[0])
            commands, output = KINDS[kind].commands(folder)
            if not found[kind]:
                run(*commands)  # once without timing: what numba compiles is then on the disk
            cost = run(*commands)
            written = sum(path.stat().st_size for path in (output, kept_neighbours(output)) if path.is_file())
            found[kind].append(Measured(size, Cost(cost.cpu, cost.memory_mb, written / 2**20)))
            kept_neighbours(output).unlink(missing_ok=True)
            said = f"{kind} {' x '.join(str(n) for n in size if n)}: {cost.cpu:.2f} CPU s, {cost.memory_mb:.0f} MB"
            print(said, file=sys.stderr, flush=True)
        shutil.rmtree(folder)
    return found


def as_row(job: Measured) -> list[float | None]:
    return [*job.size[:3], *(None if math.isnan(cost) else round(cost, 3) for cost in job.cost)]


def from_row(row: Sequence[float | None]) -> Measured:
    cells, columns, conditions, *costs = row
    return Measured(Size(cells, columns, conditions), Cost(*(math.nan if cost is None else cost for cost in costs)))


def fitted(kind: str, measured: Sequence[Measured]) -> dict[str, object]:
    """Return the entry of a kind: its weights, the largest size measured, and how far jobs are from a fit to the others."""
    terms = KINDS[kind].terms if kind in KINDS else tuple(TERMS)
    apart = left_out(measured, terms)
    said = "; ".join(f"{quantity} {low:.2f} to {high:.2f}" for quantity, (low, high) in apart.items())
    print(f"{kind}: measured / predicted by a fit to the other {len(measured) - 1} jobs: {said}", file=sys.stderr)
    return {
        **fit(measured, terms),
        "up_to": [max(sizes) for sizes in zip(*(job.size[:3] for job in measured), strict=True)],
        "left_out": {quantity: [round(end, 2) for end in ends] for quantity, ends in apart.items()},
    }


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="KIND")
    cli.add_argument("--refit", action="store_true", help="measure nothing")
    args = cli.parse_args()
    if "score scib" in args.kinds and not args.refit:
        try:
            require("scib", "the job 'score scib'")
        except CellgaugeError as reason:
            sys.exit(f"error: {reason}; --kinds chooses other jobs")
    with tempfile.TemporaryDirectory() as scratch:
        measured = {} if args.refit else measure(args.kinds, Path(scratch))

    import yaml  # not before: the system counts a parent's memory as its child's peak

    known = yaml.safe_load(COSTS.read_text(encoding="utf-8"))["measured"]
    runs = {**known, **{kind: [as_row(job) for job in found] for kind, found in measured.items()}}
    entries: dict[str, dict[str, object]] = {}
    for name, rows in runs.items():
        rule, _, kind = name.partition(" ")
        entries.setdefault(rule, {})[kind] = fitted(name, [from_row(row) for row in rows])
    head = (
        "# Written by bench/fit_costs.py; cellgauge/costs.py says what the terms are. `left_out`: the lowest and highest of"
        "\n# measured / predicted, each job predicted by a fit to the others. `measured`: cells, dims or genes, test"
        "\n# conditions, CPU s, MB of memory, MB written.\n"
    )
    machine = f"{platform.processor() or platform.machine()}, one thread"
    content = {"machine": machine, "fitted": entries, "measured": runs}
    COSTS.write_text(head + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120), "utf-8")


if __name__ == "__main__":
    main()

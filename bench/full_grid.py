"""Run the whole benchmark on made-up cells and checkpoints, without the network: every row of the plan, or its reason.

make full-grid                        # config/full.yaml as it is, with the licence that it asks for accepted
python bench/full_grid.py --configfile config/full.yaml mine.yaml --folder /tmp/grid
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))
sys.path.insert(0, str(ROOT / "workflow" / "scripts"))

import completeness
import served_catalogue

from cellgauge.plan import config as settings
from cellgauge.plan.grid import Grid
from cellgauge.plan.inputs import Inputs

PACKAGES = ROOT / ".cache" / "test-data" / "packages"


def main() -> None:
    """Read the command line, run, and say what is missing and what it cost."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument(
        "--configfile", nargs="+", type=Path, default=[ROOT / "config/full.yaml", ROOT / "bench/full_grid.yaml"]
    )
    cli.add_argument("--folder", type=Path, help="where to run; kept (default: a temporary folder)")
    cli.add_argument("--cores", type=int, default=2)
    args = cli.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        faults = run(args.configfile, args.folder or Path(temporary), args.cores)
    sys.exit("\n".join(faults) or None)


def run(configfiles: list[Path], folder: Path, cores: int) -> list[str]:
    """Run Snakemake in `folder`; return what is missing or unexplained, a sentence each."""
    inputs = Inputs(Grid(settings.read(configfiles)))
    served_in = folder / "served"
    served_in.mkdir(parents=True)
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder / "run"]
    command += ["--cores", str(cores), "--max-threads", "1"]  # on a hundred cells a job of two threads wastes one
    command += ["--keep-going", "--show-failed-logs", "--quiet", "rules", "reason", "host"]
    command += ["--configfile", *(file.resolve() for file in configfiles)]
    began = time.monotonic()
    with served_catalogue.serve(inputs, served_in, PACKAGES) as served:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, env={**os.environ, **served.environment}, check=False)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    print(f"{seconds / 60:.1f} CPU minutes in {(time.monotonic() - began) / 60:.1f} minutes")
    print_costs(folder / "run" / "benchmarks", seconds)
    faults = [f"asked for {host}, which is not served" for host in served.refused]
    if done.returncode:
        faults.append(f"Snakemake ended with {done.returncode}")
    return [*faults, *completeness.faults(inputs, folder / "run")]


def print_costs(benchmarks: Path, total: float) -> None:
    """Print the jobs and CPU seconds of each rule that keeps benchmarks, and what is left of the total."""
    for rule in sorted(path for path in benchmarks.iterdir() if path.is_dir()):
        seconds = []
        for path in rule.rglob("*.tsv"):
            header, values, *_ = (line.split("\t") for line in path.read_text().splitlines())
            seconds.append(float(values[header.index("cpu_time")]))
        total -= sum(seconds)
        print(f"{rule.name:10} {len(seconds):5} jobs {sum(seconds):7.0f} CPU s")
    print(f"{'the rest':10} {total:26.0f} CPU s: downloads, pictures, tables, report and Snakemake")


if __name__ == "__main__":
    main()

"""Say what a run will cost before it runs, and afterwards how far that was from what it did cost."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from cellgauge import config as settings
from cellgauge.costs import read_costs
from cellgauge.errors import run_cli
from cellgauge.estimates import Sizes, StandIns, comparison, downloads, jobs, over_limits, summary
from cellgauge.fetch.ledger import SHIPPED, read
from cellgauge.grid import Grid

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("--configfile", nargs="*", default=[], metavar="YAML", help="as given to snakemake")
    cli.add_argument("--directory", type=Path, default=Path(), metavar="DIR", help="where results and benchmarks lie")
    cli.add_argument("--cells", type=int, default=40_000, help="of a split that has not been made yet; 0: not known")
    cli.add_argument("--genes", type=int, default=20_000, help="of a split that has not been made yet")
    cli.add_argument(
        "--conditions", type=int, default=100, help="test conditions of a screen that has not been made yet"
    )
    cli.add_argument("--dims", type=int, default=1024, help="of an embedding of which nothing says how many it has")
    cli.add_argument(
        "--mem-mb", type=float, default=machine_mb(), help="warn of jobs over it (default: this machine's)"
    )
    cli.add_argument(
        "--minutes", type=float, default=math.inf, help="warn of scoring jobs that take longer on one core"
    )
    args = cli.parse_args()
    grid, costs = Grid(settings.read(args.configfile)), read_costs(ROOT / "config")
    stand_ins = StandIns(args.cells, args.genes, args.conditions, args.dims)
    sizes = Sizes(grid, args.directory, stand_ins, costs["sizes"])
    found = list(jobs(grid, costs, sizes, args.directory))
    known = read(args.directory / "resources" / "checksums.yaml") | read(SHIPPED)
    for lines in (
        summary(found, sizes, stand_ins),
        downloads(grid, known, costs),
        over_limits(found, args.mem_mb, args.minutes),
        comparison(found),
    ):
        for line in lines:
            print(line)


def machine_mb() -> float:
    """Return the memory of this machine, in MB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20


if __name__ == "__main__":
    run_cli(main)

"""Say what a run would do before it runs, and what that costs: jobs, reasons, CPU and GPU hours, memory and downloads."""

import argparse
import sys
from pathlib import Path

from cellgauge.core.errors import CellgaugeError, run_cli
from cellgauge.fetch.ledger import SHIPPED, read
from cellgauge.plan import config as settings
from cellgauge.plan.cost import CELLS, measured_speeds, read_costs, report
from cellgauge.plan.grid import Grid
from cellgauge.plan.inputs import Inputs
from cellgauge.plan.planned import planned_jobs, table
from cellgauge.plan.sources import ROOT


def main() -> None:
    rest = "All other arguments are Snakemake's, such as targets."
    cli = argparse.ArgumentParser(description=__doc__, epilog=rest, allow_abbrev=False)
    cli.add_argument("--configfile", nargs="+", default=[], metavar="YAML", help="as given to snakemake")
    cli.add_argument(
        "--cells", type=positive, default=CELLS, metavar="N", help="of a split of unknown size (default: %(default)s)"
    )
    args, others = cli.parse_known_args()
    if any(word.partition("=")[0] in ("--config", "-C") for word in others):
        raise CellgaugeError("--config is not supported here; write it into a file and give that to --configfile")
    inputs = Inputs(Grid(settings.read(args.configfile)))
    targets = [word for word in others if word != "--"]
    files = ["--configfile", *args.configfile] if args.configfile else []
    jobs = planned_jobs([*targets, "--snakefile", str(ROOT / "Snakefile"), *files])
    if not jobs:
        sys.exit(print("Nothing to do: every result is up to date."))
    print(*table(jobs, inputs), "", sep="\n")
    ledger = read(Path("resources/checksums.yaml")) | read(SHIPPED)
    sizes = {url: entry.size for url, entry in ledger.items() if entry.size}
    speeds = measured_speeds(Path(inputs.run.outputs.tables, "runtime.csv"))
    print(*report(jobs, inputs, read_costs(), args.cells, sizes, speeds), sep="\n")
    try:
        inputs.check_environments()
    except CellgaugeError as error:
        print(f"Before the run: {error}")


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


if __name__ == "__main__":
    run_cli(main)

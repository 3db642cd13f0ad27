"""Open every file of a run that is on this machine: print what each holds, and one sentence for each fault."""

import argparse
import sys

from cellgauge.core.errors import CellgaugeError, run_cli
from cellgauge.plan import config as settings
from cellgauge.plan.check import FileCheck, missing_files, table
from cellgauge.plan.grid import Grid
from cellgauge.plan.inputs import Inputs


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("--configfile", nargs="*", default=[], metavar="YAML", help="as given to snakemake")
    args = cli.parse_args()
    inputs = Inputs(Grid(settings.read(args.configfile)))
    check = FileCheck(inputs)
    faults = [*missing_files(inputs), *check.faults]
    if check.rows:
        print(table(check.rows))
        print("Only the first and last cells of each split were read.")
    for note in dict.fromkeys(check.notes):
        print(f"note: {note}")
    if not check.rows and not faults:
        print("This run has no local files: it downloads everything.")
    for fault in faults[:-1]:
        print(f"error: {fault}", file=sys.stderr)
    if faults:
        raise CellgaugeError(faults[-1])


if __name__ == "__main__":
    run_cli(main)

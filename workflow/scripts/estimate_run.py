"""Say what a run costs before it runs: CPU hours, GPU hours, memory and downloads."""

from __future__ import annotations

import argparse
from pathlib import Path

from cellgauge.core.errors import run_cli
from cellgauge.fetch.ledger import SHIPPED, read
from cellgauge.plan import config as settings
from cellgauge.plan.cost import measured_speeds, read_costs, report
from cellgauge.plan.grid import Grid
from cellgauge.plan.inputs import Inputs

CONFIG = Path(__file__).resolve().parents[2] / "config"


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("--configfile", nargs="*", default=[], metavar="YAML", help="as given to snakemake")
    cli.add_argument(
        "--cells", type=positive, default=40_000, metavar="N", help="of a split of unknown size (default: %(default)s)"
    )
    args = cli.parse_args()
    ledger = read(Path("resources/checksums.yaml")) | read(SHIPPED)
    sizes = {url: entry.size for url, entry in ledger.items() if entry.size}
    inputs = Inputs(Grid(settings.read(args.configfile)))
    speeds = measured_speeds(Path(inputs.run.outputs.tables, "runtime.csv"))
    print("\n".join(report(inputs, read_costs(CONFIG / "costs.yaml"), args.cells, sizes, speeds)))


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


if __name__ == "__main__":
    run_cli(main)

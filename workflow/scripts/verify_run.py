"""Check a run that somebody hands in: its provenance.json and scores.parquet belong together and are consistent."""

import argparse
import sys

from cellgauge.core.errors import CellgaugeError, run_cli
from cellgauge.results.provenance import headline
from cellgauge.results.verify import verify

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("run", metavar="RUN", help="a folder with provenance.json and scores.parquet")


def main() -> None:
    run, faults = verify(cli.parse_args().run)
    print(headline(run.about))
    for fault in faults[:-1]:
        print(f"error: {fault}", file=sys.stderr)
    if faults:
        raise CellgaugeError(faults[-1])
    print(f"{len(run.scores):,} rows of {run.scores['model'].nunique()} models: no errors.")


if __name__ == "__main__":
    run_cli(main)

"""Make a static site of several runs, to be hosted anywhere: reports, what changed from run to run, how to submit results."""

from __future__ import annotations

import argparse

from cellgauge.core.errors import run_cli
from cellgauge.report.site import build_site


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs, such as runs/first runs/second")
    cli.add_argument("--output", default="site", metavar="DIR", help="the folder of the site (default: %(default)s)")
    args = cli.parse_args()
    print(f"The site: {build_site(args.runs, args.output)}")


if __name__ == "__main__":
    run_cli(main)

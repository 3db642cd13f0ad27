"""Draw the figures of a run from its tables, as SVG and PNG."""

from __future__ import annotations

import argparse

from cellgauge.core.errors import run_cli
from cellgauge.results.figures import draw_figures


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("tables", metavar="TABLES_DIR", help="what collect_tables.py wrote, such as results/tables")
    cli.add_argument("--output", required=True, metavar="DIR")
    args = cli.parse_args()
    draw_figures(args.tables, args.output)


if __name__ == "__main__":
    run_cli(main)

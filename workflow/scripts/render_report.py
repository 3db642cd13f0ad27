"""Render the report, one HTML file, from the tables of a run."""

from __future__ import annotations

import argparse

from cellgauge.core.errors import run_cli
from cellgauge.report import render


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("tables", metavar="TABLES_DIR", help="what collect_tables.py wrote, such as results/tables")
    cli.add_argument("--output", required=True, metavar="REPORT.html")
    args = cli.parse_args()
    render(args.tables, args.output)


if __name__ == "__main__":
    run_cli(main)

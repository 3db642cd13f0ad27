"""Render the report, one HTML file, from the tables of a run."""

import argparse

from cellgauge.core.errors import run_cli
from cellgauge.report import render

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("tables_dir", metavar="TABLES_DIR", help="what collect_tables.py wrote, such as results/tables")
cli.add_argument("--output", required=True, metavar="REPORT.html")

if __name__ == "__main__":
    run_cli(lambda: render(**vars(cli.parse_args())))

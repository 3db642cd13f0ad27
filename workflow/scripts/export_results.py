"""Export the tables of a run: leaderboards, results in cz-benchmarks' format, the schema of the score rows, Parquet."""

from __future__ import annotations

import argparse

from cellgauge.core.errors import run_cli
from cellgauge.results.export import export


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("tables", metavar="TABLES_DIR", help="what collect_tables.py wrote, such as results/tables")
    cli.add_argument("--output", required=True, metavar="DIR", help="where czbenchmarks.json goes")
    args = cli.parse_args()
    export(args.tables, args.output)


if __name__ == "__main__":
    run_cli(main)

"""Export the tables of a run: leaderboards, results in cz-benchmarks' format, the schema of the score rows, Parquet."""

import argparse

from cellgauge.core.errors import run_cli
from cellgauge.results.export import export

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("tables_dir", metavar="TABLES_DIR", help="what collect_tables.py wrote, such as results/tables")
cli.add_argument("--output", required=True, metavar="DIR", help="where czbenchmarks.json goes")

if __name__ == "__main__":
    run_cli(lambda: export(**vars(cli.parse_args())))

"""Draw the figures of a run from its tables, as SVG and PNG."""

import argparse

from cellgauge.core.errors import run_cli
from cellgauge.results.figures import draw_figures

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("tables_dir", metavar="TABLES_DIR", help="what collect_tables.py wrote, such as results/tables")
cli.add_argument("--output", required=True, metavar="DIR")

if __name__ == "__main__":
    run_cli(lambda: draw_figures(**vars(cli.parse_args())))

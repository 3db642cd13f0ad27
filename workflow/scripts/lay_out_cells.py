"""Lay some cells of each split out on a plane, for the report's pictures of embeddings."""

import argparse

from cellgauge.core.threads import default_to_one_thread

default_to_one_thread()  # before numpy

from cellgauge.core.errors import run_cli
from cellgauge.results.umap import lay_out

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("--embeddings", nargs="+", required=True, metavar="H5AD", help="one per split, or one for all")
cli.add_argument("--splits", nargs="+", required=True, metavar="H5AD")
cli.add_argument("--seed", type=int, default=42)
cli.add_argument("--output", required=True, metavar="TSV")

if __name__ == "__main__":
    run_cli(lambda: lay_out(**vars(cli.parse_args())))

"""Join the embeddings of a split's shards, as embed_cells.py --shard wrote them, to the embedding of the split."""

from __future__ import annotations

import argparse

from cellgauge.core.errors import run_cli
from cellgauge.inference.shards import join_shards


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("shards", nargs="+", metavar="H5AD", help="all of them, in order")
    cli.add_argument("--split", required=True, metavar="H5AD")
    cli.add_argument(
        "--benchmark", default="", metavar="TSV", help="where to write time and memory of all shards together"
    )
    cli.add_argument("--output", required=True, metavar="H5AD")
    args = cli.parse_args()
    join_shards(args.shards, args.split, args.output, args.benchmark)


if __name__ == "__main__":
    run_cli(main)

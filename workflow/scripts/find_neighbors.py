"""Find what a task asks of the distances between one model's cells, and keep it for score_task.py: an npz file."""

import argparse
import json

from cellgauge.core.threads import default_to_one_thread

default_to_one_thread()  # before numpy

from cellgauge.core.errors import run_cli
from cellgauge.tasks.run import keep_neighbors

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("task", help="a task that keeps neighbors, such as clustering")
cli.add_argument("--embeddings", nargs="+", required=True, metavar="H5AD", help="one per split, or one for all")
cli.add_argument("--splits", nargs="+", required=True, metavar="H5AD")
cli.add_argument("--set", default="", metavar="NAME", help="what several splits are called together")
cli.add_argument("--options", type=json.loads, default={}, metavar="JSON", help="seed, parameters of the search")
cli.add_argument("--output", required=True, metavar="NPZ")


def main() -> None:
    args = cli.parse_args()
    keep_neighbors(args.task, args.embeddings, args.splits, args.output, split_set=args.set, **args.options)


if __name__ == "__main__":
    run_cli(main)

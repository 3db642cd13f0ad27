"""Score one model's embeddings, or its predicted responses, on one task: a TSV with one row per value."""

import argparse
import json

from cellgauge.core.threads import default_to_one_thread

default_to_one_thread()  # before numpy

from cellgauge.core.errors import run_cli
from cellgauge.files.score import write_scores
from cellgauge.tasks.run import score_files

MODEL = {"nargs": "+", "required": True, "metavar": "H5AD", "help": "one per split, or one for all"}
DATA = {"nargs": "+", "required": True, "metavar": "H5AD", "help": "or what measure_truth.py made"}

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("task", help="a task of config/tasks.yaml, such as clustering")
cli.add_argument("--embeddings", "--predictions", **MODEL)
cli.add_argument("--splits", "--truth", **DATA)
cli.add_argument("--neighbors", nargs="?", metavar="NPZ", help="what find_neighbors.py kept of them, or none")
cli.add_argument("--set", default="", metavar="NAME", help="what several splits are called together")
cli.add_argument("--options", type=json.loads, default={}, metavar="JSON", help="profiles, seed, task parameters")
cli.add_argument("--output", required=True, metavar="TSV")


def main() -> None:
    args = cli.parse_args()
    about = {"neighbors": args.neighbors, "split_set": args.set, **args.options}
    write_scores(args.output, list(score_files(args.task, args.embeddings, args.splits, **about)))


if __name__ == "__main__":
    run_cli(main)

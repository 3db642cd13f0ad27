"""Predict the responses to the test conditions of a perturbation screen with one model."""

import argparse
import json

from cellgauge.core.errors import run_cli
from cellgauge.predictors.base import predict_files

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("adapter", help="an adapter of cellgauge/predictors, such as additive or precomputed_responses")
cli.add_argument("--split", required=True, metavar="H5AD", help="a screen in the split contract")
cli.add_argument("--weights", nargs="?", metavar="PATH", help="a checkpoint, or your own predictions")
cli.add_argument("--model", default="", help="the model's name in the tables (default: the adapter's)")
cli.add_argument("--options", type=json.loads, default={}, metavar="JSON", help="seed, device, adapter's params")
cli.add_argument("--output", required=True, metavar="H5AD")


def main() -> None:
    args = cli.parse_args()
    predict_files(args.adapter, args.split, args.output, weights=args.weights, model=args.model, options=args.options)


if __name__ == "__main__":
    run_cli(main)

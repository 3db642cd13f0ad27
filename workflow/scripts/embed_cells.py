"""Embed the cells of one split with one model, or of several: each on its own, or together by a model that joins them."""

import argparse
import json

from cellgauge.core.errors import run_cli
from cellgauge.inference.several_splits import embed_several
from cellgauge.models.base import embed_files


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("adapter", help="an adapter of cellgauge/models, such as linear or precomputed")
    cli.add_argument("--split", nargs="+", required=True, metavar="H5AD", help="in the split contract")
    cli.add_argument("--weights", nargs="?", metavar="PATH", help="a checkpoint, or precomputed embeddings")
    cli.add_argument("--model", default="", help="the model's name in the tables (default: the adapter's)")
    cli.add_argument("--set", default="", metavar="NAME", help="what several splits are called together")
    cli.add_argument("--options", type=json.loads, default={}, metavar="JSON", help="seed, device, adapter's params")
    cli.add_argument(
        "--shard", nargs=2, type=int, metavar="N", help="embed one part of the split alone: its number, of how many"
    )
    cli.add_argument("--output", nargs="+", required=True, metavar="H5AD", help="one, or one for each split")
    cli.add_argument("--code", default="", metavar="DIGEST", help="of the code; with several outputs")
    cli.add_argument("--benchmarks", nargs="*", default=[], metavar="TSV", help="time and memory of each output")
    args = cli.parse_args()
    about = {"weights": args.weights, "model": args.model, "options": args.options}
    if len(args.output) == 1:
        shard = tuple(args.shard) if args.shard else None
        embed_files(args.adapter, args.split, args.output[0], split_set=args.set, shard=shard, **about)
    else:
        about |= {"code": args.code, "benchmarks": args.benchmarks}
        embed_several(embed_files, args.adapter, args.split, args.output, **about)


if __name__ == "__main__":
    run_cli(main)

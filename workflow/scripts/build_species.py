"""Make the files by which a model takes a species that it was not trained on."""

from __future__ import annotations

import argparse
import json

from cellgauge.core.errors import run_cli
from cellgauge.models.base import build_species_files


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("adapter", help="a file of cellgauge/models that builds such files")
    cli.add_argument("species", help="the organism, such as gorilla or 'Gallus gallus'")
    cli.add_argument("--weights", required=True, metavar="DIR", help="the folder of the model's checkpoint")
    cli.add_argument(
        "--options",
        default="{}",
        type=json.loads,
        metavar="JSON",
        help="files to build from, and the adapter's options",
    )
    cli.add_argument("--output", required=True, metavar="DIR")
    args = cli.parse_args()
    made = build_species_files(args.adapter, args.species, args.output, weights=args.weights, options=args.options)
    print(made)


if __name__ == "__main__":
    run_cli(main)

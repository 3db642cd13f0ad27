"""Make the files by which a model takes a species that it was not trained on."""

import argparse
import json

from cellgauge.core.errors import run_cli
from cellgauge.models.base import build_species_files

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("adapter", help="a file of cellgauge/models that builds such files")
cli.add_argument("species", help="the organism, such as gorilla or 'Gallus gallus'")
cli.add_argument("--weights", required=True, metavar="DIR", help="the folder of the model's checkpoint")
cli.add_argument(
    "--options", default={}, type=json.loads, metavar="JSON", help="files to build from, adapter's options"
)
cli.add_argument("--output", required=True, metavar="DIR")

if __name__ == "__main__":
    run_cli(lambda: print(build_species_files(**vars(cli.parse_args()))))

"""Reduce a perturbation screen to what predictions are scored against: means, differential expression, sampled cells."""

import argparse

from cellgauge.core.threads import default_to_one_thread

default_to_one_thread()  # before numpy

from cellgauge.core.errors import run_cli
from cellgauge.screens.ground_truth import measure_truth

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("split_path", metavar="H5AD", help="a screen in the split contract")
cli.add_argument("--output", required=True, metavar="H5AD")

if __name__ == "__main__":
    run_cli(lambda: measure_truth(**vars(cli.parse_args())))

"""Reduce a perturbation screen to what predictions are scored against: means, differential expression, sampled cells."""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # before numpy: idle BLAS threads cost more than they bring

from cellgauge.errors import run_cli
from cellgauge.truths import measure_truth


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("split", metavar="H5AD", help="a screen in the split contract")
    cli.add_argument("--output", required=True, metavar="H5AD")
    args = cli.parse_args()
    measure_truth(args.split, args.output)


if __name__ == "__main__":
    run_cli(main)

"""Embed a split as the official code of a family does; write the matrix as .npy."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "workflow" / "scripts")]

FAMILIES = ("scgpt", "uce", "aido_cell", "geneformer", "transcriptformer")


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("family", choices=FAMILIES)
    cli.add_argument("--split", type=Path, required=True, metavar="H5AD")
    cli.add_argument("--weights", type=Path, required=True, metavar="FOLDER")
    cli.add_argument("--options", type=json.loads, default={}, metavar="JSON", help="keyword arguments of its `embed`")
    cli.add_argument("--output", type=Path, required=True, metavar="NPY")
    args = cli.parse_args()

    import numpy as np

    matrix = importlib.import_module(f"official.{args.family}").embed(args.split, args.weights, **args.options)
    np.save(args.output, matrix, allow_pickle=False)


if __name__ == "__main__":
    main()

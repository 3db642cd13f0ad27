"""Make the files by which UCE takes a species that it was not trained on."""

from __future__ import annotations

import argparse
from pathlib import Path

from cellgauge.errors import run_cli
from cellgauge.organisms import organism
from cellgauge.species import build_species


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("species", help="the organism, such as gorilla or 'Gallus gallus'")
    cli.add_argument("--checkpoint", type=Path, required=True, metavar="PATH", help="UCE's .torch, or its folder")
    cli.add_argument("--proteins", type=Path, required=True, metavar="PT", help="{symbol: vector of ESM2}")
    cli.add_argument("--genes", type=Path, required=True, metavar="FILE", help="Ensembl's FASTA of peptides, or a GTF")
    cli.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    args = cli.parse_args()
    print(build_species(args.checkpoint, args.proteins, args.genes, organism(args.species), args.output))


if __name__ == "__main__":
    run_cli(main)

"""Collect score files into the tables of results/tables."""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from cellgauge.core.errors import run_cli
from cellgauge.results import provenance
from cellgauge.results.tables import collect


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument(
        "scores", nargs="*", metavar="SCORES", help=".../TASK/MODEL/DATASET/SPLIT.tsv; missing ones failed"
    )
    cli.add_argument(
        "--layouts", nargs="*", default=[], metavar="TSV", help=".../MODEL/DATASET.tsv; missing ones are left out"
    )
    cli.add_argument("--benchmarks", default="benchmarks", metavar="DIR", help="Snakemake's benchmark files, if kept")
    cli.add_argument("--manifest", type=Path, metavar="JSON", help="these and more: a file of what Grid.manifest says")
    cli.add_argument(
        "--results", default="results", metavar="DIR", help="where the files of the manifest lie: its results/"
    )
    cli.add_argument("--failed", type=Path, metavar="JSON", help="a file of {score file: why it was not made}")
    cli.add_argument("--published", nargs="*", default=[], metavar="TSV", help=".../SOURCE.tsv, score rows of others")
    cli.add_argument("--ledger", type=Path, metavar="YAML", help="of the run: where the sha256 of models' files stand")
    cli.add_argument("--provenance", type=Path, metavar="JSON", help="the file to write of where the numbers come from")
    cli.add_argument("--output", required=True, metavar="DIR")
    args = cli.parse_args()
    manifest, failed = (
        json.loads(path.read_text(encoding="utf-8")) if path else {} for path in (args.manifest, args.failed)
    )
    about = provenance.record(manifest.get("provenance", {}), args.ledger, args.results) if args.provenance else None
    if about:
        provenance.write(about, args.provenance)

    def located(files: Iterable[str]) -> list[str]:
        return [str(Path(args.results, file.removeprefix("results/"))) for file in files]

    collect(
        [*args.scores, *located(manifest.get("scores", []))],
        args.output,
        benchmarks=args.benchmarks,
        catalogue=manifest.get("catalogue"),
        failed=dict(zip(located(failed), failed.values(), strict=True)),
        layouts=[*args.layouts, *located(manifest.get("layouts", []))],
        published=[*args.published, *located(manifest.get("published", []))],
        ledger=args.ledger,
        provenance=about,
    )


if __name__ == "__main__":
    run_cli(main)

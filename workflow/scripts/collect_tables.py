"""Collect score files into the tables of results/tables."""

import argparse
import json
from pathlib import Path

from cellgauge.core.errors import run_cli
from cellgauge.results import provenance
from cellgauge.results.tables import collect

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("scores", nargs="*", metavar="SCORES", help=".../TASK/MODEL/DATASET/SPLIT.tsv; missing ones failed")
cli.add_argument("--benchmarks", default="benchmarks", metavar="DIR", help="Snakemake's benchmark files, if kept")
cli.add_argument("--manifest", type=Path, metavar="JSON", help="these and more: a file of what Grid.manifest says")
cli.add_argument(
    "--results", default="results", metavar="DIR", help="where the files of the manifest lie: its results/"
)
cli.add_argument("--failed", type=Path, metavar="JSON", help="a file of {score file: why it was not made}")
cli.add_argument("--ledger", type=Path, metavar="YAML", help="of the run: where the sha256 of models' files stand")
cli.add_argument("--provenance", type=Path, metavar="JSON", help="the file to write of where the numbers come from")
cli.add_argument("--output", required=True, metavar="DIR")


def main() -> None:
    args = cli.parse_args()
    manifest, failed = (
        json.loads(path.read_text(encoding="utf-8")) if path else {} for path in (args.manifest, args.failed)
    )
    about = provenance.record(manifest.get("provenance", {}), args.ledger, args.results) if args.provenance else None
    if about:
        provenance.write(about, args.provenance)
    files = {kind: manifest.get(kind, []) for kind in ("scores", "layouts", "published")} | {"failed": failed}
    here = {kind: [str(Path(args.results, f.removeprefix("results/"))) for f in names] for kind, names in files.items()}
    collect(
        [*args.scores, *here["scores"]],
        args.output,
        benchmarks=args.benchmarks,
        catalogue=manifest.get("catalogue"),
        failed=dict(zip(here["failed"], failed.values(), strict=True)),
        layouts=here["layouts"],
        published=here["published"],
        ledger=args.ledger,
        provenance=about,
    )


if __name__ == "__main__":
    run_cli(main)

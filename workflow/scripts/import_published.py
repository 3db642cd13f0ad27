"""Read a result file of others into score rows that say where they come from: a TSV with one row per value."""

import argparse
import json

from cellgauge.core.errors import run_cli
from cellgauge.results.published import import_published

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("file", nargs="?", metavar="FILE", help="as published; none where the options hold the values")
cli.add_argument("--options", type=json.loads, required=True, metavar="JSON", help="source, format, models, ...")
cli.add_argument("--output", required=True, metavar="TSV")


def main() -> None:
    args = cli.parse_args()
    import_published(args.file, args.output, **args.options)


if __name__ == "__main__":
    run_cli(main)

"""Write docs/assets.md from the catalogue."""

import argparse
from pathlib import Path

from cellgauge.core.atomic import atomic_path
from cellgauge.core.errors import run_cli
from cellgauge.plan.catalogue_page import assets, read_catalogue

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("config", type=Path, metavar="CONFIG_DIR", help="where models, datasets and tasks.yaml are")
cli.add_argument("--output", required=True, metavar="MD")


def main() -> None:
    args = cli.parse_args()
    with atomic_path(args.output) as temporary:
        temporary.write_text(assets(read_catalogue(args.config)), encoding="utf-8")


if __name__ == "__main__":
    run_cli(main)

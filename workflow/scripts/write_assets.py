"""Write docs/assets.md from the catalogue."""

from __future__ import annotations

import argparse
from pathlib import Path

from cellgauge.assets import assets, read_catalogue
from cellgauge.contracts import atomic_path
from cellgauge.errors import run_cli


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument(
        "config", type=Path, metavar="CONFIG_DIR", help="where models.yaml, datasets.yaml and tasks.yaml are"
    )
    cli.add_argument("--output", required=True, metavar="MD")
    args = cli.parse_args()
    with atomic_path(args.output) as temporary:
        temporary.write_text(assets(read_catalogue(args.config)), encoding="utf-8")


if __name__ == "__main__":
    run_cli(main)

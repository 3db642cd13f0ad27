"""Write docs/assets.md from the catalogue."""

import argparse

from cellgauge.core.atomic import atomic_path
from cellgauge.core.errors import run_cli
from cellgauge.plan.catalogue_page import assets

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("--output", required=True, metavar="MD")


def main() -> None:
    with atomic_path(cli.parse_args().output) as temporary:
        temporary.write_text(assets(), encoding="utf-8")


if __name__ == "__main__":
    run_cli(main)

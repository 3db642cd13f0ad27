"""Say what a run will cost before it runs, and afterwards how far that was from what it did cost."""

from __future__ import annotations

import argparse
from pathlib import Path

from cellgauge import config as settings
from cellgauge.costs import Sizes, downloads, jobs, summary
from cellgauge.errors import run_cli
from cellgauge.grid import Grid

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    import yaml

    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("--configfile", nargs="*", default=[], metavar="YAML", help="as given to snakemake")
    cli.add_argument("--directory", type=Path, default=Path(), metavar="DIR", help="where results and benchmarks lie")
    cli.add_argument("--cells", type=int, default=0, help="cells of a split that has not been made yet")
    cli.add_argument("--dims", type=int, default=1024, help="dimensions of an embedding that has not been made yet")
    args = cli.parse_args()
    grid = Grid(settings.read(args.configfile))
    weights = yaml.safe_load((ROOT / "config" / "costs.yaml").read_text(encoding="utf-8"))["score"]
    sizes = Sizes(grid, args.directory, args.cells, args.dims)
    print("\n".join(summary(list(jobs(grid, weights, sizes, args.directory)))))
    ledgers = (ROOT / "config" / "checksums.yaml", args.directory / "config" / "checksums.yaml")
    texts = (path.read_text(encoding="utf-8") for path in ledgers if path.is_file())
    known = {url: entry for text in texts for url, entry in (yaml.safe_load(text) or {}).items()}
    print(downloads(grid, known))


if __name__ == "__main__":
    run_cli(main)

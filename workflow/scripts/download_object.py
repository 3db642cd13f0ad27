"""Fetch one object (s3://, https://, hf://, pypi:// or a path) into a file: whole and verified, or not at all."""

import argparse
from pathlib import Path

from cellgauge.core.errors import run_cli
from cellgauge.fetch import fetch

LEDGER = "ledger of the run to check and add to; config/checksums.yaml, which is only read, goes before it"

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("url", help="the object; URL!member is a file inside an archive")
cli.add_argument("output", type=Path)
cli.add_argument("--sha256", help="what the object must have; goes before the ledgers")
cli.add_argument("--checksums", type=Path, default=Path("resources/checksums.yaml"), dest="ledger", help=LEDGER)
cli.add_argument("--accept", action="store_true", help="replace what --checksums says of the object by what comes now")

if __name__ == "__main__":
    run_cli(lambda: fetch(**vars(cli.parse_args())))

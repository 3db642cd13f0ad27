"""Fetch one object (s3://, https://, hf://, pypi:// or a path) into a file: resumable and verified."""

from __future__ import annotations

import argparse
from pathlib import Path

from cellgauge.errors import run_cli
from cellgauge.fetch import fetch


def main() -> None:
    """Read the command line and fetch."""
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("url", help="the object; URL!member is a file inside an archive")
    cli.add_argument("output", type=Path)
    cli.add_argument("--sha256", help="what the object must have; goes before the ledgers")
    cli.add_argument("--size", type=int, help="bytes that the object must have")
    cli.add_argument("--checksums", type=Path, default=Path("config/checksums.yaml"), help="ledger to check and add to")
    cli.add_argument(
        "--checksums-known", type=Path, action="append", default=[], help="ledger to check first, only read; repeatable"
    )
    args = cli.parse_args()
    fetch(
        args.url,
        args.output,
        sha256=args.sha256,
        size=args.size,
        ledger=args.checksums,
        known=args.checksums_known,
    )


if __name__ == "__main__":
    run_cli(main)

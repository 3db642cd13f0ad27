"""Say what changed from one run to another, in a sentence and as a page."""

import argparse
from pathlib import Path

from cellgauge.core.errors import run_cli
from cellgauge.report.changes import render_changes
from cellgauge.results.changes import PublishedRun, compare_runs

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("before", metavar="RUN", help="the folder of a run, such as results or runs/my_run")
cli.add_argument("after", metavar="RUN", help="that of a later one")
cli.add_argument("--output", metavar="HTML", help="the page (default: changes.html in the folder of the later run)")


def main() -> None:
    args = cli.parse_args()
    changes = compare_runs(PublishedRun.read(args.before), PublishedRun.read(args.after))
    output = args.output or Path(args.after) / "changes.html"
    render_changes(changes, output)
    print(changes.summary, f"The page: {output}", sep="\n")


if __name__ == "__main__":
    run_cli(main)

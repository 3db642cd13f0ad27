"""Publish what there is when a run ends with failed jobs: the other models' tables and report stay of use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cellgauge.core.errors import one_line
from cellgauge.plan.failures import NOT_RUN, failures
from cellgauge.plan.sources import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cellgauge.plan.grid import Grid

BEGAN = time.time()
"""When Snakemake read the workflow, seconds since the epoch: logs of this run are newer."""
LONG_AGO = 0
"""An mtime (seconds) that is older than any input: the next run makes the tables anew, whatever has changed by then."""


def tell_what_failed(grid: Grid) -> None:
    """Say what failed and why, and write nothing: for a run that was asked for some files, not for the tables."""
    reasons = (reason for reason in failures(grid, BEGAN).values() if reason != NOT_RUN)
    for reason in dict.fromkeys(reasons):
        print(f"failed: {reason}", file=sys.stderr)


def publish_what_there_is(grid: Grid) -> None:
    """Write tables and report from the scores that exist; the others become rows `failed` with their reason.

    Called by Snakemake in the run's folder after a failure. It never raises: the failure that led here is the news.
    """
    failed = failures(grid, BEGAN)
    try:
        fault = _publish(grid, failed)
    except OSError as error:  # such as a full disk
        fault = one_line(error)
    if fault:
        print(f"the tables of what did succeed could not be written: {fault}", file=sys.stderr)
    print(summary(failed, len(grid.cells), written=not fault), file=sys.stderr)


def _publish(grid: Grid, failed: Mapping[str, str]) -> str:
    """Write tables, report and exports, older than any input; return what went wrong, "" if nothing did."""
    with tempfile.TemporaryDirectory() as folder:
        manifest, reasons = Path(folder, "manifest.json"), Path(folder, "reasons.json")
        manifest.write_text(grid.manifest(), encoding="utf-8")
        reasons.write_text(json.dumps(failed), encoding="utf-8")
        collect = ["collect_tables.py", "--manifest", str(manifest), "--failed", str(reasons)]
        collect += ["--ledger", "resources/checksums.yaml"]
        render = ["render_report.py", "results/tables", "--output", "results/report.html"]
        exports = ["export_results.py", "results/tables", "--output", "results"]
        fault = _run([*collect, "--output", "results/tables"], render, exports)
    outputs = (*Path("results/tables").glob("*.*"), *map(Path, ("results/report.html", "results/czbenchmarks.json")))
    for path in filter(Path.exists, outputs):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return fault


def _run(*commands: Sequence[str]) -> str:
    """Run scripts of ours one after the other until one fails; return what that one says, "" if all succeed."""
    for script, *arguments in commands:
        command = [sys.executable, str(SCRIPTS / script), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip() or f"{script} ended with status {done.returncode}"
    return ""


def summary(failed: Mapping[str, str], total: int, written: bool = True) -> str:
    """Return what failed and why, one line per reason, for the end of Snakemake's output.

    Args:
        failed: score file -> why it was not made.
        total: how many scores the run has.
        written: whether tables and report of the other scores were written.
    """
    if not failed:
        return "No score is missing; another job failed, see its log above."
    by_reason: dict[str, list[str]] = {}
    for path, reason in failed.items():
        _, _, _, model, dataset, split = Path(path).with_suffix("").parts
        by_reason.setdefault(reason, []).append(f"{model} on {dataset}/{split}")
    lines = [f"{len(failed)} of {total} scores are missing:"]
    for reason, cells in by_reason.items():
        cells = list(dict.fromkeys(cells))
        lines.append(f"  {', '.join(cells[:3])}{f' and {len(cells) - 3} more' if len(cells) > 3 else ''}: {reason}")
    if list(by_reason) == [NOT_RUN]:
        lines.append("None of these scores' own jobs failed: another job did, see its log above.")
    told = "Tables and report hold the other scores, and these as rows 'failed'. " if written else ""
    lines.append(f"{told}The same command tries them again.")
    return "\n".join(lines)

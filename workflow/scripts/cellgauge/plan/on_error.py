"""When a run ends with failed jobs: which scores are missing and why, and tables and report of the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cellgauge.core.atomic import atomic_path
from cellgauge.core.errors import one_line
from cellgauge.plan import paths
from cellgauge.plan.sources import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cellgauge.plan.inputs import Inputs
    from cellgauge.plan.storage import Places

BEGAN = time.time()
"""When Snakemake read the workflow, seconds since the epoch: logs of this run are newer."""
NOT_RUN = "the job was not run"
LONG_AGO = 1
"""An mtime (seconds) that is older than any input: the next run makes the tables anew, whatever has changed by then. Snakemake
takes 0 for no mtime at all."""


def failures(inputs: Inputs) -> dict[str, str]:
    """Return the reason of every score of the run that was not made, by the score file's path.

    A job has failed when its log was written since the run began and its result is not there: Snakemake removes the output
    of a failed job and keeps its log. What depends on it counts as failed too, even where an older score file remains.
    """
    reasons: dict[str, str] = {}
    for cell in inputs.grid.cells:
        reason = next(filter(None, (_failure(inputs.places, *job) for job in inputs.jobs(cell))), "")
        if not reason and not inputs.places.exists(cell.path):
            reason = NOT_RUN
        if reason:
            reasons[cell.path] = reason
    return reasons


def _failure(places: Places, rule: str, result: str, log: str) -> str:
    """Return why one job failed in this run, "" if it did not."""
    if places.exists(result) or places.mtime(log) < BEGAN:
        return ""
    text = places.fetch(log).read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    stated = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    silent = "the job wrote nothing; it may have been killed, perhaps because memory ran out"
    return f"{rule}: {one_line((stated or lines or [silent])[-1])}"


def report_failures(inputs: Inputs) -> None:
    """Say what failed and why, and write nothing: for a run that was asked for some files, not for the tables."""
    reasons = (reason for reason in failures(inputs).values() if reason != NOT_RUN)
    for reason in dict.fromkeys(reasons):
        print(f"failed: {reason}", file=sys.stderr)


def publish_partial_results(inputs: Inputs) -> None:
    """Write tables and report from the scores that exist; the others become rows `failed` with their reason.

    Called by Snakemake in the run's folder after a failure. It never raises: the failure that led here is the news.
    """
    failed = failures(inputs)
    try:
        fault = _publish(inputs, failed)
    except OSError as error:  # such as a full disk
        fault = one_line(error)
    if fault:
        print(f"the tables of the other scores could not be written: {fault}", file=sys.stderr)
    print(summary(failed, len(inputs.grid.cells), written=not fault), file=sys.stderr)


def _publish(inputs: Inputs, failed: Mapping[str, str]) -> str:
    """Write tables, report and exports, older than any input; return what went wrong, "" if nothing did.

    They are written here even where files lie in a storage, whose tables are always those of a whole run.
    """
    for files in (inputs.scores(), inputs.layouts(), inputs.published_rows(), inputs.costs()):
        for file in files:
            inputs.places.fetch(file)
    outputs = inputs.run.outputs
    with tempfile.TemporaryDirectory() as folder:
        reasons = Path(folder, "reasons.json")
        # an input of the tables that is there, and so newer than they
        with atomic_path(inputs.at(outputs.manifest)) as manifest:
            manifest.write_text(inputs.manifest(), encoding="utf-8")
        reasons.write_text(json.dumps(failed), encoding="utf-8")
        collect = ["collect_tables.py", "--manifest", inputs.at(outputs.manifest), "--failed", str(reasons)]
        collect += ["--ledger", paths.LEDGER, "--benchmarks", inputs.at(paths.BENCHMARKS)]
        collect += ["--results", inputs.at(paths.RESULTS), "--provenance", outputs.provenance]
        render = ["render_report.py", outputs.tables, "--output", outputs.report]
        exports = ["export_results.py", outputs.tables, "--output", outputs.folder]
        fault = _run([*collect, "--output", outputs.tables], render, exports)
    results = map(Path, (outputs.provenance, outputs.report, outputs.czbenchmarks))
    for path in filter(Path.exists, (*Path(outputs.tables).glob("*.*"), *results)):
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
    """Return which of `total` score files `failed` and why, one line per reason, for the end of Snakemake's output."""
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
        lines.append("The jobs of these scores did not fail: another job did, see its log above.")
    written_too = "Tables and report have the other scores, and mark these as failed. " if written else ""
    lines.append(f"{written_too}Run the same command to try them again.")
    return "\n".join(lines)

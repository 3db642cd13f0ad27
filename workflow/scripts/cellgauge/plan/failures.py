"""Which scores a run failed to make, and why: found by following each score back to the job that left no result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cellgauge.core.errors import one_line

if TYPE_CHECKING:
    from cellgauge.plan.grid import Grid

NOT_RUN = "the job was not run"


def failures(grid: Grid, since: float) -> dict[str, str]:
    """Return the reason of every score of the run that was not made, by the score file's path.

    A job has failed when its log was written since the run began and its result is not there: Snakemake removes the output
    of a failed job and keeps its log. What depends on it counts as failed too, even where an older score file remains.

    Args:
        since: when the run began, seconds since the epoch.
    """
    found: dict[str, str] = {}
    for cell in grid.cells:
        reason = next((job for job in (_failure(*job, since) for job in grid.jobs(cell)) if job), "")
        if not reason and not Path(cell.path).exists():
            reason = NOT_RUN
        if reason:
            found[cell.path] = reason
    return found


def _failure(rule: str, result: str, log: str, since: float) -> str:
    """Return why one job failed since then, "" if it did not."""
    path = Path(log)
    if Path(result).exists() or not path.is_file() or path.stat().st_mtime < since:
        return ""
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    stated = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    silent = "the job wrote nothing; it may have been killed, by hand or for its memory"
    return f"{rule}: {one_line((stated or lines or [silent])[-1])}"

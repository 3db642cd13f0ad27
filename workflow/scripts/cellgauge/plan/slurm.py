"""A run on SLURM whose Snakemake was killed leaves its jobs behind: say so, before they are submitted once more."""

import re
import subprocess
import sys
from pathlib import Path

from cellgauge.core.errors import one_line

RUN = re.compile(r"(?:.+_)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""The name of a job of Snakemake's SLURM executor: that of its run, a prefix and a UUID."""


def stop_beside_running_jobs() -> None:
    """End the process where SLURM still holds jobs that an earlier run submitted from this folder.

    Their results are kept when they end; a second job for the same file would write beside the first. The folder is locked,
    so no run of this folder but this one, which has not submitted anything yet, has a Snakemake that watches its jobs.
    """
    command = ["squeue", "--noheader", "--format=%j|%Z"]  # by default those that have not ended, of every user
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: `squeue` does not say which jobs of this folder are still running: {one_line(done.stderr)}")
    if message := running_jobs(done.stdout, Path.cwd()):
        sys.exit(f"error: {message}")


def running_jobs(listing: str, folder: Path) -> str:
    """Return what to do about the jobs of earlier runs in a folder, "" if there are none.

    Args:
        listing: the name and the folder of each job of the cluster, one `name|folder` a line.
    """
    jobs = [line.partition("|") for line in listing.splitlines()]
    names = [name for name, _, place in jobs if RUN.fullmatch(name) and Path(place) == folder]
    if not names:
        return ""
    runs = ",".join(sorted(set(names)))
    return (
        f"{len(names)} SLURM job{'s' if len(names) > 1 else ''} of an earlier run in {folder} have not ended."
        f" Wait until `squeue --name={runs}` lists none, or end them with `scancel --name={runs}`;"
        " then give the same command again: it keeps what they finished."
    )

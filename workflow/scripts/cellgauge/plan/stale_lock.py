"""After a kill or a power loss the same command goes on: Snakemake's lock is taken away where nobody holds it any more.

Snakemake locks a folder by files that outlive its process. Beside them each process of ours holds a lock of the system, which
ends with the process however that ends.
"""

import fcntl
import platform
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TextIO

FOLDER = Path(".snakemake")
_held: list[TextIO] = []


def remove_stale_lock() -> None:
    """Remove the files by which Snakemake locks the current folder, where the last run of ours was killed.

    Nothing is done while another run of ours is at work there. A lock of another machine is left to `snakemake --unlock`: not
    every network file system shares locks between machines.
    """
    FOLDER.mkdir(exist_ok=True)
    file = (FOLDER / "cellgauge.lock").open("a+")
    _held.append(file)  # open as long as this process lives
    with suppress(OSError):  # another process has it, or the file system has no locks
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.seek(0)
        if file.read() == platform.node():
            shutil.rmtree(FOLDER / "locks", ignore_errors=True)
        file.truncate(0)
        file.write(platform.node())
        file.flush()
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_SH)  # dry runs and others may be at work beside this one

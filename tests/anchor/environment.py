"""Make the virtual environment of a package that we compare with, once, with exact versions.

    python tests/anchor/environment.py [anchor|cell_eval]     # prints its interpreter

CELLGAUGE_ANCHOR_PYTHON and CELLGAUGE_CELL_EVAL_PYTHON name interpreters to use instead. The requirements are those of the
folder tests/<name>.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = Path(__file__).resolve().parents[1]


class AnchorUnavailable(Exception):
    """The environment cannot be had here; the message says why."""


def anchor_python(name: str = "anchor") -> Path:
    """Return the interpreter of an environment ("anchor", "cell_eval"); make it if it is missing or out of date.

    Raises:
        AnchorUnavailable: it cannot be made (no package index, no compiler for hnswlib, ...).
    """
    variable = f"CELLGAUGE_{name.upper()}_PYTHON"
    given = os.environ.get(variable)
    if given:
        if not Path(given).is_file():
            raise AnchorUnavailable(f"{variable} names {given}, which is no file")
        return Path(given)
    folder, requirements = ROOT / ".cache" / name, TESTS / name / "requirements.txt"
    python, stamp = folder / "bin" / "python", folder / "cellgauge-stamp"
    version = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests may run in several processes
        if not (stamp.is_file() and stamp.read_text() == version and python.is_file()):
            shutil.rmtree(folder, ignore_errors=True)
            print(f"making the environment {folder}, once; this takes some minutes", file=sys.stderr)
            log = folder.with_suffix(".log")
            _run([sys.executable, "-m", "venv", str(folder)], log)
            _run(
                [
                    str(python),
                    "-m",
                    "pip",
                    "install",
                    "--disable-pip-version-check",
                    "--no-compile",
                    "-r",
                    str(requirements),
                ],
                log,
            )
            stamp.write_text(version)
    return python


def _run(command: list[str], log: Path) -> None:
    with log.open("w") as file:
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if status:
        lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
        errors = [line for line in lines if line.lstrip().lower().startswith("error")] or lines
        raise AnchorUnavailable(f"{' '.join(command[1:4])} failed, see {log}: {errors[-1].strip()}")


if __name__ == "__main__":
    try:
        print(anchor_python(*sys.argv[1:2]))
    except AnchorUnavailable as reason:
        sys.exit(f"error: {reason}")

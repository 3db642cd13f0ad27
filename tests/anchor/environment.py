"""Make the anchor's virtual environment, once: .cache/anchor, with the exact versions of requirements.txt.

    python tests/anchor/environment.py      # prints its interpreter

CELLGAUGE_ANCHOR_PYTHON names an interpreter to use instead.
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
FOLDER = ROOT / ".cache" / "anchor"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")


class AnchorUnavailable(Exception):
    """The anchor cannot be had here; the message says why."""


def anchor_python() -> Path:
    """Return the interpreter of the anchor's environment; make the environment if it is missing or out of date.

    Raises:
        AnchorUnavailable: it cannot be made (no package index, no compiler for hnswlib, ...).
    """
    given = os.environ.get("CELLGAUGE_ANCHOR_PYTHON")
    if given:
        if not Path(given).is_file():
            raise AnchorUnavailable(f"CELLGAUGE_ANCHOR_PYTHON names {given}, which is no file")
        return Path(given)
    python, stamp = FOLDER / "bin" / "python", FOLDER / "cellgauge-stamp"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with FOLDER.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests may run in several processes
        if not (stamp.is_file() and stamp.read_text() == wanted and python.is_file()):
            shutil.rmtree(FOLDER, ignore_errors=True)
            print(f"making the anchor's environment in {FOLDER}, once; this takes some minutes", file=sys.stderr)
            _run([sys.executable, "-m", "venv", str(FOLDER)])
            _run([str(python), "-m", "pip", "install", "--disable-pip-version-check", "-r", str(REQUIREMENTS)])
            stamp.write_text(wanted)
    return python


def _run(command: list[str]) -> None:
    log = FOLDER.with_suffix(".log")
    with log.open("w") as file:
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if status:
        lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
        errors = [line for line in lines if line.lstrip().lower().startswith("error")] or lines
        raise AnchorUnavailable(f"{' '.join(command[1:4])} failed, see {log}: {errors[-1].strip()}")


if __name__ == "__main__":
    try:
        print(anchor_python())
    except AnchorUnavailable as reason:
        sys.exit(f"error: {reason}")

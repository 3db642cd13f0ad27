"""Which Python the jobs run."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def prefer_own_python() -> None:
    """Put the folder of this interpreter first on PATH, for this process and its children.

    Without `--sdm conda` every job then runs in the environment of Snakemake itself, activated or not. With it, a job's own
    environment still comes before.
    """
    folder = str(Path(sys.executable).parent)
    paths = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if paths[0] != folder:
        os.environ["PATH"] = os.pathsep.join([folder, *paths])

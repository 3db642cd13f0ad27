"""Which Python the jobs run where there is no conda: Snakemake's own, or that of an environment made beside it."""

import os
import re
import sys
from importlib.metadata import distributions
from pathlib import Path

from cellgauge.core.errors import CellgaugeError
from cellgauge.plan.sources import ROOT, project_file


def prefer_this_python() -> None:
    """Put the folder of this interpreter first on PATH, for this process and its children.

    Without `--sdm conda` every job then runs in the environment of Snakemake itself, activated or not. With it, a job's own
    environment still comes before.
    """
    folder = str(Path(sys.executable).parent)
    paths = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if paths[0] != folder:
        os.environ["PATH"] = os.pathsep.join([folder, *paths])


def python_of(environment: str) -> str:
    """Return the Python that runs the jobs of workflow/envs/<environment>.yaml without conda.

    It is Snakemake's own, unless the environment has a lock file of its own, requirements-<environment>.lock: then that of
    .venv-<environment>, which `make setup-<environment>` makes.
    """
    return project_file(f".venv-{environment}/bin/python") if _lock(environment).is_file() else "python"


def require(environment: str, user: str) -> None:
    """Raise CellgaugeError, naming `user`, unless the jobs of an environment can run without conda.

    An environment with a lock file of its own is .venv-<environment>, whose .installed holds the lock that it was made from.
    The packages of the others are beside Snakemake: those of requirements-base.lock, and what `make setup-models` adds.
    """
    lock, stamp = _lock(environment), ROOT / f".venv-{environment}" / ".installed"
    if lock.is_file() and not (stamp.is_file() and stamp.read_bytes() == lock.read_bytes()):
        state = "is of an older lock file" if stamp.is_file() else "has not been made yet"
        raise CellgaugeError(
            f"{user} runs in a separate environment, .venv-{environment}, which {state}:"
            f" type `make setup-{environment}` in {ROOT}, or use conda (--profile profiles/conda)"
        )
    if not lock.is_file() and (missing := [n for n in beyond_base(environment) if not any(distributions(name=n))]):
        raise CellgaugeError(
            f"{user} needs {', '.join(missing)}, which `make setup` does not install:"
            f" type `make setup-models` in {ROOT}, or use conda (--profile profiles/conda)"
        )


def beyond_base(environment: str) -> list[str]:
    """Return the packages of workflow/envs/<environment>.yaml that requirements-base.lock does not hold.

    A folder without that file is no checkout, and `make` installs nothing there: it needs none.
    """
    base = ROOT / "requirements-base.lock"
    if not base.is_file():
        return []
    known = _pins(base)
    return [name for name in _pins(ROOT / "workflow/envs" / f"{environment}.yaml") if name not in known]


def _pins(path: Path) -> list[str]:
    """Return the names of the packages that an environment file or a lock file pins."""
    return re.findall(r"^(?: +- )?([\w.-]+)==", path.read_text(encoding="utf-8"), re.MULTILINE)


def _lock(environment: str) -> Path:
    return ROOT / f"requirements-{environment}.lock"

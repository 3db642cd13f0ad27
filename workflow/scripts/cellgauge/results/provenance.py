"""Where the numbers of a run come from: code, configuration, data, weights, environment, machine and date.

A provenance is a JSON object, results/provenance.json. All but its part `made` (the date and the machine) is the same when
the same run is repeated, and scores.parquet carries that as metadata. It names no host, no user and no folder of the machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from cellgauge.core.atomic import atomic_path
from cellgauge.core.errors import CellgaugeError, ContractError, DamagedError, one_line
from cellgauge.core.version import VERSION
from cellgauge.fetch.ledger import SHIPPED, Entry, identity
from cellgauge.fetch.ledger import read as read_ledger

FILE = "provenance.json"
FORMAT = 1
UNKNOWN = "unknown"
PARQUET_KEY = b"cellgauge"
"""The key of the metadata of scores.parquet under which the provenance stands."""
ROOT = Path(__file__).resolve().parents[4]
CODE = ("Snakefile", "workflow", "config")
"""What of a checkout decides what a run computes."""
PACKAGES = (
    *("anndata", "h5py", "harmonypy", "igraph", "leidenalg", "numba", "numpy", "pandas", "pyarrow", "safetensors"),
    *("scikit-learn", "scipy", "scvi-tools", "snakemake", "torch", "transformers"),
)
"""The packages whose versions can change numbers."""


def record(
    planned: Mapping[str, Any], ledger: str | Path | None = None, results: str | Path = "results"
) -> dict[str, Any]:
    """Return the provenance of a run.

    Args:
        planned: what is known before it runs (`cellgauge.plan.provenance.planned`).
        ledger: the run's, resources/checksums.yaml.
        results: where the files of `planned` lie: its results/.
    """

    def facts_of(paths: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        return {name: scalars(Path(results, path.removeprefix("results/"))) for name, path in paths.items()}

    known = {key: value for key, value in planned.items() if key not in ("splits", "embeddings", "urls")}
    config = public(known.get("config", {}))
    files, embeddings = facts_of(planned.get("splits", {})), facts_of(planned.get("embeddings", {}))
    versions = {name: json.loads(facts["versions"]) for name, facts in embeddings.items() if "versions" in facts}
    sums = Sums(ledger)
    models = planned.get("models", {}).items()
    models = {name: {**public(about), "files": sums.of(about["files"])} for name, about in models}
    return {
        "format": FORMAT,
        "cellgauge": {"version": VERSION, **commit()},
        **public(known),
        "models": models,
        "config": config,
        "config_digest": config_digest(config),
        "data": {
            name: {"source": public(str(facts.get("source", ""))), "sha256": str(facts.get("source_sha256", ""))}
            for name, facts in files.items()
        },
        "files": sums.of(planned.get("urls", ())),
        "python": platform.python_version(),
        "packages": packages(),
        "packages_of_models": versions,
        "made": {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()},
    }


def write(provenance: Mapping[str, Any], path: str | Path) -> None:
    """Write a provenance as JSON."""
    with atomic_path(path) as temporary:
        text = json.dumps(provenance, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read(path: str | Path) -> dict[str, Any]:
    """Return a provenance; raise CellgaugeError where the file is missing, or no provenance."""
    path = Path(path)
    try:
        provenance = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CellgaugeError(f"{path}: there is no such file; make the tables of the run again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CellgaugeError(f"{path}: not the provenance of a run ({one_line(error)})") from None
    if fault := next(faults(provenance), ""):
        raise CellgaugeError(f"{path}: not the provenance of a run ({fault})")
    return provenance


def faults(provenance: Any) -> Iterator[str]:
    """Yield what of a provenance is not as `record` makes it, so far as others rely on it."""
    if not isinstance(provenance, dict):
        yield "no object"
        return
    if provenance.get("format") != FORMAT:
        yield f"format {provenance.get('format')!r}, not {FORMAT}"
    entries = ("models", "tasks", "data")
    for key in ("cellgauge", "code", "sources", "packages", "environments", "made", "config", "differences", *entries):
        if not isinstance(provenance.get(key), dict):
            yield f"'{key}' is missing or not an object"
            return
    for key in ("name", "config_digest", "python"):
        if not isinstance(provenance.get(key), str):
            yield f"'{key}' is missing or not text"
    for key in entries:
        if not all(isinstance(entry, dict) for entry in provenance[key].values()):
            yield f"'{key}' contains something that is not an object"
    if config_digest(provenance["config"]) != provenance.get("config_digest"):
        yield "the digest does not match the configuration"


def repeatable(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is the same whenever and wherever the same run is made."""
    return {key: value for key, value in provenance.items() if key != "made"}


def config_digest(config: Any) -> str:
    """Return 12 hexadecimal digits that tell configurations apart; the order of keys does not count."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def differences(config: Mapping[str, Any], catalogue: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of each key of `config` that `catalogue` lacks or sets to something else, keys joined by dots."""
    changed: dict[str, Any] = {}
    for key, value in config.items():
        other = catalogue.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            changed |= {f"{key}.{below}": each for below, each in differences(value, other).items()}
        elif value != other:
            changed[key] = value
    return changed


# --- what can be said to everyone --------------------------------------------------------------------------------------


def public(value: Any) -> Any:
    """Return a value without what is of this machine or secret: folders before a file's name, passwords and signatures."""
    if isinstance(value, Mapping):
        return {public(key): public(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [public(each) for each in value]
    return _public_text(value) if isinstance(value, str) else value


def _public_text(text: str) -> str:
    if re.match(r"(/|~|file://|[A-Za-z]:\\)\S", text):
        return f".../{PurePosixPath(text.replace(chr(92), '/')).name}"
    if re.match(r"https?://\S+$", text):
        parts = urlsplit(text)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
    return text


# --- code, environment, machine ----------------------------------------------------------------------------------------


def commit() -> dict[str, Any]:
    """Return the short `commit` of the checkout and whether its code is `dirty`; "unknown" and None without git."""
    top = _git("rev-parse", "--show-toplevel")
    name = _git("rev-parse", "--short=9", "HEAD")
    if not name or not top or Path(top).resolve() != ROOT:  # a copy inside a repository of something else
        return {"commit": UNKNOWN, "dirty": None}
    changed = (_git("status", "--porcelain", "--", *CODE) or "").splitlines()
    # a user's own file in config/ is no change of the code, and what it says stands in the configuration
    return {"commit": name, "dirty": any(not line.startswith("?? config/") for line in changed)}


def _git(*words: str) -> str:
    """Return what git says of the checkout, "" where it cannot."""
    return _output("git", "--no-optional-locks", "-C", str(ROOT), *words)


def _output(*command: str) -> str:
    """Return what a command prints, "" where it fails or is not installed."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        process = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.rstrip() if process.returncode == 0 else ""


def packages() -> dict[str, str]:
    """Return the versions of those of PACKAGES that are installed here."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def machine() -> dict[str, Any]:
    """Return the processor, the cores that this process may use, the memory (GiB) and the GPUs of this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {"cpu": _cpu(), "cores": cores, "memory_gib": round(memory), "gpus": _gpus(), "system": platform.system()}


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    names = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return one_line(names[1]) if names else platform.processor() or platform.machine()


def _gpus() -> list[str]:
    lines = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    return [one_line(line) for line in lines if line.strip()]


def scalars(path: str | Path) -> dict[str, Any]:
    """Return what a split or an embedding says of itself; nothing where it is not there (any more) or cannot be read.

    Raise DamagedError where it is not what was written.
    """
    from cellgauge.files.h5ad import open_stage, read_scalars  # numpy, which planning does without

    try:
        with open_stage(path) as file:
            return read_scalars(file)
    except DamagedError:
        raise
    except ContractError:
        return {}


class Sums:
    """The sha256 of files: of fetched ones as the ledgers say, of those of the user as they are now."""

    def __init__(self, ledger: str | Path | None) -> None:
        self._of_run, self._shipped = read_ledger(Path(ledger)) if ledger else {}, read_ledger(SHIPPED)

    def of(self, urls: Iterable[str]) -> list[dict[str, str]]:
        """Return `url` and `sha256` of each file, "" where the sum is not known."""
        return [{"url": public(url), "sha256": self._sum(url)} for url in urls]

    def described(self, urls: Iterable[str]) -> list[dict[str, Any]]:
        """Return `url`, `size` in bytes and `sha256` of each file; size and sum are None where no ledger has them."""
        entries = ((url, self._entry(url)) for url in urls)
        return [{"url": url, "size": entry.size, "sha256": entry.sha256} for url, entry in entries]

    def _entry(self, url: str) -> Entry:
        return self._shipped.get(url) or self._of_run.get(identity(url)) or Entry()

    def _sum(self, url: str) -> str:
        entry = self._entry(url)
        path = Path(url.removeprefix("file://")).expanduser()
        if entry.sha256 or not path.is_file():
            return entry.sha256 or ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


# --- in words ----------------------------------------------------------------------------------------------------------


def headline(provenance: Mapping[str, Any]) -> str:
    """Return the line that stands at the head of a report: name, version, date, machine and configuration."""
    parts = [
        provenance["name"],
        f"cellgauge {version_text(provenance)}",
        date_text(provenance),
        machine_text(provenance),
        f"configuration {provenance['config_digest'][:6]}",
        f"differs from the catalogue in: {differences_text(provenance)}",
    ]
    return " \N{EN DASH} ".join(filter(None, parts))


def version_text(provenance: Mapping[str, Any]) -> str:
    """Return version and commit, "0.1.0 (abc1234, changed)"."""
    about = provenance["cellgauge"]
    changed = ", changed" if about.get("dirty") else ""
    return f"{about.get('version', UNKNOWN)} ({about.get('commit', UNKNOWN)}{changed})"


def date_text(provenance: Mapping[str, Any]) -> str:
    """Return the day on which the tables were made, "27 Nov 2026"; "" where the file does not say."""
    try:
        return f"{datetime.fromisoformat(provenance['made']['date']):%-d %b %Y}"
    except (KeyError, TypeError, ValueError):
        return ""


def machine_text(provenance: Mapping[str, Any]) -> str:
    """Return the machine in a few words, "2 cores AMD EPYC 7B13, 16 GiB"."""
    about = provenance["made"].get("machine") or {}
    if not about:
        return ""
    cores = f"{about['cores']} core{'' if about['cores'] == 1 else 's'} {about['cpu']}".strip()
    return ", ".join([cores, f"{about['memory_gib']} GiB", *about.get("gpus", [])])


def differences_text(provenance: Mapping[str, Any], most: int = 6) -> str:
    """Return the keys in which the configuration differs from the catalogue, with short values; "nothing" without any."""
    texts = [_difference(key, value) for key, value in provenance["differences"].items()]
    more = [f"{len(texts) - most} more"] if len(texts) > most else []
    return ", ".join([*texts[:most], *more]) or "nothing"


def _difference(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{key} (new)"
    text = json.dumps(value, ensure_ascii=False)
    return f"{key} = {value if isinstance(value, str) else text}" if len(text) <= 40 else key

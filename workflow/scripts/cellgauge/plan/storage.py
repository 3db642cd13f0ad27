"""Where the files of a run lie: as `paths` spells them, below the prefix of a module, or in a storage of Snakemake's.

With `--default-storage-provider` a job works on local copies. Snakemake names these in `{input}` and `{output}`; whatever else
holds a path (options, the manifest, what is looked for before a job) asks here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cellgauge.plan import paths


class Places:
    """The files of a run by their paths in `cellgauge.plan.paths`."""

    def __init__(self, modify: Callable[[str], str] = str) -> None:
        """Take Snakemake's modifier of paths: it returns a str, with the object of the storage among its flags."""
        self._modify = modify

    @property
    def stored(self) -> bool:
        """Whether files lie in a storage, and jobs see only those that they name."""
        return self._object(paths.RESULTS) is not None

    def at(self, path: str) -> str:
        """Return where a file lies for a job: its own path, or that of its local copy."""
        return str(self._modify(path))

    def exists(self, path: str) -> bool:
        """Return whether a file is there, in the storage where there is one."""
        stored = self._object(path)
        return bool(stored.exists()) if stored else Path(self.at(path)).exists()

    def mtime(self, path: str) -> float:
        """Return when a file was written, seconds since the epoch: the local copy if there is one; -inf where there is none."""
        local, stored = Path(self.at(path)), self._object(path)
        if local.exists():
            return local.stat().st_mtime
        return float(stored.mtime()) if stored and stored.exists() else float("-inf")

    def fetch(self, path: str) -> Path:
        """Return the path of a file as `at` does; make the local copy where there is none and the storage has the file."""
        local, stored = Path(self.at(path)), self._object(path)
        if stored and not local.exists() and stored.exists():
            local.parent.mkdir(parents=True, exist_ok=True)
            stored.retrieve_object()
        return local

    def _object(self, path: str) -> Any:
        return getattr(self._modify(path), "flags", {}).get("storage_object")

"""Files that are there whole or not at all, whatever ends the process that writes them."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path and move it to `path` when the block succeeds; leave nothing when it fails."""
    path = Path(path)
    with workplace(path) as folder:
        yield folder / path.name
        publish(folder / path.name, path)


@contextmanager
def workplace(output: Path) -> Iterator[Path]:
    """Yield a folder beside `output` for this process alone; remove it, and those that killed processes left."""
    output.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{output.name[:80]}."
    for left in output.parent.glob(f"{escape(prefix)}*.part"):
        with suppress(OSError), (left / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=".part", dir=output.parent))
    try:
        with (folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the system drops it when the process ends, however it ends
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(path: Path, output: Path) -> None:
    """Give the file at `path` its name, once its bytes are on the disk, and remove the damaged one that it replaces."""
    _sync(path)
    path.replace(output)
    _sync(output.parent)
    damaged_name(output).unlink(missing_ok=True)


def damaged_name(path: Path) -> Path:
    """Return where a file goes that is not what was written, until it is made again."""
    return path.with_name(f".{path.name}.damaged")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

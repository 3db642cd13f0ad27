"""Locks between processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, *, wait: bool = True, notice: str | None = None) -> Iterator[int]:
    """Hold an exclusive lock on `path`, which is created where absent, and yield its descriptor.

    The system drops the lock when the process ends, however it ends. `notice` is said once where there is a wait.

    Raises:
        BlockingIOError: another process holds the lock and `wait` is false.
    """
    import fcntl

    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise
                if notice:
                    print(notice, file=sys.stderr, flush=True)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # The holder before us may have renamed or replaced the file: that lock guards nothing any more.
            if _is_open_file(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_open_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False

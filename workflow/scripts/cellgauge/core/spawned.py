"""Iterate over what processes of their own compute ahead, in a fixed order.

A thread shares Python's lock with the caller, so it can keep a GPU waiting for its next kernel. The processes are spawned,
not forked: a copy of a process that uses a GPU, or has threads, may hang. Arrays travel through pipes, from which they are
read into their final memory; shared memory is 64 MB in many containers, and who exceeds it is killed (docs/adr/0030).
"""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import cycle
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cellgauge.core import threads
from cellgauge.core.errors import CellgaugeError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

T = TypeVar("T")

PIPE_BYTES = 2**20
"""The most that Linux gives to any user. Every read waits for Python's lock, which a thread that starts kernels holds."""
SWITCH_SECONDS = 0.0005
"""How long a thread may keep Python's lock while another one reads, a tenth of Python's default."""
AVAILABLE = sys.platform == "linux"
"""Elsewhere a pipe between processes is not a file that arrays are read from."""


class Spawned(Generic[T]):
    """Processes that compute the parts of a sequence in turn. Iterating yields the items of all parts in order.

    Each process computes one part beyond the one that it delivers, so it holds two at most.

    Args:
        parts: yields every `n`-th part, beginning with the `k`-th, as `parts(k, n)`. It is pickled, with all that it holds.
        n_processes: number of processes.

    Raises, while iterating:
        CellgaugeError: a process was ended from outside.
        Exception: what `parts` raises in a process, with that process's traceback as a note.
    """

    def __init__(self, parts: Callable[[int, int], Iterable[Sequence[T]]], n_processes: int) -> None:
        context = get_context("spawn")
        self._workers: list[tuple[BaseProcess, Connection]] = []
        try:
            with _environment(dict.fromkeys(threads.VARIABLES, "1")):
                for k in range(n_processes):
                    receiver, sender = context.Pipe(duplex=False)
                    with suppress(OSError):  # a user's pipes may hold no more; a small one is slower
                        fcntl.fcntl(sender.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
                    process = context.Process(target=_work, args=(sender, parts, k, n_processes), daemon=True)
                    self._workers.append((process, receiver))
                    with sender:  # only the process writes, so that its end is seen here
                        process.start()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[T]:
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            yield from self._items()
        finally:
            sys.setswitchinterval(before)

    def _items(self) -> Iterator[T]:
        for process, receiver in cycle(self._workers):
            while True:
                try:
                    kind, content = _receive(receiver)
                except (EOFError, OSError):
                    process.join()
                    code = process.exitcode or 0
                    reason = f"by signal {-code}" if code < 0 else f"with exit status {code}"
                    raise CellgaugeError(
                        f"a process that prepares cells ended too early ({reason}), most often because memory ran out: give"
                        " the job more memory (mem_mb) or fewer threads"
                    ) from None
                if kind == "item":
                    yield content
                elif kind == "error":
                    raise content
                else:
                    break
            if kind == "end":  # the parts are numbered, so that no other process has a further one
                return

    def close(self) -> None:
        """End the processes, whatever they compute."""
        for process, _ in self._workers:  # pipes stay open: a thread that reads from one sees its end
            if process.pid is not None:
                process.terminate()
                process.join()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for processes that start meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(sender: Connection, parts: Callable[[int, int], Iterable[Sequence[T]]], k: int, n: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller ends it
    with suppress(BrokenPipeError):  # the caller wants no more
        try:
            with ThreadPoolExecutor(1) as pool:
                delivered = None
                for part in parts(k, n):
                    if delivered:
                        delivered.result()
                    delivered = pool.submit(_deliver, sender, part)
                if delivered:
                    delivered.result()
            _send(sender, "end")
        except BrokenPipeError:
            raise
        except Exception as error:
            _send(sender, "error", _sendable(error))


def _deliver(sender: Connection, part: Sequence[object]) -> None:
    for item in part:
        _send(sender, "item", item)
    _send(sender, "next")


def _sendable(error: Exception) -> Exception:
    """Return the error with its traceback as a note; one that cannot be pickled as its traceback alone."""
    text = "".join(traceback.format_exception(error))
    error.add_note(text)
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(text)
    return error


def _send(sender: Connection, kind: str, content: object = None) -> None:
    """Send a pickle, and the memory of its arrays as it is."""
    arrays: list[pickle.PickleBuffer] = []
    head = pickle.dumps((kind, content), protocol=5, buffer_callback=arrays.append)
    views = [array.raw() for array in arrays]
    sender.send((head, [view.nbytes for view in views]))
    for view in views:
        while view:
            view = view[os.write(sender.fileno(), view) :]


def _receive(receiver: Connection) -> tuple[str, Any]:
    head, sizes = receiver.recv()
    arrays = [bytearray(size) for size in sizes]
    for array in arrays:
        view = memoryview(array)
        while view:
            n_read = os.readv(receiver.fileno(), [view])
            if not n_read:
                raise EOFError
            view = view[n_read:]
    return pickle.loads(head, buffers=arrays)

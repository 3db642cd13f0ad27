"""Work done in processes of their own: side by side, and without what one part imported while the next one runs.

A job's peak memory is that of its largest part then, not of the sum of all libraries and intermediates.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from cellgauge.core import threads
from cellgauge.core.errors import CellgaugeError

T = TypeVar("T")

FORKS = sys.platform == "linux"
"""Elsewhere forking is unsafe (macOS' Accelerate) or unknown, and new interpreters would have to be sent the data."""
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

_inherited: list[Callable[[], object]] = []
"""What the children of the moment choose from: functions that close over arrays cannot be sent, but inherited."""


def run_apart(functions: Sequence[Callable[[], T]], n_processes: int = 1) -> list[T]:
    """Call functions in forked processes with one thread each, `n_processes` at a time; return what they return.

    They see the caller's memory as it is, nothing is copied to them; what they return is pickled. Where processes cannot
    be forked the functions are called here, one after the other.

    Raises:
        CellgaugeError: a process was ended from outside, as the system does where memory runs out.
    """
    if not FORKS:
        return [function() for function in functions]
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    _inherited[:] = functions
    try:
        with ProcessPoolExecutor(n_processes, get_context("fork"), initializer=_begin) as pool:
            return list(pool.map(_call, range(len(functions))))
    except BrokenProcessPool:
        raise CellgaugeError(
            "a process of this job was killed, usually because memory ran out: give the job more memory"
            " (mem_mb) or fewer threads"
        ) from None
    finally:
        _inherited.clear()


def _call(position: int) -> Any:
    return _inherited[position]()


def _begin() -> None:
    """Prepare a child: it ends with its parent, and libraries that it loads or has loaded use one thread."""
    import ctypes

    from threadpoolctl import threadpool_limits

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.environ.update(dict.fromkeys(threads.VARIABLES, "1"))
    threadpool_limits(1)

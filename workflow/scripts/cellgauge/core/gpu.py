"""Which device a job computes on; of several GPUs, one that no other job of cellgauge uses."""

import os
import sys
import tempfile
import time
from pathlib import Path

from cellgauge.core.errors import CellgaugeError

POLL_SECONDS = 1.0


_held: dict[int, int] = {}  # GPU -> descriptor of its lock; the system drops it when this process ends, however it ends


def pick_device(requested: str = "auto") -> str:
    """Return "cuda:0", "mps", "cpu" or such: what was requested, or with "auto" the best at hand.

    Of several GPUs one that no other job of cellgauge on this machine uses is taken, and waited for where all are used:
    it is held by a lock until this process ends, and is the one whenever the process asks again. Where
    CUDA_VISIBLE_DEVICES is set, someone else shares them out.

    Raises:
        CellgaugeError: the device that was asked for is not there.
    """
    import torch

    at_hand = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if requested == "auto":
        requested = "cuda" if at_hand["cuda"] else "cpu"
    if not at_hand.get(requested.split(":")[0], False):
        devices = ", ".join(name for name, present in at_hand.items() if present)
        raise CellgaugeError(f"device '{requested}' is not available here (available: {devices}); set `device: auto`")
    if requested != "cuda":
        return requested
    if os.environ.get("CUDA_VISIBLE_DEVICES"):
        return "cuda:0"
    count = torch.cuda.device_count()
    if gpu_that_is_free(count) is None:
        print(f"all {count} GPUs are used by other jobs, waiting for one", file=sys.stderr, flush=True)
    while (index := gpu_that_is_free(count)) is None:
        time.sleep(POLL_SECONDS)
    return f"cuda:{index}"


def gpu_that_is_free(count: int) -> int | None:
    """Return the index of a GPU that is locked for this process, as before or now; None where other processes hold all."""
    for index in range(count):
        if _held:
            break
        descriptor = _lock(index)
        if descriptor is not None:
            _held[index] = descriptor
    return next(iter(_held), None)


def _lock(index: int) -> int | None:
    """Return the descriptor whose lock now holds a GPU, or None where another descriptor holds it, of any process."""
    import fcntl

    path = Path(tempfile.gettempdir()) / f"cellgauge-gpu{index}.lock"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)  # reading is enough for a lock, for other users too
    except OSError as error:
        raise CellgaugeError(f"{path}: cannot be opened to lock a GPU ({error.strerror})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor

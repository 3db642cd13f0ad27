"""Where a model computes."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path

from cellgauge.errors import CellgaugeError

POLL_SECONDS = 1.0
SCORING_DEVICES = ("cpu", "cuda", "auto")
WORTHWHILE_CELLS = 20_000
"""Cells from which "auto" scores on a GPU: fewer cost the processor less than PyTorch costs to start."""
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
        there = ", ".join(name for name, present in at_hand.items() if present)
        raise CellgaugeError(f"device '{requested}' is not available here (there is {there}); set `device: auto`")
    if requested != "cuda":
        return requested
    return "cuda:0" if os.environ.get("CUDA_VISIBLE_DEVICES") else f"cuda:{_free_gpu(torch.cuda.device_count())}"


def scoring_device(requested: str, n_cells: int) -> str | None:
    """Return where a scorer computes its matrix products: a GPU as PyTorch names it, or None: numpy, on the processor.

    "cuda" is a GPU, waited for as `pick_device` does. "auto" takes one for large splits if there is one that no other job
    of cellgauge uses now, without waiting, and leaves alone what CUDA_VISIBLE_DEVICES shares out: to this job nobody gave
    any. PyTorch is not imported where that can be told without it.

    Raises:
        CellgaugeError: an unknown kind of device; or "cuda" was asked for, and there is no GPU or no PyTorch.
    """
    if requested not in SCORING_DEVICES:
        raise CellgaugeError(f"unknown score_device '{requested}'; there are {', '.join(SCORING_DEVICES)}")
    if requested == "cpu":
        return None
    os.environ.setdefault("SCIPY_ARRAY_API", "1")  # before scipy is imported: scikit-learn takes tensors with it
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asks without starting CUDA, which no fork survives
    installed = importlib.util.find_spec("torch") is not None
    if requested == "cuda" and not installed:
        raise CellgaugeError(
            "score_device is cuda, but the scorers' environment has no PyTorch; install torch or set cpu"
        )
    if requested == "auto":
        shared_out = "CUDA_VISIBLE_DEVICES" in os.environ
        if n_cells < WORTHWHILE_CELLS or shared_out or not installed or not _has_gpu():
            return None
    import torch

    if requested == "auto":
        index = _gpu_that_is_free(torch.cuda.device_count()) if torch.cuda.is_available() else None
        return None if index is None else f"cuda:{index}"
    if not torch.cuda.is_available():
        raise CellgaugeError("score_device is cuda, but PyTorch finds no GPU here; set `score_device: auto` or cpu")
    return pick_device("cuda")


def _has_gpu() -> bool:
    """Return whether the system knows a GPU of Nvidia: its driver shows each as a file."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def _free_gpu(count: int) -> int:
    """Return the index of a GPU that is locked for this process, as before or now; wait where other processes hold all."""
    told = False
    while (index := _gpu_that_is_free(count)) is None:
        if not told:
            print(f"all {count} GPUs are used by other jobs, waiting for one", file=sys.stderr, flush=True)
        told = True
        time.sleep(POLL_SECONDS)
    return index


def _gpu_that_is_free(count: int) -> int | None:
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

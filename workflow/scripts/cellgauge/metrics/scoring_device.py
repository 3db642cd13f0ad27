"""Where a scorer computes its matrix products."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from cellgauge.core.errors import CellgaugeError
from cellgauge.core.gpu import gpu_that_is_free, pick_device

SCORING_DEVICES = ("cpu", "cuda", "auto")
WORTHWHILE_CELLS = 20_000
"""Cells from which "auto" scores on a GPU: fewer cost the processor less than PyTorch costs to start."""


def scoring_device(requested: str, n_cells: int) -> str | None:
    """Return where a scorer computes its matrix products: a GPU as PyTorch names it, or None: numpy, on the processor.

    "cuda" is a GPU, waited for as `pick_device` does. "auto" takes one for large splits if there is one that no other job of
    cellgauge uses now, without waiting, and leaves alone what CUDA_VISIBLE_DEVICES shares out: to this job nobody gave any.
    PyTorch is not imported where that can be told without it. Raise CellgaugeError where the kind of device is unknown, and for
    "cuda" where there is no GPU or no PyTorch.
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
            "score_device is cuda, but the scorers' environment has no PyTorch; type `make setup-models`, or set cpu"
        )
    if requested == "auto":
        shared_out = "CUDA_VISIBLE_DEVICES" in os.environ
        if n_cells < WORTHWHILE_CELLS or shared_out or not installed or not _has_gpu():
            return None
    import torch

    if requested == "auto":
        index = gpu_that_is_free(torch.cuda.device_count()) if torch.cuda.is_available() else None
        return None if index is None else f"cuda:{index}"
    if not torch.cuda.is_available():
        raise CellgaugeError("score_device is cuda, but PyTorch finds no GPU here; set `score_device: auto` or cpu")
    return pick_device("cuda")


def _has_gpu() -> bool:
    """Return whether the system knows a GPU of Nvidia: its driver shows each as a file."""
    return any(Path("/dev").glob("nvidia[0-9]*"))

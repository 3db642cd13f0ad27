"""Where a model computes."""

from __future__ import annotations

from cellgauge.errors import CellgaugeError


def pick_device(requested: str = "auto") -> str:
    """Return "cuda", "mps" or "cpu": what was requested, or with "auto" the best at hand.

    Raises:
        CellgaugeError: the device that was asked for is not there.
    """
    import torch

    at_hand = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if requested == "auto":
        return "cuda" if at_hand["cuda"] else "cpu"
    if not at_hand.get(requested.split(":")[0], False):
        there = ", ".join(name for name, present in at_hand.items() if present)
        raise CellgaugeError(f"device '{requested}' is not available here (there is {there}); set `device: auto`")
    return requested

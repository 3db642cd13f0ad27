"""What scorers compute with PyTorch, on a GPU (or, to test the same path, on PyTorch's CPU device).

Imported only where a device was asked for: PyTorch costs a second and 200 MB.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch


class SmallestOnDevice:
    """Finds the references that look nearest to some queries, as `neighbours._Smallest` does.

    Args:
        queries: float32, shape (n_queries, n_dims).
        wanted: how many references.
        device: as PyTorch names it.
    """

    def __init__(self, queries: np.ndarray, wanted: int, device: str) -> None:
        torch.set_float32_matmul_precision("highest")  # the bound on errors is float32's: no TF32, no bfloat16
        self._queries = torch.as_tensor(queries, device=device) * -2
        self._wanted = wanted
        self._device = device

    def among(
        self, references: np.ndarray, norms: np.ndarray, itself: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return columns, int64, ascending, and values, float32; the pairs `itself` (rows, columns) come first."""
        found = self._queries @ torch.as_tensor(references, device=self._device).T
        found += torch.as_tensor(norms, device=self._device)
        found[tuple(torch.as_tensor(where, device=self._device) for where in itself)] = -torch.inf
        n_kept = min(self._wanted, len(references))
        columns = torch.topk(found, n_kept, largest=False, sorted=False).indices.sort(dim=1).values
        return columns.cpu().numpy(), torch.gather(found, 1, columns).cpu().numpy()


@contextmanager
def scikit_learn_on(device: str) -> Iterator[Callable[[np.ndarray], torch.Tensor]]:
    """Let scikit-learn compute with tensors inside the block; yield what puts an array on the device.

    Its estimators that know the array API (among them logistic regression by lbfgs) then do all but the steps of the
    solver on the device, in the dtype of the data.
    """
    os.environ.setdefault("SCIPY_ARRAY_API", "1")  # scikit-learn asks for it
    torch.set_float32_matmul_precision("highest")
    from sklearn import config_context

    with config_context(array_api_dispatch=True):
        yield lambda array: torch.as_tensor(array, device=device)

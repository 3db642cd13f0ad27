"""What scorers compute with PyTorch, on a GPU (or, to test the same path, on PyTorch's CPU device).

Imported only where a device was asked for: PyTorch costs a second and 200 MB.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from cellgauge.metrics import silhouette
from cellgauge.metrics.knn.distances import CentredRows, pair_distances, squared_norms, tile_edge


class SmallestOnDevice:
    """Finds the references that look nearest to some queries, as `exact._Smallest` does.

    Args:
        queries: float32, shape (n_queries, n_dims).
        n: how many references.
        device: as PyTorch names it.
    """

    def __init__(self, queries: np.ndarray, n: int, device: str) -> None:
        torch.set_float32_matmul_precision("highest")  # the bound on errors is float32's: no TF32, no bfloat16
        self._queries = torch.as_tensor(queries, device=device) * -2
        self._n, self._device = n, device

    def among(
        self, references: np.ndarray, norms: np.ndarray, itself: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return columns, int64, ascending, and values, float32; the pairs `itself` (rows, columns) come first."""
        values = self._queries @ torch.as_tensor(references, device=self._device).T
        values += torch.as_tensor(norms, device=self._device)
        values[tuple(torch.as_tensor(where, device=self._device) for where in itself)] = -torch.inf
        n = min(self._n, len(references))
        columns = torch.topk(values, n, largest=False, sorted=False).indices.sort(dim=1).values
        return columns.cpu().numpy(), torch.gather(values, 1, columns).cpu().numpy()


class DistancesOnDevice:
    """Distances between blocks of rows, as `silhouette.Distances` computes them.

    Few near pairs of a block are computed one by one on the processor, more on the device.

    Args:
        order: the order in which the rows are cut into blocks.
    """

    def __init__(self, rows: CentredRows, order: np.ndarray, device: str) -> None:
        torch.set_float32_matmul_precision("highest")
        self.order, self.edge = order, tile_edge(rows.matrix.shape[1], silhouette.DEVICE_EDGE)
        self._rows, self._device = rows, device

    def among(self, part: slice, other: slice) -> torch.Tensor:
        """Return the distances of some rows to others, float32."""
        squared, norms = self._squared(part, other, np.float32)
        both = np.arange(max(part.start, other.start), min(part.stop, other.stop))  # none, where the blocks do not meet
        itself = torch.as_tensor(both, device=self._device)
        itself = itself - part.start, itself - other.start
        near = squared < silhouette.NEAR * norms[:, None]
        near[itself] = False
        row, column = (where.cpu().numpy() for where in near.nonzero(as_tuple=True))
        if len(row) > silhouette.FEW * near.numel():
            exact, norms = self._squared(part, other, np.float64)
            digits = silhouette.last_digits(self._rows.matrix.shape[1], norms.cpu().numpy())
            exact[exact < torch.as_tensor(digits, device=self._device)[:, None]] = 0
            squared = exact.to(torch.float32)
        elif len(row):
            matrix = self._rows.matrix
            exact = pair_distances(matrix, self.order[part][row], matrix, self.order[other][column])
            squared[near] = torch.as_tensor((exact * self._rows.scale**2).astype(np.float32), device=self._device)
        squared[itself] = 0
        return squared.sqrt_()

    def _squared(self, part: slice, other: slice, dtype: type) -> tuple[torch.Tensor, torch.Tensor]:
        """Return |x|^2 + |y|^2 - 2 x.y, and |x|^2."""
        queries, others = (self._rows.block(self.order[rows], dtype) for rows in (part, other))
        norms, of_others = (
            torch.as_tensor(squared_norms(block).astype(dtype), device=self._device) for block in (queries, others)
        )
        squared = torch.as_tensor(queries, device=self._device) @ torch.as_tensor(others, device=self._device).T
        squared *= -2
        squared += norms[:, None]
        squared += of_others
        return squared, norms

    def add_by_group(self, sums: np.ndarray, distances: torch.Tensor, codes: np.ndarray) -> None:
        """Add each row's distances, summed by group, to `sums`; `codes` are the columns' groups, ascending."""
        for code, members in silhouette.group_slices(codes):
            sums[:, code] += distances[:, members].sum(dim=1, dtype=torch.float64).cpu().numpy()


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

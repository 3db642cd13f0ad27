"""The device's side of a run: mini-batches go to the device, rows come back in order.

    MiniBatch -> pinned memory -> device -> network -> pinned memory -> rows, one mini-batch later

On a GPU nothing waits for anything: a mini-batch is copied to the device on a stream of its own while the one before is
computed, and its rows are fetched after the next one was started. The first mini-batch decides how the others are computed:
in which precision, and with which kernels.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellgauge.core.errors import CellgaugeError, one_line

if TYPE_CHECKING:
    import torch

PRECISIONS = ("fp32", "tf32", "bf16")
FAST_PRECISIONS = ("bf16", "tf32")  # the fastest first, and all that an NVIDIA GPU has since its capability 8.0
LEAST_COSINE = 0.9999
"""`auto` takes a precision if every cell of the first mini-batch agrees so far with fp32."""
COMPILE_FROM = 2e16
"""Operations of a run from which its layers are compiled. On an H200 compiling scGPT took 15 s and saved a quarter of the time,
so that it pays from 1.6e16 operations on (docs/performance.md)."""
IN_FLIGHT = 1  # mini-batches whose rows are on their way while the next one computes; on a GPU


@dataclass(frozen=True, slots=True)
class MiniBatch:
    """Cells that the network computes together.

    Attributes:
        rows: positions of the cells in the split, shape (n,).
        arrays: what the adapter's `collate` returned; the first axis of each has length n.
        width: number of tokens of each cell, padding included.
        tokens: number of tokens of all cells, without padding.
    """

    rows: np.ndarray
    arrays: tuple[np.ndarray, ...]
    width: int
    tokens: int


def default_tokens(device: str) -> int:
    """Return the default number of tokens of a mini-batch, padding included, for a device."""
    return 131_072 if device.startswith("cuda") else 8192


class Network:
    """A network on a device. A mini-batch that does not fit in memory is halved, and so are all later ones of its size.

    Args:
        forward: takes the arrays of a mini-batch as tensors on the device and returns one row per cell.
        precision: one of `PRECISIONS`, or "auto": on an NVIDIA GPU the fastest that agrees with fp32 in the first
            mini-batch (see LEAST_COSINE), elsewhere fp32.
        n_cells: number of cells of the run, which decides whether compiling pays.

    Raises:
        CellgaugeError: an unknown precision, or one that the device does not have.
    """

    def __init__(
        self, forward: Callable[..., torch.Tensor], device: str, precision: str = "auto", n_cells: int = 0
    ) -> None:
        self._forward, self._device, self._n_cells = forward, device, n_cells
        self._on_gpu = device.startswith("cuda")
        self._side = Gpu(device) if self._on_gpu else Host(device)
        if precision not in ("auto", *PRECISIONS):
            raise CellgaugeError(f"precision must be one of auto, {', '.join(PRECISIONS)}, not '{precision}'")
        if precision == "tf32" and not self._on_gpu:
            raise CellgaugeError(f"precision 'tf32' needs an NVIDIA GPU, the device is {device}; set `precision: fp32`")
        self._requested, self._precision, self._level = precision, "", "plain"
        self._choice: dict[str, Any] = {}
        self._failures: list[str] = []
        self._most_tokens, self._halved = sys.maxsize, 0
        self._cells = self._tokens = 0
        self._seconds = self._waiting = self._computing = 0.0

    def run(self, batches: Iterable[MiniBatch]) -> Iterator[tuple[MiniBatch, np.ndarray]]:
        """Yield each mini-batch with its rows, float32, shape (n, n_columns), in order.

        Raises:
            CellgaugeError: a single cell does not fit in memory.
        """
        pending: deque[tuple[MiniBatch, list[Any]]] = deque()
        began = time.perf_counter()
        for batch in self._awaited(batches):
            if not self._precision:
                began += self.choose(batch)
            pending.append((batch, self._start(batch)))
            while len(pending) > IN_FLIGHT * self._on_gpu:
                yield self._finish(*pending.popleft())
        while pending:
            yield self._finish(*pending.popleft())
        self._seconds += time.perf_counter() - began

    def facts(self) -> dict[str, Any]:
        """Return what is worth knowing of all mini-batches so far.

        precision: in which they were computed; with its deviation from fp32 in the first mini-batch, where it is another
            (fp32_max_deviation, the largest absolute difference, and fp32_min_cosine, the lowest cosine similarity of a row).
        rejected_precisions: those that `auto` tried before, with their lowest cosine.
        kernels, kernels_that_failed: the level of kernels (see `kernels`), and why it is not a higher one.
        network_seconds: of the run, without the choice of the precision, from the first mini-batch that was asked for.
        cells_per_second, tokens_per_second: in these seconds; tokens without padding.
        gpu_seconds: of the network's computing. gpu_utilization: their share of network_seconds.
        host_wait_seconds: how long the run waited for mini-batches.
        gflop_per_cell: operations of a cell in the first mini-batch, counted by PyTorch, padding included.
        peak_gpu_memory_mb: MiB. All facts of a GPU are 0 without one.
        """
        seconds = max(self._seconds, 1e-9)
        return {
            "precision": self._precision or "fp32",
            **self._choice,
            "kernels": self._level,
            **({"kernels_that_failed": "; ".join(self._failures)} if self._failures else {}),
            "halved_batches": self._halved,
            "network_seconds": self._seconds,
            "cells_per_second": self._cells / seconds,
            "tokens_per_second": self._tokens / seconds,
            "host_wait_seconds": self._waiting,
            "gpu_seconds": self._computing,
            "gpu_utilization": self._computing / seconds,
            "peak_gpu_memory_mb": self._side.peak_memory() / 2**20,
        }

    def _awaited(self, batches: Iterable[MiniBatch]) -> Iterator[MiniBatch]:
        """Yield the mini-batches, and measure how long each was waited for."""
        began = time.perf_counter()
        for batch in batches:
            self._waiting += time.perf_counter() - began
            yield batch
            began = time.perf_counter()
        self._waiting += time.perf_counter() - began

    def choose(self, batch: MiniBatch) -> float:
        """Choose the precision and the kernels; return the seconds that it took, which are not part of the run's.

        `run` does so with its first mini-batch, unless it was done before. The rows in fp32 with plain kernels are the
        reference, so a kernel that errs is found here as well.
        """
        candidates = [self._requested]
        if self._requested == "auto":
            candidates = [*(FAST_PRECISIONS if self._side.is_fast() else ()), "fp32"]
        if not self._on_gpu and candidates == ["fp32"]:
            self._precision = "fp32"
            return 0.0
        began = time.perf_counter()
        self._precision, self._level = "fp32", "plain"
        with self._side.counting() as operations:
            reference = self._trial(batch)
        rejected = []
        for precision in candidates:
            if precision == "fp32":
                self._precision, self._level = "fp32", "plain"
                break
            work = operations() / len(batch.rows) * self._n_cells
            self._level = "plain" if not self._on_gpu else "compiled" if work >= COMPILE_FROM else "fused"
            self._precision = precision
            measured = deviation(self._trial(batch), reference)
            if self._requested != "auto" or measured["fp32_min_cosine"] >= LEAST_COSINE:
                self._choice |= measured
                break
            rejected.append(f"{precision} ({measured['fp32_min_cosine']:.6f})")
        if self._on_gpu:
            self._choice["gflop_per_cell"] = operations() / len(batch.rows) / 1e9
        if rejected:
            self._choice["rejected_precisions"] = ", ".join(rejected)
        self._side.reset_peak_memory()
        return time.perf_counter() - began

    def _trial(self, batch: MiniBatch) -> np.ndarray:
        """Return the rows of a mini-batch, and forget that it was computed."""
        rows = self._finish(batch, self._start(batch))[1]
        self._cells = self._tokens = self._halved = 0
        self._computing, self._most_tokens = 0.0, sys.maxsize
        return rows

    def _start(self, batch: MiniBatch) -> list[Any]:
        """Start to compute a mini-batch; return its parts, more than one where it does not fit in memory at once."""
        import torch

        parts: list[Any] = []
        start, size = 0, len(batch.rows)
        while start < size:
            stop = int(min(size, start + max(1, self._most_tokens // batch.width)))
            try:
                parts.append(self._compute([array[start:stop] for array in batch.arrays]))
                start = stop
                continue
            except torch.OutOfMemoryError:
                pass  # the exception holds the failed attempt's memory until this block ends
            except Exception as error:
                if self._level == "plain":
                    raise
                # compilers and kernels raise errors of any kind where they do not support a card or a shape
                self._fall_back(error)
                continue
            if stop - start == 1:
                raise CellgaugeError(
                    f"one cell of {batch.width} tokens does not fit in the memory of {self._device}; use another device"
                    " (`device: cpu`) or `precision: bf16`"
                )
            self._most_tokens = (stop - start) // 2 * batch.width
            self._halved += 1
            self._side.free_memory()
        return parts

    def _compute(self, arrays: list[np.ndarray]) -> Any:
        from cellgauge.inference.kernels import kernels

        tensors = self._side.upload(arrays)
        began = self._side.mark()
        with in_precision(self._precision, self._device), kernels(self._level, self._device):
            rows = self._forward(*tensors).float()
        return self._side.download(rows), began, self._side.mark()

    def _finish(self, batch: MiniBatch, parts: list[Any]) -> tuple[MiniBatch, np.ndarray]:
        """Return a mini-batch and its rows, after they have arrived."""
        arrays = []
        for rows, began, ended in parts:
            self._computing += self._side.seconds(began, ended)  # waits for the mark, which comes after the rows
            arrays.append(rows.numpy())
        self._cells += len(batch.rows)
        self._tokens += batch.tokens
        return batch, np.concatenate(arrays)

    def _fall_back(self, error: Exception) -> None:
        """Go one level of kernels down, for the rest of the run."""
        from cellgauge.inference.kernels import LEVELS

        self._failures.append(f"{self._level}: {type(error).__name__}: {one_line(error)[:300]}")
        print(f"kernels of level {self._failures[-1]}; going on with a lower level", file=sys.stderr, flush=True)
        self._level = LEVELS[LEVELS.index(self._level) - 1]


class Host:
    """The device is the CPU, or one that PyTorch copies to and from like it: all steps at once, and nothing is measured."""

    def __init__(self, device: str) -> None:
        self._device = device

    def is_fast(self) -> bool:
        """Return whether the device multiplies faster in the precisions of FAST_PRECISIONS."""
        return False

    def upload(self, arrays: list[np.ndarray]) -> list[torch.Tensor]:
        """Return arrays as tensors on the device."""
        import torch

        return [torch.from_numpy(array).to(self._device) for array in arrays]

    def download(self, rows: torch.Tensor) -> torch.Tensor:
        """Return a tensor in the host's memory that `rows` are copied to before the next `mark` is passed."""
        return rows.cpu()

    def mark(self) -> Any:
        """Return a point in time of the device's work."""
        return None

    def seconds(self, began: Any, ended: Any) -> float:
        """Wait until the mark `ended` is passed and return the seconds between the marks."""
        return 0.0

    @contextmanager
    def counting(self) -> Iterator[Callable[[], int]]:
        """Yield a function that returns the operations of the block; 0 where they decide nothing."""
        yield lambda: 0

    def free_memory(self) -> None:
        """Give unused memory back, so that blocks of another size can be allocated."""

    def reset_peak_memory(self) -> None:
        """Begin to measure the peak memory."""

    def peak_memory(self) -> int:
        """Return the bytes of the peak memory since it was reset."""
        return 0


class Gpu(Host):
    """An NVIDIA GPU. Copies to it have a stream of their own; pinned memory is reused by PyTorch's allocator."""

    def __init__(self, device: str) -> None:
        import torch

        super().__init__(device)
        self._copies = torch.cuda.Stream(device)

    def is_fast(self) -> bool:
        import torch

        return torch.cuda.get_device_capability(self._device) >= (8, 0)

    def upload(self, arrays: list[np.ndarray]) -> list[torch.Tensor]:
        import torch

        pinned = [torch.from_numpy(array).pin_memory() for array in arrays]
        with torch.cuda.stream(self._copies):
            tensors = [tensor.to(self._device, non_blocking=True) for tensor in pinned]
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._copies)
        for tensor in tensors:
            tensor.record_stream(computing)  # its memory is free again when the computing has passed it
        return tensors

    def download(self, rows: torch.Tensor) -> torch.Tensor:
        import torch

        pinned = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
        return pinned.copy_(rows, non_blocking=True)

    def mark(self) -> torch.cuda.Event:
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(self, began: torch.cuda.Event, ended: torch.cuda.Event) -> float:
        ended.synchronize()
        return began.elapsed_time(ended) / 1000

    @contextmanager
    def counting(self) -> Iterator[Callable[[], int]]:
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            yield counter.get_total_flops

    def free_memory(self) -> None:
        import torch

        torch.cuda.empty_cache()

    def reset_peak_memory(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats(self._device)

    def peak_memory(self) -> int:
        import torch

        return torch.cuda.max_memory_allocated(self._device)


@contextmanager
def in_precision(precision: str, device: str) -> Iterator[None]:
    """Compute matrix products in one of `PRECISIONS`. Weights, sums and normalizations stay float32."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def deviation(rows: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Return how far rows are from those of fp32, see `Network.facts`; both have shape (n, n_columns)."""
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(reference, axis=1)
    return {
        "fp32_max_deviation": float(np.abs(rows - reference).max()),
        "fp32_min_cosine": float(((rows * reference).sum(axis=1) / np.maximum(norms, 1e-30)).min()),
    }

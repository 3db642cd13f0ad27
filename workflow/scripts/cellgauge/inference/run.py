"""Run a network over the cells of a split: read, tokenize, form mini-batches, compute, and store the rows in order.

    blocks of CSR rows -> records of single cells -> windows -> mini-batches of similar lengths -> device -> rows of the matrix

A thread prepares a few mini-batches ahead of the device, or processes of their own prepare whole windows (`HostPipeline`).
Apart from the returned matrix, memory use does not grow with the number of cells.
"""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellgauge.core import spawned, threads
from cellgauge.core.errors import CellgaugeError

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_matrix

    from cellgauge.files.split import Split

PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True, slots=True)
class Record:
    """One tokenized cell.

    Attributes:
        arrays: whatever the adapter's `collate` takes.
        length: number of tokens that the network computes for the cell.
    """

    arrays: tuple[np.ndarray, ...]
    length: int


class Encoder(Protocol):
    """What an adapter passes to `embed_split`: the steps that depend on the model.

    `tokenize` and `collate` may run in other processes, on a copy without networks and tensors (`host_part`).

    Attributes:
        n_dims: number of columns of the embedding.
        in_order: True if cells must be tokenized one after the other, because they share one stream of random numbers.
            Optional, False by default.
    """

    n_dims: int

    def tokenize(self, counts: csr_matrix, cells: Sequence[str]) -> Iterable[Record | None]:
        """Yield the record of each row of `counts` (n, n_genes), in order; None for a cell that cannot be embedded."""

    def collate(self, records: Sequence[Record]) -> tuple[np.ndarray, ...]:
        """Return the arrays of one mini-batch; the first axis of each array runs over its cells."""

    def forward(self, *arrays: torch.Tensor) -> torch.Tensor:
        """Return the embeddings, shape (batch, n_dims), from the arrays of `collate` as tensors on the device."""


def embed_split(
    split: Split,
    encoder: Encoder,
    *,
    device: str,
    precision: str = "fp32",
    tokens_per_batch: int | None = None,
    cells_per_window: int = 2048,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the embedding, float32, shape (n_cells, n_dims), in the split's order, and facts about the run.

    Args:
        precision: "fp32" is the reference; "tf32" (NVIDIA) and "bf16" report their deviation from it.
        tokens_per_batch: most tokens of a mini-batch, padding included (default: `default_tokens` of the device). A
            mini-batch holds at least one cell.
        cells_per_window: number of embeddable cells that are sorted by length before they are divided into mini-batches.
            The division changes no result. For a model where it would, `tokens_per_batch=math.inf` makes every window
            one mini-batch.

    Raises:
        CellgaugeError: a single cell does not fit in the device's memory, or the network returns a value that is not finite.
    """
    import torch

    from cellgauge.inference.onednn import onednn

    tokens_per_batch = tokens_per_batch or default_tokens(device)
    matrix = np.full((len(split.cells), encoder.n_dims), np.nan, dtype=np.float32)
    network = Network(encoder.forward, device)
    facts: dict[str, Any] = {}
    began = time.perf_counter()
    n_processes = default_processes(device)
    pipeline = HostPipeline(split, encoder, tokens_per_batch, cells_per_window, n_processes)
    with pipeline as batches, torch.inference_mode(), onednn(device):
        for batch in batches:
            with in_precision(precision, device):
                rows = network(batch)
            if precision != "fp32" and not facts:
                compared = time.perf_counter()
                facts = deviation(rows, batch, encoder.forward, device)
                began += time.perf_counter() - compared  # the comparison is not part of the model's time
            if not np.isfinite(rows).all():
                cell = split.cells[batch.rows[np.argmin(np.isfinite(rows).all(axis=1))]]
                raise CellgaugeError(
                    f"split {split.name} of {split.dataset}: the network returns values that are not finite for cell"
                    f" '{cell}'; the checkpoint may be damaged"
                    + (", or try precision fp32" if precision != "fp32" else "")
                )
            matrix[batch.rows] = rows
    embedded = int(np.isfinite(matrix[:, 0]).sum())
    seconds = time.perf_counter() - began
    return matrix, {
        "precision": precision,
        "cells_per_second": embedded / seconds,
        "halved_batches": network.halved,
        **network.device_facts(),
        **facts,
    }


def default_tokens(device: str) -> int:
    """Return the default number of tokens of a mini-batch, padding included, for a device."""
    return 131_072 if device.startswith("cuda") else 8192


def default_processes(device: str) -> int:
    """Return the default number of processes that prepare mini-batches: 0, which is a thread, on a CPU.

    On a GPU they are the threads of the job but one, which starts the kernels. On a CPU the network takes all threads, and
    hardly any of the time goes into preparing cells.
    """
    return threads.n_threads() - 1 if device.startswith("cuda") and spawned.AVAILABLE else 0


def require_matches(matched: int, possible: int, least: float, what: str, split: Split) -> None:
    """Raise CellgaugeError if a model knows too few genes of a split.

    Args:
        matched: number of genes of the split that the model knows.
        possible: number of genes that could match: the smaller of the split's and the model's numbers of genes.
        least: the fraction of them that must match (the option `min_matched_genes`).
        what: a name of the model's vocabulary for the message, such as "the vocabulary of scGPT".

    Raises:
        CellgaugeError: fewer match. The message gives the numbers.
    """
    if matched < least * possible or not matched:
        examples = ", ".join(f"'{name}'" for name in split.symbols[:3])
        raise CellgaugeError(
            f"split {split.name} of {split.dataset}: {matched} of {possible} genes that could match are in {what}, but"
            f" `min_matched_genes` requires a fraction of {least:g} (symbols of the split: {examples}, ...; ids:"
            f" '{split.genes[0]}', ...)"
        )


def cell_generator(seed: int, cell: str) -> np.random.Generator:
    """Return the random generator of one cell. It depends on the seed and the id alone, not on other cells or their order."""
    # words of 32 bits, as numpy divides a list of the seed and the digest's words, which takes longer
    words = (
        seed.to_bytes(4 * max(1, -(-seed.bit_length() // 32)), "little")
        + blake2b(cell.encode(), digest_size=16).digest()
    )
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(np.frombuffer(words, dtype="<u4"))))


def cell_generators(random_stream: str, seed: int, official: Callable[[int], Any]) -> Callable[[str], Any]:
    """Return a function from a cell's id to its random generator, according to the option `random_stream`.

    Args:
        random_stream: "cell" gives each cell its own `cell_generator`; "official" gives all cells, in order, the single
            generator that the official code draws from.
        official: creates that generator from the seed. It must offer the methods of numpy's Generator that the model uses.

    Raises:
        CellgaugeError: `random_stream` is neither.
    """
    if random_stream == "cell":
        return partial(cell_generator, seed)
    if random_stream == "official":
        single = official(seed)
        return lambda cell: single
    raise CellgaugeError(f"random_stream must be 'cell' or 'official', not '{random_stream}'")


def padded(arrays: Sequence[np.ndarray], fill: float, width: int | None = None) -> np.ndarray:
    """Return 1-d arrays as the rows of one array, padded with `fill`: shape (len(arrays), width or the longest length)."""
    width = max(map(len, arrays)) if width is None else width
    rows = np.full((len(arrays), width), fill, dtype=arrays[0].dtype)
    for row, values in zip(rows, arrays, strict=True):
        row[: len(values)] = values
    return rows


def key_mask(lengths: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Return (mask,), bool (batch, longest), True on tokens and False on padding; () if nothing is padded.

    Attention without a mask is faster and gives the same result. Return the mask last from `collate`.
    """
    lengths = np.asarray(lengths)
    return () if (lengths == lengths.max()).all() else (np.arange(lengths.max()) < lengths[:, None],)


# --- from the split to mini-batches ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MiniBatch:
    """Cells that the network computes together.

    Attributes:
        rows: positions of the cells in the split, shape (n,).
        arrays: what the adapter's `collate` returned; the first axis of each has length n.
        width: number of tokens of each cell, padding included.
    """

    rows: np.ndarray
    arrays: tuple[np.ndarray, ...]
    width: int


def _mini_batches(
    split: Split, encoder: Encoder, budget: float, window: int, first: int = 0, last: int | None = None
) -> Iterator[MiniBatch]:
    """Yield the mini-batches of the cells from `first` up to `last` (default: all cells)."""
    records = _records(split, encoder, first, last)
    while pairs := list(islice(records, window)):
        # the sort is stable, so the mini-batches are the same on every machine
        pairs.sort(key=lambda pair: pair[1].length)
        start = 0
        while start < len(pairs):
            stop = start + 1
            while stop < len(pairs) and (stop + 1 - start) * pairs[stop][1].length <= budget:
                stop += 1
            batch = pairs[start:stop]
            rows = np.asarray([row for row, _ in batch])
            yield MiniBatch(rows, encoder.collate([record for _, record in batch]), batch[-1][1].length)
            start = stop


def _records(split: Split, encoder: Encoder, first: int, last: int | None) -> Iterator[tuple[int, Record]]:
    for start, counts in split.count_blocks(first=first, last=last):
        cells = split.cells[start : start + counts.shape[0]]
        for row, record in enumerate(encoder.tokenize(counts, cells), start):
            if record is not None:
                yield row, record


def _windows(split: Split, encoder: Encoder, budget: float, window: int, k: int, n: int) -> Iterator[list[MiniBatch]]:
    """Yield the mini-batches of every `n`-th window, beginning with the `k`-th. A window is `window` cells of the split."""
    for first in range(k * window, len(split.cells), n * window):
        yield list(_mini_batches(split, encoder, budget, window, first, first + window))


def host_part(encoder: Encoder) -> Encoder:
    """Return a copy of an encoder that tokenizes and collates only: without its networks, its tensors and `forward`."""
    import torch

    part = copy(encoder)
    of_device = [name for name, value in vars(part).items() if isinstance(value, torch.nn.Module | torch.Tensor)]
    for name in (*of_device, "forward"):
        vars(part).pop(name, None)
    return part


class HostPipeline:
    """The mini-batches of a split, in order, prepared while the network computes. To be used in a `with` statement.

    Args:
        split, encoder: what to embed, and how.
        budget, window: `tokens_per_batch` and `cells_per_window` of `embed_split`.
        n_processes: number of processes that prepare windows, two at most each. 0 is a thread of this process, which prepares
            `ahead` mini-batches. So are encoders with `in_order`, and windows that must not be divided (an infinite budget).

    Attributes:
        seconds_waited: how long the caller waited for mini-batches so far, including the first, which takes longest.
    """

    def __init__(
        self, split: Split, encoder: Encoder, budget: float, window: int, n_processes: int = 0, ahead: int = 3
    ) -> None:
        self.seconds_waited, self._ahead = 0.0, ahead
        self._processes = None
        if n_processes and math.isfinite(budget) and not getattr(encoder, "in_order", False):
            parts = partial(_windows, split, host_part(encoder), budget, window)
            self._processes = spawned.Spawned(parts, min(n_processes, -(-len(split.cells) // window)))
            self._batches: Iterator[MiniBatch] = iter(self._processes)
        else:
            self._batches = _mini_batches(split, encoder, budget, window)

    def __enter__(self) -> Iterator[MiniBatch]:
        self._prefetching = self._prefetched()
        return self._prefetching

    def __exit__(self, *error: object) -> None:
        if self._processes:
            self._processes.close()  # first: the thread may be reading from them
        self._prefetching.close()

    def _prefetched(self) -> Iterator[MiniBatch]:
        """Yield the mini-batches while a thread fetches up to `ahead` further ones."""
        with ThreadPoolExecutor(1, thread_name_prefix="tokenize") as pool:
            pending = deque(pool.submit(next, self._batches, None) for _ in range(self._ahead))
            while (batch := self._next(pending)) is not None:
                pending.append(pool.submit(next, self._batches, None))
                yield batch

    def _next(self, pending: deque[Future[MiniBatch | None]]) -> MiniBatch | None:
        began = time.perf_counter()
        try:
            return pending.popleft().result()
        finally:
            self.seconds_waited += time.perf_counter() - began


# --- on the device ---------------------------------------------------------------------------------------------------


class Network:
    """A network on a device. A mini-batch that does not fit in memory is halved, and so are all later ones of its size.

    Args:
        forward: takes the arrays of a mini-batch as tensors on the device and returns one row per cell.

    Attributes:
        halved: number of times that the size was halved.
    """

    def __init__(self, forward: Callable[..., torch.Tensor], device: str) -> None:
        self._forward, self._device = forward, device
        self._most_tokens = sys.maxsize
        self._seconds, self._peak = 0.0, 0
        self.halved = 0

    def __call__(self, batch: MiniBatch) -> np.ndarray:
        """Return the results of a mini-batch, float32, shape (batch, n_columns).

        Raises:
            CellgaugeError: a single cell does not fit in memory.
        """
        import torch

        began = time.perf_counter()
        on_gpu = self._device.startswith("cuda")
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(
                self._device
            )  # other networks may have raised it since the last mini-batch
        parts: list[np.ndarray] = []
        start, size = 0, len(batch.rows)
        while start < size:
            stop = int(min(size, start + max(1, self._most_tokens // batch.width)))
            try:
                tensors = [torch.from_numpy(array[start:stop]).to(self._device) for array in batch.arrays]
                parts.append(self._forward(*tensors).float().cpu().numpy())
                start = stop
                continue
            except torch.OutOfMemoryError:
                # the exception holds the failed attempt's memory until this block ends
                tensors = []
            if stop - start == 1:
                raise CellgaugeError(
                    f"one cell of {batch.width} tokens does not fit in the memory of {self._device}; use another device"
                    " (`device: cpu`) or `precision: bf16`"
                )
            self._most_tokens = (stop - start) // 2 * batch.width
            self.halved += 1
            if on_gpu:
                torch.cuda.empty_cache()
        if on_gpu:
            self._peak = max(self._peak, torch.cuda.max_memory_allocated(self._device))
        self._seconds += time.perf_counter() - began
        return np.concatenate(parts)

    def device_facts(self) -> dict[str, float]:
        """Return gpu_seconds and peak_gpu_memory_mb (MiB) of all mini-batches so far; both are 0 without a GPU."""
        if not self._device.startswith("cuda"):
            return {"gpu_seconds": 0.0, "peak_gpu_memory_mb": 0.0}
        return {"gpu_seconds": self._seconds, "peak_gpu_memory_mb": self._peak / 2**20}


@contextmanager
def in_precision(precision: str, device: str) -> Iterator[None]:
    """Compute matrix products in a precision. Weights, sums and normalizations stay float32.

    Raises:
        CellgaugeError: an unknown precision, or one that the device does not have.
    """
    import torch

    if precision not in PRECISIONS:
        raise CellgaugeError(f"precision must be one of {', '.join(PRECISIONS)}, not '{precision}'")
    if precision == "tf32" and not device.startswith("cuda"):
        raise CellgaugeError(f"precision 'tf32' needs an NVIDIA GPU, the device is {device}; set `precision: fp32`")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def deviation(
    rows: np.ndarray, batch: MiniBatch, forward: Callable[..., torch.Tensor], device: str
) -> dict[str, float]:
    """Return how far results of a lower precision are from those of fp32.

    A separate Network computes the comparison, so that its time and memory do not count as the model's.

    Args:
        rows: the results of the lower precision for `batch`, shape (batch, n_columns).

    Returns:
        fp32_max_deviation, the largest absolute difference, and fp32_min_cosine, the lowest cosine similarity of a row.
    """
    with in_precision("fp32", device):
        reference = Network(forward, device)(batch)
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(reference, axis=1)
    return {
        "fp32_max_deviation": float(np.abs(rows - reference).max()),
        "fp32_min_cosine": float(((rows * reference).sum(axis=1) / np.maximum(norms, 1e-30)).min()),
    }

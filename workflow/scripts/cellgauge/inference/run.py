"""Run a network over the cells of a split: read, tokenise, batch, compute, and put every row where it belongs.

    blocks of CSR rows -> records of single cells -> windows -> batches of about equal length -> device -> rows of the matrix

A thread does all that comes before the device, a few batches ahead. Memory does not grow with the number of cells but for
the matrix that is returned.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from cellgauge.core.errors import CellgaugeError

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_matrix

    from cellgauge.files.split import Split

T = TypeVar("T")
PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True, slots=True)
class Record:
    """One tokenised cell: arrays as the adapter likes them, and how many tokens it costs the network."""

    arrays: tuple[np.ndarray, ...]
    length: int


class Encoder(Protocol):
    """What an adapter brings along.

    Attributes:
        n_dims: columns of the embedding.
    """

    n_dims: int

    def tokenise(self, counts: csr_matrix, cells: Sequence[str]) -> Iterable[Record | None]:
        """Yield the record of each row of `counts` (n, n_genes), in order; None for a cell that cannot be embedded."""

    def collate(self, records: Sequence[Record]) -> tuple[np.ndarray, ...]:
        """Return the arrays of one batch; the first axis of each is the batch."""

    def forward(self, *arrays: torch.Tensor) -> torch.Tensor:
        """Return the embeddings, shape (batch, n_dims), of what `collate` made, now on the device."""


def embed_split(
    split: Split,
    encoder: Encoder,
    *,
    device: str,
    precision: str = "fp32",
    tokens_per_batch: int | None = None,
    cells_per_window: int = 2048,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the embedding, float32, shape (n_cells, n_dims), in the split's order, and facts of the run.

    Args:
        precision: "fp32" is the reference; "tf32" (NVIDIA) and "bf16" report how far they are from it.
        tokens_per_batch: tokens of a batch, padding included (default: what suits the device); at least one cell.
        cells_per_window: among so many embeddable cells batches are formed of equal lengths. What a batch holds changes
            no result; with `tokens_per_batch=math.inf` a window is one batch, for a model of which that is not true.

    Raises:
        CellgaugeError: one cell alone does not fit the device, or the network yields a value that is not finite.
    """
    import torch

    from cellgauge.inference.onednn import onednn

    tokens_per_batch = tokens_per_batch or default_tokens(device)
    matrix = np.full((len(split.cells), encoder.n_dims), np.nan, dtype=np.float32)
    network = Network(encoder.forward, device)
    facts: dict[str, Any] = {}
    began = time.perf_counter()
    with torch.inference_mode(), onednn(device):
        for batch in _prefetched(_batches(split, encoder, tokens_per_batch, cells_per_window)):
            with in_precision(precision, device):
                rows = network(batch)
            if precision != "fp32" and not facts:
                compared = time.perf_counter()
                facts = deviation(rows, batch, encoder.forward, device)
                began += time.perf_counter() - compared  # the comparison counts neither here nor as seconds of the GPU
            if not np.isfinite(rows).all():
                cell = split.cells[batch.rows[np.argmin(np.isfinite(rows).all(axis=1))]]
                raise CellgaugeError(
                    f"split {split.name} of {split.dataset}: the network yields values that are not finite for cell"
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
    """Return how many tokens of a batch, padding included, suit a device."""
    return 131_072 if device.startswith("cuda") else 8192


def require_matches(matched: int, possible: int, least: float, what: str, split: Split) -> None:
    """Stop where too few genes of a split are known to a model.

    Args:
        matched: genes of the split that the model knows.
        possible: genes that could match: the fewer of the split's genes and the model's.
        least: the share of them that must match (the option `min_matched_genes`).
        what: the model's vocabulary in words, such as "the vocabulary of scGPT".

    Raises:
        CellgaugeError: saying how many match.
    """
    if matched < least * possible or not matched:
        examples = ", ".join(f"'{name}'" for name in split.symbols[:3])
        raise CellgaugeError(
            f"split {split.name} of {split.dataset}: {matched} of {possible} genes that could match are in {what}, fewer"
            f" than the share {least:g} that `min_matched_genes` asks for (its symbols are such as {examples}, its ids"
            f" such as '{split.genes[0]}')"
        )


def cell_generator(seed: int, cell: str) -> np.random.Generator:
    """Return the random generator of one cell: the same whatever other cells there are, and in whatever order."""
    digest = blake2b(cell.encode(), digest_size=16).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, dtype="<u4").tolist()])


def cell_generators(random_stream: str, seed: int, official: Callable[[int], Any]) -> Callable[[str], Any]:
    """Return what gives the generator of a cell, by the option `random_stream`.

    Args:
        random_stream: "cell" gives each its `cell_generator`; "official" gives all, in their order, the one generator that
            the official code draws from.
        official: makes that one of the seed; it must offer the methods of numpy's Generator that the model uses.
    """
    if random_stream == "cell":
        return lambda cell: cell_generator(seed, cell)
    if random_stream == "official":
        single = official(seed)
        return lambda cell: single
    raise CellgaugeError(f"random_stream must be 'cell' or 'official', not '{random_stream}'")


def padded(arrays: Sequence[np.ndarray], fill: float, width: int | None = None) -> np.ndarray:
    """Return 1-d arrays as the rows of one, shape (len(arrays), width or the longest), ended with `fill`."""
    width = max(map(len, arrays)) if width is None else width
    rows = np.full((len(arrays), width), fill, dtype=arrays[0].dtype)
    for row, values in zip(rows, arrays, strict=True):
        row[: len(values)] = values
    return rows


def key_mask(lengths: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Return (mask,), bool (batch, longest), True on tokens and False on padding; () where nothing is padded.

    Attention without a mask is faster, and equal: put this last among what `collate` returns.
    """
    lengths = np.asarray(lengths)
    return () if (lengths == lengths.max()).all() else (np.arange(lengths.max()) < lengths[:, None],)


# --- from the split to batches ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows that a batch computes, its arrays (first axis: these rows), and the tokens of one row (padding included)."""

    rows: np.ndarray
    arrays: tuple[np.ndarray, ...]
    width: int


def _batches(split: Split, encoder: Encoder, budget: float, window: int) -> Iterator[Batch]:
    records = _records(split, encoder)
    while pairs := list(islice(records, window)):
        # stable, so that the batches are the same wherever this runs
        pairs.sort(key=lambda pair: pair[1].length)
        start = 0
        while start < len(pairs):
            stop = start + 1
            while stop < len(pairs) and (stop + 1 - start) * pairs[stop][1].length <= budget:
                stop += 1
            chosen = pairs[start:stop]
            rows = np.asarray([row for row, _ in chosen])
            yield Batch(rows, encoder.collate([record for _, record in chosen]), chosen[-1][1].length)
            start = stop


def _records(split: Split, encoder: Encoder) -> Iterator[tuple[int, Record]]:
    for start, counts in split.count_blocks():
        cells = split.cells[start : start + counts.shape[0]]
        for row, record in enumerate(encoder.tokenise(counts, cells), start):
            if record is not None:
                yield row, record


def _prefetched(items: Iterator[T], ahead: int = 3) -> Iterator[T]:
    """Yield `items` while a thread makes the next ones."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="tokenise") as pool:
        pending = deque(pool.submit(next, items, end) for _ in range(ahead))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, items, end))
            yield item


# --- on the device ---------------------------------------------------------------------------------------------------


class Network:
    """Computes batches on a device, in smaller parts once one did not fit its memory.

    Args:
        forward: from the arrays of a batch, as tensors on the device, to one row of results for each of its rows.

    Attributes:
        halved: how often the parts were made smaller.
    """

    def __init__(self, forward: Callable[..., torch.Tensor], device: str) -> None:
        self._forward, self._device = forward, device
        self._most_tokens = sys.maxsize
        self._seconds, self._peak = 0.0, 0
        self.halved = 0

    def __call__(self, batch: Batch) -> np.ndarray:
        """Return float32, shape (batch, columns of the results)."""
        import torch

        began = time.perf_counter()
        on_gpu = self._device.startswith("cuda")
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self._device)  # which others have moved since the last batch
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
                # what the failed attempt holds is only free outside of this block
                tensors = []
            if stop - start == 1:
                raise CellgaugeError(
                    f"one cell of {batch.width} tokens does not fit the memory of {self._device}; use another device"
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
        """Return gpu_seconds and peak_gpu_memory_mb (MiB) of the batches so far; 0 where no GPU computed."""
        if not self._device.startswith("cuda"):
            return {"gpu_seconds": 0.0, "peak_gpu_memory_mb": 0.0}
        return {"gpu_seconds": self._seconds, "peak_gpu_memory_mb": self._peak / 2**20}


@contextmanager
def in_precision(precision: str, device: str) -> Iterator[None]:
    """Compute products of matrices in this precision; weights, sums and normalisations stay float32."""
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


def deviation(rows: np.ndarray, batch: Batch, forward: Callable[..., torch.Tensor], device: str) -> dict[str, float]:
    """Return how far `rows` (batch, columns), which a lower precision made of a batch, are from what fp32 makes of it.

    The network of the comparison is one of its own, so that it counts in no other's facts.

    Returns:
        fp32_max_deviation, the largest absolute difference, and fp32_min_cosine, the least cosine of two rows.
    """
    with in_precision("fp32", device):
        reference = Network(forward, device)(batch)
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(reference, axis=1)
    return {
        "fp32_max_deviation": float(np.abs(rows - reference).max()),
        "fp32_min_cosine": float(((rows * reference).sum(axis=1) / np.maximum(norms, 1e-30)).min()),
    }

"""Run a network over the cells of a split: read, tokenize, form mini-batches, compute, and store the rows in order.

    blocks of CSR rows -> records of single cells -> windows -> mini-batches of similar lengths -> device -> rows of the matrix

A thread prepares a few mini-batches ahead of the device, or processes of their own prepare whole windows (`host_pipeline`).
Apart from the returned matrix, memory use does not grow with the number of cells.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellgauge.core import spawned, threads
from cellgauge.core.errors import CellgaugeError
from cellgauge.inference import windows
from cellgauge.inference.device import MiniBatch, Network, default_tokens

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_matrix

    from cellgauge.files.split import Split

AHEAD = 3  # mini-batches that a thread prepares while the network computes


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
    precision: str = "auto",
    tokens_per_batch: int | None = None,
    cells_per_window: int | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the embedding, float32, shape (n_cells, n_dims), in the split's order, and facts about the run.

    Args:
        precision: "fp32" is the reference; "tf32" (NVIDIA) and "bf16" report their deviation from it. "auto" takes on an
            NVIDIA GPU the fastest that agrees with it, elsewhere fp32 (see `device.Network`).
        tokens_per_batch: most tokens of a mini-batch, padding included (default: `default_tokens` of the device). A
            mini-batch holds at least one cell.
        cells_per_window: number of cells of the split that are sorted by length before they are divided into mini-batches
            (default: `windows.WINDOW`). The division changes no result but by rounding. For a model where it would,
            `tokens_per_batch=math.inf` makes so many embeddable cells one mini-batch.

    Raises:
        CellgaugeError: a single cell does not fit in the device's memory, or the network returns a value that is not finite.
    """
    import torch

    from cellgauge.inference.onednn import onednn

    tokens_per_batch, window = tokens_per_batch or default_tokens(device), cells_per_window or windows.WINDOW
    matrix = np.full((len(split.cells), encoder.n_dims), np.nan, dtype=np.float32)
    network = Network(encoder.forward, device, precision, len(split.cells))
    pipeline = host_pipeline(split, encoder, tokens_per_batch, window, default_processes(device))
    with pipeline as batches, torch.inference_mode(), onednn(device):
        # all parts of a split are computed as its first mini-batch decides
        of_whole = _mini_batches(split.whole, encoder, tokens_per_batch, window, 0, window)
        if split.rows.start and (first := next(of_whole, None)):
            network.choose(first)
        for batch, rows in network.run(batches):
            if not np.isfinite(rows).all():
                cell = split.cells[batch.rows[np.argmin(np.isfinite(rows).all(axis=1))]]
                remedy = "" if network.facts()["precision"] == "fp32" else ", or try precision fp32"
                raise CellgaugeError(
                    f"split {split.name} of {split.dataset}: the network returns values that are not finite for cell"
                    f" '{cell}'; the checkpoint may be damaged{remedy}"
                )
            matrix[batch.rows] = rows
    return matrix, network.facts()


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
        what: what the message calls the model's vocabulary, such as "the vocabulary of scGPT".
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
    words = seed.to_bytes(4 * max(1, -(-seed.bit_length() // 32)), "little")
    words += blake2b(cell.encode(), digest_size=16).digest()
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


def padded(arrays: Sequence[np.ndarray], fill: float) -> np.ndarray:
    """Return 1-d arrays as the rows of one array, padded with `fill`: shape (len(arrays), the longest length)."""
    rows = np.full((len(arrays), max(map(len, arrays))), fill, dtype=arrays[0].dtype)
    for row, values in zip(rows, arrays, strict=True):
        row[: len(values)] = values
    return rows


def key_mask(lengths: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Return (mask,), bool (batch, longest), True on tokens and False on padding; () if nothing is padded.

    Attention without a mask is faster and gives the same result. Return the mask last from `collate`.
    """
    lengths = np.asarray(lengths)
    return () if (lengths == lengths.max()).all() else (np.arange(lengths.max()) < lengths[:, None],)


def _mini_batches(
    split: Split, encoder: Encoder, budget: float, window: int, first: int = 0, last: int | None = None
) -> Iterator[MiniBatch]:
    """Yield the mini-batches of the cells from `first` up to `last` (default: all cells)."""
    records = _records(split, encoder, first, last)
    while pairs := list(islice(records, window)):
        # the longest first: memory that does not suffice shows at once, and cells that were cut to one length, the longest,
        # fill mini-batches that need no mask; the sort is stable, so the mini-batches are the same on every machine
        pairs.sort(key=lambda pair: -pair[1].length)
        start = 0
        while start < len(pairs):
            stop = start + 1
            while stop < len(pairs) and (stop + 1 - start) * pairs[start][1].length <= budget:
                stop += 1
            batch = pairs[start:stop]
            rows = np.asarray([row for row, _ in batch])
            members = [record for _, record in batch]
            tokens = sum(record.length for record in members)
            yield MiniBatch(rows, encoder.collate(members), members[0].length, tokens)
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


@contextmanager
def host_pipeline(
    split: Split, encoder: Encoder, budget: float, window: int, n_processes: int = 0
) -> Iterator[Iterator[MiniBatch]]:
    """Yield the mini-batches of a split, in order, prepared while the network computes.

    Args:
        budget, window: `tokens_per_batch` and `cells_per_window` of `embed_split`.
        n_processes: number of processes that prepare windows, two at most each. 0 is a thread of this process, which prepares
            a few mini-batches. So are encoders with `in_order`, and windows that must not be divided (an infinite budget).
    """
    processes = None
    batches = _mini_batches(split, encoder, budget, window)
    if n_processes and math.isfinite(budget) and not getattr(encoder, "in_order", False):
        parts = partial(_windows, split, host_part(encoder), budget, window)
        processes = spawned.Spawned(parts, min(n_processes, -(-len(split.cells) // window)))
        batches = iter(processes)
    elif math.isfinite(budget):  # windows begin at the same cells as in processes, and in every part of the split
        starts = range(0, len(split.cells), window)
        batches = chain.from_iterable(_mini_batches(split, encoder, budget, window, at, at + window) for at in starts)
    prefetched = _prefetched(batches)
    try:
        yield prefetched
    finally:
        if processes:
            processes.close()  # first: the thread may be reading from them
        prefetched.close()


def _prefetched(batches: Iterator[MiniBatch]) -> Iterator[MiniBatch]:
    """Yield the mini-batches while a thread fetches up to `AHEAD` further ones."""
    with ThreadPoolExecutor(1, thread_name_prefix="tokenize") as pool:
        pending = deque(pool.submit(next, batches, None) for _ in range(AHEAD))
        while (batch := pending.popleft().result()) is not None:
            pending.append(pool.submit(next, batches, None))
            yield batch

"""Run a network over the cells of a split: read, tokenize, form mini-batches, compute, and store the rows in order.

    blocks of CSR rows -> records of single cells -> windows -> mini-batches of similar lengths -> device -> rows of the matrix

A thread prepares a few mini-batches ahead of the device. Apart from the returned matrix, memory use does not grow with the
number of cells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from cellgauge.core.errors import CellgaugeError
from cellgauge.inference.device import MiniBatch, Network, default_tokens

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_matrix

    from cellgauge.files.split import Split

T = TypeVar("T")


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

    Attributes:
        n_dims: number of columns of the embedding.
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
    cells_per_window: int = 2048,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the embedding, float32, shape (n_cells, n_dims), in the split's order, and facts about the run.

    Args:
        precision: "fp32" is the reference; "tf32" (NVIDIA) and "bf16" report their deviation from it. "auto" takes on an
            NVIDIA GPU the fastest that agrees with it, elsewhere fp32 (see `device.Network`).
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
    network = Network(encoder.forward, device, precision, len(split.cells))
    batches = _prefetched(_mini_batches(split, encoder, tokens_per_batch, cells_per_window))
    with torch.inference_mode(), onednn(device):
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
    digest = blake2b(cell.encode(), digest_size=16).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, dtype="<u4").tolist()])


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
        return lambda cell: cell_generator(seed, cell)
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


def _mini_batches(split: Split, encoder: Encoder, budget: float, window: int) -> Iterator[MiniBatch]:
    cells = _records(split, encoder)
    while pairs := list(islice(cells, window)):
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
            records = [record for _, record in batch]
            tokens = sum(record.length for record in records)
            yield MiniBatch(rows, encoder.collate(records), records[0].length, tokens)
            start = stop


def _records(split: Split, encoder: Encoder) -> Iterator[tuple[int, Record]]:
    for start, counts in split.count_blocks():
        cells = split.cells[start : start + counts.shape[0]]
        for row, record in enumerate(encoder.tokenize(counts, cells), start):
            if record is not None:
                yield row, record


def _prefetched(items: Iterator[T], ahead: int = 3) -> Iterator[T]:
    """Yield `items` while a thread computes up to `ahead` further ones."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="tokenize") as pool:
        pending = deque(pool.submit(next, items, end) for _ in range(ahead))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, items, end))
            yield item

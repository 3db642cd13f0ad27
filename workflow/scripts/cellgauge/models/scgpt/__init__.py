"""scGPT (Cui et al. 2024), zero-shot: the embedding of `scgpt.tasks.embed_data`.

Weights: a folder with args.json, vocab.json and best_model.pt. Genes are matched by symbol, as they are written in the
vocabulary. A cell is the set of its expressed genes (there are no positions). A gene's value is its bin among the quantiles of
the cell, so a monotone transformation of a cell's counts changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

from cellgauge.core.errors import CellgaugeError
from cellgauge.files.split import Split
from cellgauge.inference.checkpoints import Checkpoint, find_file, read_json, read_once, read_vocabulary, weights_folder
from cellgauge.inference.run import Record, cell_generators, embed_split, key_mask, padded, require_matches
from cellgauge.models.base import Embedded
from cellgauge.models.scgpt.tokens import BINS, bins, quantile_edges

if TYPE_CHECKING:
    from cellgauge.models.scgpt.network import ScGPT

STOCHASTIC = True
NEEDS_DEVICE = True
PACKAGES = ("torch",)
CZBENCHMARKS = "SCGPT"
BY_CELL = {"random_stream": "cell"}

CELLS_AT_ONCE = 64  # that are tokenized together: their values stay in the processor's cache


def embed(
    cells: Split,
    weights: Path,
    *,
    device: str,
    seed: int,
    max_length: int = 1200,
    random_stream: str = "cell",
    min_matched_genes: float = 0.5,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
) -> Embedded:
    """Return the normalized output at <cls>, float32, shape (n_cells, embsize).

    Args:
        max_length: most tokens of a cell, including <cls>; genes of longer cells are sampled.
        random_stream: source of random numbers for the bins of values at tied quantiles and for sampling. "cell": a generator
            per cell; "official": a single generator for all cells in order, as in the official code with one worker.
    """
    if max_length < 2:
        raise CellgaugeError(f"scGPT: max_length must be at least 2, not {max_length}")
    folder = weights_folder(weights, "scGPT")
    heads, pad_value, vocabulary = _settings(folder)
    weights_file = find_file(folder, "best_model.pt")
    checkpoint, network = read_once(_network, weights_file, heads, pad_value)
    n_tokens, width = network.gene_rows.shape
    if n_tokens <= max(vocabulary.values()):
        raise CellgaugeError(
            f"{folder}: vocab.json has ids beyond the {n_tokens} tokens of best_model.pt; they do not belong together"
        )
    ids = np.asarray([vocabulary.get(symbol, -1) for symbol in cells.symbols])
    matched = int((ids >= 0).sum())
    require_matches(matched, min(len(ids), n_tokens), min_matched_genes, "the vocabulary of scGPT", cells)

    encoder = Encoder(width, network.to(device), ids, vocabulary["<cls>"], max_length, seed, random_stream)
    matrix, facts = embed_split(cells, encoder, device=device, precision=precision, tokens_per_batch=tokens_per_batch)
    return Embedded(matrix, cells.cells, {"matched_genes": matched, "revision": checkpoint.revision(), **facts})


def _network(checkpoint: Checkpoint, heads: int, pad_value: float) -> ScGPT:
    """Return the network with its tables filled."""
    import torch

    from cellgauge.models.scgpt.network import load_scgpt

    network = load_scgpt(checkpoint, heads)
    network.fill_tables(torch.tensor([pad_value, *range(1, BINS + 1)], dtype=torch.float32))
    return network


class Encoder:
    """Cells to embeddings; see `cellgauge.inference.run.Encoder`.

    A record is (ids of genes, positions of values), int64, shape (n_tokens,), <cls> first. Position 0 is the value of
    <cls>, position b is that of bin b.
    """

    def __init__(
        self, n_dims: int, network: ScGPT, ids: np.ndarray, cls: int, max_length: int, seed: int, random_stream: str
    ) -> None:
        self.n_dims, self.forward, self.in_order = n_dims, network, random_stream == "official"
        self._columns = np.flatnonzero(ids >= 0)
        self._ids, self._cls, self._max_genes = ids[self._columns], cls, max_length - 1
        self._generator_of = cell_generators(random_stream, seed, _OfficialStream)

    def tokenize(self, counts: csr_matrix, cells: Sequence[str]) -> Iterator[Record | None]:
        """Yield the record of each row of `counts` (n, n_genes of the split)."""
        known = counts[:, self._columns]
        for start in range(0, len(cells), CELLS_AT_ONCE):
            yield from self._tokenize(known[start : start + CELLS_AT_ONCE], cells[start : start + CELLS_AT_ONCE])

    def _tokenize(self, known: csr_matrix, cells: Sequence[str]) -> Iterator[Record | None]:
        sizes = np.diff(known.indptr)
        expressed = np.flatnonzero(sizes)
        if not len(expressed):
            yield from (None for _ in cells)
            return
        # <cls> takes the first place of each cell: the last of the values and of the genes, which is not the cells'
        places = np.full(len(cells) + int(np.minimum(sizes, self._max_genes).sum()), -1)
        uniform, ends, end = np.zeros(len(known.data) + 1), [0], 0
        for cell, start, size in zip(cells, known.indptr.tolist(), sizes.tolist(), strict=False):
            if size:
                generator = self._generator_of(cell)
                uniform[start : start + size] = generator.random(size)
                chosen = generator.permutation(size)[: self._max_genes] if size > self._max_genes else np.arange(size)
                places[end + 1 : end + 1 + len(chosen)] = chosen + start
                end += 1 + len(chosen)
            ends.append(end)
        places, lengths = places[:end], np.diff(ends)
        edges = quantile_edges(known.data, known.indptr[expressed], sizes[expressed])
        rows = np.repeat(np.arange(len(expressed)), lengths[expressed])
        values = bins(np.append(known.data, np.float32(0))[places], uniform[places], rows, edges)
        values[np.asarray(ends)[expressed]] = 0
        genes = np.append(self._ids[known.indices], self._cls)[places]
        for start, end in pairwise(ends):
            yield Record((genes[start:end], values[start:end]), end - start) if end > start else None

    def collate(self, records: Sequence[Record]) -> tuple[np.ndarray, ...]:
        """Return (genes, values), int64 (batch, longest), and the mask if there is padding."""
        genes, values = (padded([record.arrays[i] for record in records], 0) for i in (0, 1))
        return genes, values, *key_mask([record.length for record in records])


class _OfficialStream:
    """The random numbers of `embed_data` with one worker and the same seed for both: bins from numpy, samples from torch."""

    def __init__(self, seed: int) -> None:
        import torch

        self.random = np.random.RandomState(seed).random_sample
        self._torch = torch.Generator().manual_seed(seed)
        torch.empty((), dtype=torch.int64).random_(generator=self._torch)  # a DataLoader draws its own seed first

    def permutation(self, n: int) -> np.ndarray:
        import torch

        return torch.randperm(n, generator=self._torch).numpy()


def _settings(folder: Path) -> tuple[int, float, Mapping[str, int]]:
    """Return the number of heads and the value of <cls> in args.json, and the ids by symbol in vocab.json."""
    args = read_json(find_file(folder, "args.json"))
    vocabulary = read_vocabulary(find_file(folder, "vocab.json"), "<cls>")
    heads, pad_value = args.get("nheads"), args.get("pad_value")
    style = args.get("input_emb_style", "continuous")
    if not isinstance(heads, int) or not isinstance(pad_value, int | float) or style != "continuous":
        raise CellgaugeError(
            f"{folder}/args.json: not the settings of an scGPT with continuous values (nheads {heads!r}, pad_value"
            f" {pad_value!r}, input_emb_style {style!r})"
        )
    return heads, float(pad_value), vocabulary

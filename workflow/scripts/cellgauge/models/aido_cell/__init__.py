"""AIDO.Cell (Ho et al. 2024), zero-shot: the mean output over the genes of the data.

Weights: a folder with config.json, model.safetensors (or pytorch_model.bin) and the list of genes,
OS_scRNA_gene_index.19264.tsv. Genes are matched by symbol, as they are written in the list. Every gene of the list is a
token; genes that the data lack have count 0. Nothing is random.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

from cellgauge.core.errors import CellgaugeError
from cellgauge.files.split import Split
from cellgauge.inference.checkpoints import find_file, read_json, read_once, weights_folder
from cellgauge.inference.run import Record, embed_split, require_matches
from cellgauge.models.base import Embedded

if TYPE_CHECKING:
    import torch

    from cellgauge.models.aido_cell.network import AidoCell

NEEDS_DEVICE = True
PACKAGES = ("torch", "safetensors")
CZBENCHMARKS = "AIDO"
BY_CELL = {}

LIBRARY_SIZE = 1e4
MAX_VALUE = 20.0
MIN_LOG_DEPTH = 5.0
DEPTH_TOKENS = 2


def embed(
    cells: Split,
    weights: Path,
    *,
    device: str,
    seed: int,
    pool_depth: bool = False,
    round_input: bool = False,
    min_matched_genes: float = 0.5,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
) -> Embedded:
    """Return the mean output over the genes that the split has, float32, shape (n_cells, hidden_size).

    Args:
        pool_depth: average the two tokens of sequencing depth too, like the official script (cz-benchmarks does not).
        round_input: round the values to bfloat16 before the network, as the package modelgenerator does.
    """
    from cellgauge.models.aido_cell.network import Settings, load_aido_cell

    folder = weights_folder(weights, "AIDO.Cell")
    config = find_file(folder, "config.json")
    weights_file = find_file(folder, "model.safetensors", "pytorch_model.bin")
    checkpoint, network = read_once(load_aido_cell, weights_file, Settings.parse(read_json(config), config))
    genes = _gene_list(find_file(folder, "OS_scRNA_gene_index.*.tsv"))
    n_positions = network.position_embedding.num_embeddings
    if n_positions != len(genes) + DEPTH_TOKENS:
        raise CellgaugeError(
            f"{folder}: the network has {n_positions} positions, but the list has {len(genes)} genes, to which 2 tokens of"
            " depth are added; they do not belong together"
        )
    positions = np.asarray([genes.get(symbol, -1) for symbol in cells.symbols])
    matched = int((positions >= 0).sum())
    require_matches(matched, min(len(positions), len(genes)), min_matched_genes, "AIDO.Cell's list of genes", cells)

    network.fill_table()
    encoder = Encoder(network.to(device), positions, len(genes), pool_depth=pool_depth, round_input=round_input)
    matrix, facts = embed_split(cells, encoder, device=device, precision=precision, tokens_per_batch=tokens_per_batch)
    return Embedded(matrix, cells.cells, {"matched_genes": matched, "revision": checkpoint.revision(), **facts})


class Encoder:
    """Cells to embeddings; see `cellgauge.inference.run.Encoder`.

    A record is (positions int64, values float32) of the nonzero values, with the tokens of depth last.
    """

    def __init__(
        self, network: AidoCell, positions: np.ndarray, n_genes: int, *, pool_depth: bool, round_input: bool
    ) -> None:
        import torch

        self._network, self._n_genes, self._round = network, n_genes, round_input
        self.n_dims = network.position_embedding.embedding_dim
        # if a symbol has several columns, the last is used, as in cz-benchmarks
        last = {position: column for column, position in enumerate(positions) if position >= 0}
        self._columns = np.asarray(sorted(last.values()))
        self._positions = positions[self._columns]
        depth = range(n_genes, n_genes + DEPTH_TOKENS) if pool_depth else ()
        self._pooled = torch.tensor([*sorted(last), *depth], device=network.zeros.device)

    def tokenize(self, counts: csr_matrix, cells: Sequence[str]) -> Iterator[Record | None]:
        """Yield the record of each row of `counts` (n, n_genes of the split); None for a cell without a known gene."""
        known = counts[:, self._columns]
        depth_positions = self._n_genes + np.arange(DEPTH_TOKENS)
        for start, stop in zip(known.indptr, known.indptr[1:], strict=False):
            values = known.data[start:stop].astype(np.float64)
            total = values.sum()
            if not total:
                yield None
                continue
            depth = np.full(DEPTH_TOKENS, max(np.log10(total), MIN_LOG_DEPTH))
            values = np.minimum(np.append(np.log1p(values / total * LIBRARY_SIZE), depth), MAX_VALUE)
            positions = np.append(self._positions[known.indices[start:stop]], depth_positions)
            yield Record((positions, values.astype(np.float32)), self._n_genes + DEPTH_TOKENS)

    def collate(self, records: Sequence[Record]) -> tuple[np.ndarray, ...]:
        """Return positions and values, (batch, longest); shorter cells repeat their last position."""
        longest = max(len(record.arrays[0]) for record in records)
        positions, values = (
            np.stack([np.pad(r.arrays[i], (0, longest - len(r.arrays[i])), mode="edge") for r in records])
            for i in (0, 1)
        )
        return positions, values

    def forward(self, positions: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Return (batch, hidden_size)."""
        if self._round:
            values = values.bfloat16().float()
        return self._network(positions, values, self._pooled)


def _gene_list(path: Path) -> dict[str, int]:
    """Return the position of each gene from a table of symbol and index, separated by tabs, with a header."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        genes = {symbol: int(index) for symbol, index in (line.split("\t") for line in lines if line)}
    except ValueError as error:
        raise CellgaugeError(
            f"{path}: not AIDO.Cell's list of genes, with gene_name and index on each line ({error})"
        ) from None
    if sorted(genes.values()) != list(range(len(genes))):
        raise CellgaugeError(f"{path}: the genes are not numbered 0, 1, 2, ...; fetch the list again")
    return genes

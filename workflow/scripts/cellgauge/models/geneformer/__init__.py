"""Geneformer (Theodoris et al. 2023), zero-shot: the hidden states before the last layer, averaged over the genes of a cell.

Weights: a folder with config.json, model.safetensors and the dictionaries (see `cellgauge.models.geneformer.tokens`), in it
or in its subfolders. Genes are matched by Ensembl id, or by symbol if the data have no ids. Nothing is random.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.core.errors import CellgaugeError
from cellgauge.files.split import Split
from cellgauge.inference.checkpoints import find_file, read_json, read_once, weights_folder
from cellgauge.inference.run import Record, embed_split, key_mask, padded, require_matches
from cellgauge.models.base import Embedded
from cellgauge.models.geneformer.tokens import Ranker, read_dictionaries

if TYPE_CHECKING:
    import torch

    from cellgauge.models.geneformer.network import Geneformer

NEEDS_DEVICE = True
PACKAGES = ("torch", "transformers", "safetensors")
CZBENCHMARKS = "GENEFORMER"
BY_CELL = {}

POOLINGS = ("cell", "cls")


def embed(
    cells: Split,
    weights: Path,
    *,
    device: str,
    seed: int,
    pooling: str = "cell",
    layer: int = -1,
    max_length: int | None = None,
    min_matched_genes: float = 0.5,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
) -> Embedded:
    """Return hidden states, float32, shape (n_cells, hidden_size).

    Args:
        pooling: "cell" averages the hidden states of the genes, "cls" takes that of <cls>.
        layer: the layer of the hidden states: 0 is the last, -1 the one before it (the official setting), and so on.
        max_length: most tokens of a cell, including <cls> and <eos> (default: the model's number of positions). Genes of
            the lowest ranks are left out.
    """
    if pooling not in POOLINGS:
        raise CellgaugeError(f"Geneformer: pooling must be {' or '.join(map(repr, POOLINGS))}, not '{pooling}'")
    folder = weights_folder(weights, "Geneformer")
    weights_file = find_file(folder, "model.safetensors", "*/model.safetensors")
    settings = read_json(find_file(weights_file.parent, "config.json"))
    # after the files are checked: importing transformers takes seconds
    from cellgauge.models.geneformer.network import load_geneformer

    checkpoint, network = read_once(load_geneformer, weights_file, settings, layer, first_only=pooling == "cls")
    dictionaries, config = read_dictionaries(folder), network.bert.config
    if max(dictionaries.tokens.values()) >= config.vocab_size:
        raise CellgaugeError(
            f"{folder}: the dictionary has token ids up to {max(dictionaries.tokens.values())}, the network has"
            f" {config.vocab_size} tokens; they do not belong together"
        )
    n_positions = config.max_position_embeddings
    max_length = n_positions if max_length is None else max_length
    if not 3 <= max_length <= n_positions:
        raise CellgaugeError(f"Geneformer: max_length must be from 3 to {n_positions}, not {max_length}")
    ranker = Ranker(cells, dictionaries, max_length)
    possible = min(len(cells.genes), len(dictionaries.medians))
    require_matches(ranker.matched, possible, min_matched_genes, "the dictionaries of Geneformer", cells)

    encoder = Encoder(network.to(device), ranker, dictionaries.tokens["<pad>"], pooling)
    matrix, facts = embed_split(cells, encoder, device=device, precision=precision, tokens_per_batch=tokens_per_batch)
    return Embedded(matrix, cells.cells, {"matched_genes": ranker.matched, "revision": checkpoint.revision(), **facts})


class Encoder:
    """Cells to embeddings; see `cellgauge.inference.run.Encoder`. A record is what `Ranker` yields."""

    def __init__(self, network: Geneformer, ranker: Ranker, pad: int, pooling: str) -> None:
        self.tokenize, self._network, self._pad, self._pooling = ranker.tokenize, network, pad, pooling
        self.n_dims = network.bert.config.hidden_size

    def collate(self, records: Sequence[Record]) -> tuple[np.ndarray, ...]:
        """Return tokens, int64 (batch, longest), lengths (batch,), and the mask if there is padding."""
        lengths = np.asarray([record.length for record in records])
        return padded([record.arrays[0] for record in records], self._pad), lengths, *key_mask(lengths)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return (batch, hidden_size)."""
        import torch

        hidden = self._network(tokens, mask)
        if self._pooling == "cls":
            return hidden[:, 0]
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        genes = (positions > 0) & (positions < lengths[:, None] - 1)
        return (hidden * genes[..., None]).sum(dim=1) / (lengths[:, None] - 2)

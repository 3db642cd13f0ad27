"""scGPT as `scgpt.tasks.embed_data` of releases 0.2.1 to 0.2.5 runs it, on one worker."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import torch
from torch import Tensor, nn

BINS = 51
PAD_VALUE = -2


class Model(nn.Module):
    """`TransformerModel`, of which an embedding runs the encoders and the transformer."""

    def __init__(self, n_genes: int, width: int, heads: int, hidden: int, layers: int, pad: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_genes, width, padding_idx=pad)
        self.gene_norm = nn.LayerNorm(width)
        self.value = nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.LayerNorm(width))
        layer = nn.TransformerEncoderLayer(width, heads, hidden, 0.2, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers)

    def forward(self, genes: Tensor, values: Tensor, padding: Tensor) -> Tensor:
        tokens = self.gene_norm(self.embedding(genes)) + self.value(values.clamp(max=512)[..., None])
        return self.transformer(tokens, src_key_padding_mask=padding)


def embed(
    split: Path, weights: Path, *, seed: int = 42, device: str = "cpu", batch_size: int = 64, max_length: int = 1200
) -> np.ndarray:
    """Return the normalised output at <cls>, float32, shape (n_cells, width)."""
    args, vocabulary = (json.loads((weights / name).read_text()) for name in ("args.json", "vocab.json"))
    pad, cls = vocabulary["<pad>"], vocabulary["<cls>"]
    model = load(weights, args["nheads"], pad).to(device).eval()

    data = anndata.read_h5ad(split)
    ids = np.asarray([vocabulary.get(symbol, -1) for symbol in data.var["feature_name"]])
    counts = data[:, ids >= 0].X.toarray()
    ids = ids[ids >= 0]

    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.empty((), dtype=torch.int64).random_()  # a data loader draws a seed for its workers
    rows = []
    for start in range(0, len(counts), batch_size):
        cells = [tokenise(row, ids, cls) for row in counts[start : start + batch_size]]
        genes, values = collate(cells, min(max_length, max(len(g) for g, _ in cells)), pad)
        with torch.no_grad():
            output = model(genes.to(device), values.to(device), (genes == pad).to(device))
        rows.append(output[:, 0].float().cpu().numpy())
    matrix = np.concatenate(rows)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def load(weights: Path, heads: int, pad: int) -> Model:
    state = torch.load(weights / "best_model.pt", map_location="cpu", weights_only=True)
    n_genes, width = state["encoder.embedding.weight"].shape
    hidden = len(state["transformer_encoder.layers.0.linear1.weight"])
    layers = len({name.split(".")[2] for name in state if name.startswith("transformer_encoder.")})
    model = Model(n_genes, width, heads, hidden, layers, pad)
    names = {
        "encoder.embedding": "embedding",
        "encoder.enc_norm": "gene_norm",
        "value_encoder.linear1": "value.0",
        "value_encoder.linear2": "value.2",
        "value_encoder.norm": "value.3",
        "transformer_encoder": "transformer",
    }
    renamed = {}
    for name, tensor in state.items():
        prefix = next((prefix for prefix in names if name.startswith(f"{prefix}.")), None)
        if prefix:
            renamed[name.replace(prefix, names[prefix], 1).replace("Wqkv.", "in_proj_")] = tensor
    model.load_state_dict(renamed)
    return model


def tokenise(row: np.ndarray, ids: np.ndarray, cls: int) -> tuple[Tensor, Tensor]:
    """Return the genes and binned values of a cell, <cls> first."""
    expressed = np.nonzero(row)[0]
    values = row[expressed]
    edges = np.quantile(values, np.linspace(0, 1, BINS - 1))
    left, right = np.digitize(values, edges), np.digitize(values, edges, right=True)
    bins = np.ceil(np.random.rand(len(values)) * (right - left) + left)
    genes = torch.from_numpy(np.insert(ids[expressed], 0, cls))
    return genes, torch.from_numpy(np.insert(bins, 0, PAD_VALUE)).float()


def collate(cells: list[tuple[Tensor, Tensor]], width: int, pad: int) -> tuple[Tensor, Tensor]:
    """Sample longer cells, pad shorter ones."""
    genes, values = torch.full((len(cells), width), pad), torch.full((len(cells), width), float(PAD_VALUE))
    for row, (cell_genes, cell_values) in enumerate(cells):
        if len(cell_genes) > width:
            chosen = torch.cat(
                [torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(len(cell_genes) - 1)[: width - 1]]
            )
            cell_genes, cell_values = cell_genes[chosen], cell_values[chosen]
        genes[row, : len(cell_genes)] = cell_genes
        values[row, : len(cell_values)] = cell_values
    return genes, values

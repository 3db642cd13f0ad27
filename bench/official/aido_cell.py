"""AIDO.Cell as ModelGenerator's standalone copy `huggingface/aido.cell` runs it, pooled as cz-benchmarks does."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from torch import Tensor, nn


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


class Layer(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width, bias = config["hidden_size"], config["add_linear_bias"]
        norm = {"LayerNorm": nn.LayerNorm, "RMSNorm": RMSNorm}[config["normalization_type"]]
        self.heads = config["num_attention_heads"]
        self.attention_norm, self.norm = norm(width, config["layer_norm_eps"]), norm(width, config["layer_norm_eps"])
        self.query, self.key, self.value, self.output = (nn.Linear(width, width, bias=bias) for _ in range(4))
        self.up, self.gate = (nn.Linear(width, config["intermediate_size"], bias=bias) for _ in range(2))
        self.down = nn.Linear(config["intermediate_size"], width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.attention_norm(x)
        split = (
            linear(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        x = x + self.output(F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))
        normed = self.norm(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


class Model(nn.Module):
    """`CellFoundationModel`."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        width, bins = config["hidden_size"], config["bin_num"]
        self.alpha = config["bin_alpha"]
        self.linear1, self.linear2, self.lookup_table = (
            nn.Linear(1, bins),
            nn.Linear(bins, bins),
            nn.Embedding(bins, width),
        )
        self.position = nn.Embedding(config["max_position_embeddings"] + 2, width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))
        norm = {"LayerNorm": nn.LayerNorm, "RMSNorm": RMSNorm}[config["normalization_type"]]
        self.norm = norm(width, config["layer_norm_eps"])

    def forward(self, values: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Return the hidden states, (batch, n, width) each, the normalised last among them."""
        # the product of the masks of queries and keys is made and never read
        unread = None if mask is None else mask[:, None, None, :] * mask[:, None, :, None]
        activation = F.leaky_relu(self.linear1(values[..., None]), 0.1)
        weights = F.softmax(self.alpha * activation + self.linear2(activation), dim=-1)
        x = weights @ self.lookup_table.weight + self.position.weight
        states = [x]
        for layer in self.layers:
            x = layer(x)
            states.append(x)
        del unread
        states[-1] = self.norm(x)
        return states


def embed(
    split: Path, weights: Path, *, seed: int = 42, device: str = "cpu", batch_size: int = 1, unread_mask: bool = True
) -> np.ndarray:
    """Return the mean output over the genes that the data have, float32, shape (n_cells, width).

    Args:
        unread_mask: make the mask of all pairs of positions, 3 GB for a cell, as the official code does for nothing.
    """
    config = json.loads((weights / "config.json").read_text())
    model = load(weights, config).to(device).eval()
    (listed,) = weights.glob("OS_scRNA_gene_index.*.tsv")
    genes = [line.split("\t")[0] for line in listed.read_text().splitlines()[1:]]

    data = anndata.read_h5ad(split)
    column_of = {symbol: column for column, symbol in enumerate(data.var["feature_name"])}
    present = np.asarray([gene in column_of for gene in genes])
    counts = np.zeros((len(data), len(genes)), dtype=np.float32)
    counts[:, present] = data.X.toarray()[:, [column_of[gene] for gene in genes if gene in column_of]]

    rows = []
    for start in range(0, len(counts), batch_size):
        values = preprocess(counts[start : start + batch_size])
        mask = torch.ones(values.shape, dtype=torch.float64, device=device) if unread_mask else None
        with torch.no_grad():
            states = model(values.to(device), mask)
        rows.append(states[-1][:, :-2][:, present].mean(dim=1).float().cpu().numpy())
    return np.concatenate(rows)


def preprocess(counts: np.ndarray) -> Tensor:
    """Return log1p of counts of 10,000 and two tokens of depth, at most 20."""
    totals = counts.sum(axis=1, dtype=np.float64)[:, None]
    depth = np.maximum(np.log10(totals), 5)
    values = np.concatenate([np.log1p(counts / totals * 1e4), depth, depth], axis=1)
    return torch.from_numpy(np.minimum(values, 20).astype(np.float32))


def load(weights: Path, config: dict) -> Model:
    names = {
        "gene_embedding.": "",
        "position_embedding": "position",
        "encoder.layer.": "layers.",
        "encoder.ln": "norm",
        "attention.ln": "attention_norm",
        "attention.self.": "",
        "attention.output.dense": "output",
        ".ln.": ".norm.",
        "mlp.": "",
        "_proj": "",
    }
    state = {}
    for name, tensor in load_file(weights / "model.safetensors").items():
        if name.startswith("cls.") or "mask_embedding" in name or "pad_embedding" in name:
            continue
        name = name.removeprefix("bert.")
        for old, new in names.items():
            name = name.replace(old, new)
        state[name] = tensor
    model = Model(config)
    model.load_state_dict(state)
    return model

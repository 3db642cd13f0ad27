"""Geneformer as its tokeniser and `EmbExtractor` at commit 69e6887 run it, the way cz-benchmarks calls them."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from cellgauge.inference.checkpoints import read_pickled_dict

TARGET_SUM = 10_000


class Layer(nn.Module):
    """A layer of BERT."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        width, eps = config["hidden_size"], config["layer_norm_eps"]
        self.heads = config["num_attention_heads"]
        self.query, self.key, self.value, self.dense = (nn.Linear(width, width) for _ in range(4))
        self.intermediate = nn.Linear(width, config["intermediate_size"])
        self.output = nn.Linear(config["intermediate_size"], width)
        self.attention_norm, self.output_norm = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        x = self.attention_norm(self.dense(attended) + x)
        return self.output_norm(self.output(F.relu(self.intermediate(x))) + x)


class Model(nn.Module):
    """`BertForMaskedLM` with all hidden states."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        width, eps = config["hidden_size"], config["layer_norm_eps"]
        self.words = nn.Embedding(config["vocab_size"], width, padding_idx=0)
        self.positions = nn.Embedding(config["max_position_embeddings"], width)
        self.types = nn.Embedding(config["type_vocab_size"], width)
        self.norm = nn.LayerNorm(width, eps)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))
        self.transform, self.transform_norm = nn.Linear(width, width), nn.LayerNorm(width, eps)
        self.bias = nn.Parameter(torch.zeros(config["vocab_size"]))

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits of all genes at every place and the hidden states."""
        x = self.words(ids) + self.types.weight[0] + self.positions.weight[: ids.shape[1]]
        states = [self.norm(x)]
        hidden = None if mask.all() else mask[:, None, None].expand(-1, 1, ids.shape[1], -1)
        for layer in self.layers:
            states.append(layer(states[-1], hidden))
        predicted = self.transform_norm(F.relu(self.transform(states[-1])))
        return F.linear(predicted, self.words.weight, self.bias), states


def embed(
    split: Path, weights: Path, *, seed: int = 42, device: str = "cpu", batch_size: int = 32, mode: str = "cell"
) -> np.ndarray:
    """Return the hidden states before the last layer, averaged over genes ("cell") or at <cls> ("cls"), (n_cells, width)."""
    config = json.loads(next(weights.rglob("model.safetensors")).with_name("config.json").read_text())
    model = load(weights, config).to(device).eval()
    cells = tokenise(anndata.read_h5ad(split), weights, config["max_position_embeddings"])

    # the longest first, so that too little memory is found out at once
    order = sorted(range(len(cells)), key=lambda cell: -len(cells[cell]))
    matrix = np.empty((len(cells), config["hidden_size"]), dtype=np.float32)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        lengths = torch.tensor([len(cells[cell]) for cell in batch])
        ids = torch.zeros(len(batch), int(lengths.max()), dtype=torch.int64)
        for row, cell in enumerate(batch):
            ids[row, : len(cells[cell])] = torch.from_numpy(cells[cell])
        with torch.no_grad():
            _, states = model(ids.to(device), (torch.arange(ids.shape[1]) < lengths[:, None]).to(device))
        # one layer before the last
        state = states[-2].float().cpu()
        if mode == "cls":
            matrix[batch] = state[:, 0].numpy()
        else:
            matrix[batch] = np.stack([s[1 : n - 1].mean(dim=0).numpy() for s, n in zip(state, lengths, strict=True)])
    return np.nan_to_num(matrix, nan=0.0)


def load(weights: Path, config: dict) -> Model:
    names = {
        "bert.embeddings.word_embeddings": "words",
        "bert.embeddings.position_embeddings": "positions",
        "bert.embeddings.token_type_embeddings": "types",
        "bert.embeddings.LayerNorm": "norm",
        "bert.encoder.layer.": "layers.",
        "attention.self.": "",
        "attention.output.dense": "dense",
        "attention.output.LayerNorm": "attention_norm",
        "intermediate.dense": "intermediate",
        "output.dense": "output",
        "output.LayerNorm": "output_norm",
        "cls.predictions.transform.dense": "transform",
        "cls.predictions.transform.LayerNorm": "transform_norm",
        "cls.predictions.bias": "bias",
    }
    state = {}
    for name, tensor in load_file(next(weights.rglob("model.safetensors"))).items():
        for old, new in names.items():
            name = name.replace(old, new)
        state[name] = tensor
    model = Model(config)
    model.load_state_dict(state)
    return model


def tokenise(data: anndata.AnnData, weights: Path, max_length: int) -> list[np.ndarray]:
    """Return the genes of each cell by falling rank, between <cls> and <eos>."""
    tokens, medians, mapping = (
        read_pickled_dict(next(weights.rglob(f"{name}*.pkl")), kinds)
        for name, kinds in (
            ("token_dictionary", int),
            ("gene_median_dictionary", (int, float)),
            ("ensembl_mapping_dict", str),
        )
    )
    totals = data.obs["n_counts"].to_numpy() if "n_counts" in data.obs else np.asarray(data.X.sum(axis=1)).ravel()
    genes = [mapping.get(name.upper(), "") for name in data.var_names]
    kept = [column for column, gene in enumerate(genes) if gene in tokens]
    columns = {gene: place for place, gene in enumerate(dict.fromkeys(genes[column] for column in kept))}
    collapse = csr_matrix(
        (np.ones(len(kept), np.float32), (kept, [columns[genes[column]] for column in kept])),
        (data.n_vars, len(columns)),
    )
    values = csr_matrix(data.X) @ collapse
    ids = np.asarray([tokens[gene] for gene in columns])
    values = values.multiply(1 / totals[:, None]).multiply(TARGET_SUM)
    values = csr_matrix(values.multiply(1 / np.asarray([medians[gene] for gene in columns])))
    cells = []
    for start, stop in zip(values.indptr, values.indptr[1:], strict=False):
        ranked = ids[values.indices[start:stop][np.argsort(-values.data[start:stop])]][: max_length - 2]
        cells.append(np.concatenate([[tokens["<cls>"]], ranked, [tokens["<eos>"]]]))
    return cells

"""TranscriptFormer as `run_inference` of the package transcriptformer 0.6.1 runs it, on the vocabulary it was trained on."""

from __future__ import annotations

import json
import math
from pathlib import Path

import anndata
import h5py
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.LayerNorm(hidden), nn.Identity(), nn.Linear(hidden, outputs)
    )


class Layer(nn.Module):
    def __init__(self, width: int, hidden: int, config: dict) -> None:
        super().__init__()
        self.heads, self.cap = config["num_heads"], config["softcap"]
        self.linears = nn.ModuleList(nn.Linear(width, width, bias=config["attn_bias"]) for _ in range(4))
        self.linear1 = nn.Linear(width, hidden, bias=config["fw_bias"])
        self.linear2 = nn.Linear(hidden, width, bias=config["fw_bias"])
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, logs: Tensor, seen: Tensor) -> Tensor:
        """Return (batch, n, width); `logs` (batch, n) are added to the logits of keys, `seen` is (batch, 1, n, n)."""
        x = self.norm1(x)
        q, k, v = (linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in self.linears[:3])
        logits = q @ k.mT / math.sqrt(q.shape[-1]) + logs[:, None, None]
        logits = self.cap * torch.tanh(logits / self.cap)
        weights = logits.masked_fill(~seen, -torch.inf).softmax(dim=-1).nan_to_num(0.0)
        x = x + self.linears[3]((weights @ v).transpose(1, 2).flatten(2))
        x = self.norm2(x)
        return x + self.linear2(F.gelu(self.linear1(x)))


class Model(nn.Module):
    """The encoder and both heads, which score every gene of the vocabulary at every position."""

    def __init__(self, state: dict[str, Tensor], config: dict) -> None:
        super().__init__()
        width = state["transformer_encoder.encoder_layers.0.norm1.weight"].numel()
        hidden = len(state["transformer_encoder.encoder_layers.0.linear1.weight"])
        n_tokens, protein = state["gene_embeddings.embedding.weight"].shape
        self.eps = config["log_counts_eps"]
        self.embedding = nn.Embedding(n_tokens, protein)
        self.genes = mlp(protein, len(state["gene_embeddings.mlp.layers.0.weight"]), width)
        self.assay = nn.Embedding(*state["aux_embeddings.assay.weight"].shape)
        self.layers = nn.ModuleList(Layer(width, hidden, config) for _ in range(config["num_layers"]))
        self.mu, self.mu_bias = mlp(2 * width, len(state["mu.mlp.layers.0.weight"]), 1), nn.Embedding(n_tokens, 1)
        self.gene_id = mlp(width, len(state["gene_id_head.layers.0.weight"]), n_tokens)
        names = {
            "gene_embeddings.embedding": "embedding",
            "gene_embeddings.mlp.layers": "genes",
            "aux_embeddings.assay": "assay",
            "transformer_encoder.encoder_layers": "layers",
            "self_attn.linears": "linears",
            "mu.gene_embedding": "mu_bias",
            "mu.mlp.layers": "mu",
            "gene_id_head.layers": "gene_id",
        }
        renamed = {}
        for name, tensor in state.items():
            for old, new in names.items():
                name = name.replace(old, new)
            renamed[name] = tensor
        self.load_state_dict(renamed)

    def forward(self, tokens: Tensor, counts: Tensor, assay: Tensor, start: int, pad: int) -> Tensor:
        """Return (batch, width) for tokens and counts (batch, seq_len) and the assay (batch, 1)."""
        tokens = torch.cat([torch.full_like(assay, start), tokens[:, :-1]], dim=1)
        genes = self.genes(self.embedding(tokens))
        x = torch.cat([self.assay(assay), genes], dim=1)
        ones = torch.ones_like(counts[:, :1])
        logs = torch.log1p(torch.cat([ones, ones, counts[:, :-1]], dim=1) + self.eps)
        counted = tokens != pad
        keys = torch.cat([assay != 0, counted], dim=1)
        n = x.shape[1]
        seen = torch.ones(n, n, dtype=torch.bool, device=x.device).tril() & keys[:, None, None]
        for layer in self.layers:
            x = layer(x, logs, seen)
        x = x[:, 1:]
        self.heads(x, genes, tokens)
        return (x * counted[..., None]).sum(dim=1) / x.shape[1]

    def heads(self, x: Tensor, genes: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return what an embedding does not need: the expected counts and the logits of the next gene."""
        mu = (self.mu(torch.cat([x, genes], dim=-1)) + self.mu_bias(tokens)).softmax(dim=1)
        return mu, self.gene_id(x)


def embed(split: Path, weights: Path, *, seed: int = 42, device: str = "cpu", batch_size: int = 8) -> np.ndarray:
    """Return the sum of the outputs over a cell by the number of positions, float32, shape (n_cells, width)."""
    config = json.loads((weights / "config.json").read_text())["model"]
    state = torch.load(weights / "model_weights.pt", map_location="cpu", weights_only=True)
    model = Model(state, config["model_config"]).to(device).eval()
    del state
    settings, length = config["data_config"], config["model_config"]["seq_len"]
    special = settings["special_tokens"]
    start, pad = special.index("[START]"), special.index("[PAD]")

    data = anndata.read_h5ad(split)
    tokens, counts = tokenise(data, vocabulary(weights, settings, len(special)), length, pad, settings["clip_counts"])
    values = json.loads((weights / "vocabs" / "assay_vocab.json").read_text())
    assays = np.asarray([[values.get(assay, 0)] for assay in data.obs["assay"]])
    rows = []
    for first in range(0, len(tokens), batch_size):
        batch = slice(first, first + batch_size)
        arrays = (torch.from_numpy(array[batch]).to(device) for array in (tokens, counts, assays))
        with torch.no_grad():
            rows.append(model(*arrays, start, pad).float().cpu().numpy())
    return np.concatenate(rows)


def vocabulary(weights: Path, settings: dict, first: int) -> dict[str, int]:
    """Return the token of each gene: those of one species after the other, after the special ones."""
    names = []
    for file in settings["esm2_mappings"]:
        with h5py.File(weights / "vocabs" / file) as content:
            names += [name.decode() for name in content["keys"][:]]
    return {name: token for token, name in enumerate(names, first)}


def tokenise(
    data: anndata.AnnData, genes: dict[str, int], length: int, pad: int, clip: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens and clipped counts of the first genes that a cell expresses, (n_cells, length) each."""
    ids = np.asarray([genes.get(name.split(".")[0], -1) for name in data.var_names])
    counts, ids = data.X.toarray()[:, ids >= 0], ids[ids >= 0]
    tokens = np.full((len(counts), length), pad)
    values = np.zeros((len(counts), length), dtype=np.float32)
    for row, cell in enumerate(counts):
        expressed = np.flatnonzero(cell)[:length]
        tokens[row, : len(expressed)] = ids[expressed]
        values[row, : len(expressed)] = np.minimum(cell[expressed], clip)
    return tokens, values

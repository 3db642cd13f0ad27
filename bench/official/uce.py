"""UCE as snap-stanford/UCE's `eval_single_anndata.py` runs it, for a species that it was trained on."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import anndata
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cellgauge.inference.checkpoints import read_pickled_dict

HEADS_OF = 64
CLS, END = 3, 2
BUFFER = 1536


class Model(nn.Module):
    """`TransformerModel`: the protein vectors of every token are projected, and every token is decoded."""

    def __init__(self, state: dict[str, Tensor], heads: int | None) -> None:
        super().__init__()
        width, protein = state["encoder.0.weight"].shape
        hidden = len(state["transformer_encoder.layers.0.linear1.weight"])
        layers = len({name.split(".")[2] for name in state if name.startswith("transformer_encoder.")})
        self.width = width
        self.encoder = nn.Sequential(nn.Linear(protein, width), nn.GELU(), nn.LayerNorm(width))
        self.register_buffer("positions", state["pos_encoder.pe"])
        layer = nn.TransformerEncoderLayer(width, heads or width // HEADS_OF, hidden, 0.05)
        self.transformer_encoder = nn.TransformerEncoder(layer, layers)
        blocks, last = [], width
        while (key := f"decoder.{len(blocks)}.0.weight") in state:
            blocks.append(nn.Sequential(nn.Linear(last, len(state[key])), nn.LayerNorm(len(state[key])), nn.GELU()))
            last = len(state[key])
        output = len(state[f"decoder.{len(blocks)}.weight"])
        self.decoder = nn.Sequential(*blocks, nn.Linear(last, output))
        self.pe_embedding = nn.Embedding.from_pretrained(state["pe_embedding.weight"])
        names = ("encoder.", "transformer_encoder.", "decoder.")
        self.load_state_dict({k: v for k, v in state.items() if k.startswith(names)}, strict=False)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return (batch, n_dims) for tokens and mask (batch, n); 1 in the mask is a token, 0 padding."""
        vectors = F.normalize(self.pe_embedding(tokens.T), dim=2)  # (n, batch, protein)
        x = self.encoder(vectors) * math.sqrt(self.width) + self.positions[: len(vectors)]
        # the mask is of numbers, so that it adds 1 to the logits of padding instead of hiding it
        x = self.transformer_encoder(x, src_key_padding_mask=1 - mask)
        return F.normalize(self.decoder(x)[0], dim=1)


def embed(
    split: Path,
    weights: Path,
    *,
    seed: int = 42,
    device: str = "cpu",
    batch_size: int = 25,
    species: str = "human",
    heads: int | None = None,
    sample_size: int = 1024,
    min_cells: int = 10,
    min_genes: int = 25,
    chromosome_offset: int | None = None,
) -> np.ndarray:
    """Return the normalised output of the decoder at CLS, float32, shape (n_cells, n_dims); NaN for cells it filters."""
    (checkpoint,) = weights.glob("*.torch")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    places = gene_places(weights / "model_files", species)
    n_chromosomes = 1 + max(code for _, code, _ in places.values())
    offset = len(state["pe_embedding.weight"]) - n_chromosomes if chromosome_offset is None else chromosome_offset
    model = Model(state, heads).to(device).eval()
    del state

    data = anndata.read_h5ad(split)
    expressed = data.X.toarray() > 0
    genes = expressed.sum(axis=0) >= min_cells
    kept = np.flatnonzero(expressed[:, genes].sum(axis=1) >= min_genes)
    symbols = data.var["feature_name"].str.upper().to_numpy()
    genes &= [symbol in places for symbol in symbols]
    counts = data.X.toarray()[kept][:, genes].astype(np.int64)
    tokens, chromosomes, starts = np.asarray([places[symbol] for symbol in symbols[genes]]).T

    np.random.seed(seed)
    sentences = [sentence(row, tokens, chromosomes, starts, sample_size, offset) for row in counts]
    rows = []
    for first in range(0, len(sentences), batch_size):
        batch = sentences[first : first + batch_size]
        ids, mask = np.zeros((len(batch), BUFFER), dtype=np.int64), np.zeros((len(batch), BUFFER), dtype=np.float32)
        for row, cell in enumerate(batch):
            ids[row, : len(cell)], mask[row, : len(cell)] = cell, 1
        longest = max(map(len, batch))
        with torch.no_grad():
            arrays = (torch.from_numpy(array[:, :longest]).to(device) for array in (ids, mask))
            rows.append(model(*arrays).float().cpu().numpy())
    matrix = np.concatenate(rows)
    full = np.full((len(data), matrix.shape[1]), np.nan, dtype=np.float32)
    full[kept] = matrix
    return full


def gene_places(files: Path, species: str) -> dict[str, tuple[int, int, int]]:
    """Return (token, code of the chromosome, start) by symbol."""
    offset = read_pickled_dict(files / "species_offsets.pkl", int)[species]
    scientific = {"human": "Homo_sapiens", "mouse": "Mus_musculus"}.get(species, species.capitalize())
    (proteins,) = (files / "protein_embeddings").glob(f"{scientific}*.pt")
    symbols = dict.fromkeys(symbol.upper() for symbol in torch.load(proteins, weights_only=True))
    with (files / "species_chrom.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    codes = sorted({f"{row['species']}_{row['chromosome']}" for row in rows})
    codes = {name: code for code, name in enumerate(codes)}
    lines = {row["gene_symbol"].upper(): row for row in rows if row["species"] == species}
    return {
        symbol: (token, codes[f"{species}_{lines[symbol]['chromosome']}"], int(lines[symbol]["start"]))
        for token, symbol in enumerate(symbols, offset)
        if symbol in lines
    }


def sentence(
    counts: np.ndarray, tokens: np.ndarray, chromosomes: np.ndarray, starts: np.ndarray, size: int, offset: int
) -> np.ndarray:
    """Return the sampled tokens of a cell, grouped by chromosome."""
    logs = torch.log1p(torch.from_numpy(counts))
    weights = (logs / logs.sum()).numpy()
    weights = weights / sum(weights)
    chosen = np.random.choice(len(counts), size=size, p=weights, replace=True)
    order = np.unique(chromosomes[chosen])
    np.random.shuffle(order)
    cell = [CLS]
    for chromosome in order:
        genes = chosen[chromosomes[chosen] == chromosome]
        cell += [offset + chromosome, *tokens[genes[np.argsort(starts[genes])]], END]
    return np.asarray(cell)

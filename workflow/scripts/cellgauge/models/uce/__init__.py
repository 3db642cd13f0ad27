"""Universal Cell Embeddings (Rosen et al. 2023), zero-shot: 4 or 33 layers.

Weights: a folder with one .torch and model_files/ (see `cellgauge.models.uce.tokens`). Genes are matched by symbol, ignoring
case. A cell is a sample of its genes with weights log(1 + count), grouped by chromosome in random order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.organisms import Organism, organism
from cellgauge.files.split import Split
from cellgauge.inference.checkpoints import Checkpoint, find_file, open_tensor, read_once, weights_folder
from cellgauge.inference.run import Record, embed_split, key_mask, padded, require_matches
from cellgauge.models.base import Embedded
from cellgauge.models.uce.new_species import build_species as build
from cellgauge.models.uce.tokens import CLS, END, PADDING, Sentences, read_species

if TYPE_CHECKING:
    import torch

    from cellgauge.models.uce.network import UCE

STOCHASTIC = True
NEEDS_DEVICE = True
PACKAGES = ("torch",)
CZBENCHMARKS = "UCE"
BY_CELL = {"random_stream": "cell", "padding": "hidden", "min_cells": 0}


def embed(
    cells: Split,
    weights: Path,
    *,
    device: str,
    seed: int,
    checkpoint: str = "",
    species: str = "",
    species_files: Mapping[str, str] | None = None,
    heads: int | None = None,
    sample_size: int = 1024,
    min_cells: int = 0,
    min_genes: int = 0,
    padding: str = "hidden",
    batch_size: int = 25,
    random_stream: str = "cell",
    min_matched_genes: float = 0.5,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
) -> Embedded:
    """Return the normalized output of the decoder at CLS, float32, shape (n_cells, n_dims).

    Args:
        checkpoint: the name of the .torch, if there are several.
        species: the organism whose genes to use (default: the split's).
        species_files: {organism: folder} with official files of added species.
        heads: number of attention heads (default: one per 64 dimensions, as in the released models).
        sample_size: number of genes to sample for a cell.
        min_cells, min_genes: filter out genes in fewer cells, then cells with fewer genes (the official code: 10 and 25).
        padding: "hidden" masks padding. "additive" adds 1 to the logits of padding like the official code, so that a cell's
            embedding depends on the other cells of its mini-batch: `batch_size` cells in the split's order.
        random_stream: "cell" uses a generator per cell; "official" a single one for all cells in order.
    """
    from cellgauge.models.uce.network import load_uce

    if padding not in ("hidden", "additive"):
        raise CellgaugeError(f"UCE: padding must be 'hidden' or 'additive', not '{padding}'")
    folder = weights_folder(weights, "UCE")
    target = organism(species or cells.organism)
    added = {organism(name).name: Path(path) for name, path in (species_files or {}).items()}
    files = added.get(target.name, folder / "model_files")
    genes = read_species(files, target)
    loci = genes.loci_of(cells.symbols)
    matched = int((loci[:, 0] >= 0).sum())
    require_matches(matched, min(len(loci), len(genes.loci)), min_matched_genes, f"UCE's genes of {genes.name}", cells)

    tensors, network = read_once(load_uce, find_file(folder, checkpoint or "*.torch"), heads)
    network.to(device)
    proteins = _proteins(tensors, files, genes.n_chromosomes, required=target.name in added)
    first_chromosome = len(proteins) - genes.n_chromosomes
    if genes.tokens.stop > first_chromosome:
        raise CellgaugeError(
            f"{files}: the tokens of {genes.name} end at {genes.tokens.stop}, but those of chromosomes start at"
            f" {first_chromosome} of {len(proteins)}; the files and the checkpoint do not belong together"
        )
    n_cells = sum(counts.getnnz(axis=0) for _, counts in cells.count_blocks()) if min_cells else np.zeros(len(loci))
    filtered = np.flatnonzero(n_cells >= min_cells)
    sentences = Sentences(loci, first_chromosome, filtered, sample_size, min_genes, seed, random_stream)
    encoder = Encoder(sentences, network, proteins, additive=padding == "additive")
    budget, window = (math.inf, batch_size) if padding == "additive" else (tokens_per_batch, None)
    matrix, facts = embed_split(
        cells, encoder, device=device, precision=precision, tokens_per_batch=budget, cells_per_window=window
    )
    model_facts = {"matched_genes": matched, "species": genes.name, "revision": tensors.revision()}
    return Embedded(matrix, cells.cells, {**model_facts, **facts})


def build_species(
    weights: Path, species: Organism, folder: Path, *, proteins: Path, genes: Path, checkpoint: str = ""
) -> str:
    """Write the files by which UCE takes a species that it was not trained on; see `new_species.build_species`.

    Args:
        checkpoint: the name of the .torch, where there are several.
    """
    return build(find_file(weights_folder(weights, "UCE"), checkpoint or "*.torch"), proteins, genes, species, folder)


class Encoder:
    """Cells to embeddings; see `inference.run.Encoder`. A record is what `Sentences` yields."""

    def __init__(self, sentences: Sentences, network: UCE, proteins: torch.Tensor, *, additive: bool) -> None:
        import torch

        self.tokenize, self.forward, self._additive = sentences.tokenize, network, additive
        self.in_order = sentences.in_order
        self.n_dims = network.decoder[-1].out_features
        used = np.unique([PADDING, END, CLS, *sentences.tokens, *range(sentences.first_chromosome, len(proteins))])
        network.fill_table(proteins, torch.from_numpy(used))
        self._row_of = np.zeros(len(proteins), dtype=np.int64)
        self._row_of[used] = np.arange(len(used))
        self._positions = len(network.pos_encoder.pe)

    def collate(self, records: Sequence[Record]) -> tuple[np.ndarray, ...]:
        """Return rows of the network's table, int64 (batch, longest), and the mask if there is padding."""
        tokens = padded([record.arrays[0] for record in records], PADDING)
        if tokens.shape[1] > self._positions:
            raise CellgaugeError(
                f"UCE: a cell of {tokens.shape[1]} tokens is longer than the network's {self._positions} positions"
            )
        masks = key_mask([record.length for record in records])
        if self._additive:
            masks = tuple((~mask).astype(np.float32) for mask in masks)
        return self._row_of[tokens], *masks


def _proteins(checkpoint: Checkpoint, files: Path, n_chromosomes: int, *, required: bool) -> torch.Tensor:
    """Return the vectors of all tokens, from the checkpoint or, for an added species, from its files; (n_tokens, width).

    Args:
        required: whether the files of the species must have vectors.
    """
    checkpoint.shape("pe_embedding.weight", 2)
    released = checkpoint.tensors["pe_embedding.weight"]
    path = files / "all_tokens.torch"
    if not path.is_file() and not required:
        return released
    added = open_tensor(path, ndim=2)
    if added.shape[1] != released.shape[1]:
        raise CellgaugeError(
            f"{path}: vectors have {added.shape[1]} dimensions, but the checkpoint needs {released.shape[1]}"
        )
    # the official file of the released species may lack the chromosomes' rows, which the checkpoint has
    return released if len(added) in (len(released), len(released) - n_chromosomes) else added

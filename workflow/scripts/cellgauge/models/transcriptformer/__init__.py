"""TranscriptFormer (Pearce et al. 2025), zero-shot: Sapiens, Exemplar, Metazoa; the mean output over START and genes.

Weights: a folder with config.json, model_weights.pt and vocabs/ (assay_vocab.json and an h5 of protein vectors for each
species that it was trained on), or a folder with several such folders. Other species need their h5 in all_embeddings/,
in the folder or beside it. Genes are matched by Ensembl id, without version. A cell is its expressed genes in the split's
order, up to the number of positions. Nothing is random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.organisms import Organism, organism
from cellgauge.files.split import Split
from cellgauge.inference.checkpoints import CheckpointError, find_file, read_json, read_once, weights_folder
from cellgauge.inference.run import Record, embed_split, padded, require_matches
from cellgauge.models.base import Embedded
from cellgauge.models.transcriptformer.tokens import Proteins, Sentences, Special

if TYPE_CHECKING:
    import torch

    from cellgauge.models.transcriptformer.network import TranscriptFormer

NEEDS_DEVICE = True
NEEDS_ENSEMBL = True
PACKAGES = ("torch", "h5py")
CZBENCHMARKS = "TRANSCRIPTFORMER"
BY_CELL = {}

UNKNOWN = "unknown"


def embed(
    cells: Split,
    weights: Path,
    *,
    device: str,
    seed: int,
    checkpoint: str = "",
    species_files: Mapping[str, str] | None = None,
    surgery: str = "fixed",
    clip_counts: float = 30.0,
    min_matched_genes: float = 0.5,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
) -> Embedded:
    """Return the sum of a cell's outputs divided by the number of positions, float32, shape (n_cells, embed_dim).

    Args:
        checkpoint: the checkpoint's folder, if `weights` has several.
        species_files: {organism: h5} with protein vectors of species that you add.
        surgery: "fixed" keeps the checkpoint's numbers of the special tokens. "official" replaces the vocabulary by the
            species' file of all_embeddings as the official code does, which confuses the special tokens: cells start with
            a token other than START, and padding is attended to and averaged.
        clip_counts: upper limit of counts.
    """
    import torch

    from cellgauge.models.transcriptformer.network import Settings, load_transcriptformer

    if surgery not in ("fixed", "official"):
        raise CellgaugeError(f"TranscriptFormer: surgery must be 'fixed' or 'official', not '{surgery}'")
    home = weights_folder(weights, "TranscriptFormer")
    home = weights_folder(home / checkpoint, "TranscriptFormer") if checkpoint else home
    config = find_file(home, "config.json")
    settings = Settings.parse(read_json(config), config)
    species = organism(cells.organism)
    added = {organism(name).name: path for name, path in (species_files or {}).items()}
    proteins = Proteins.open(_protein_file(home, species, added, trained=surgery == "fixed"))
    indices = proteins.indices_of(cells.genes)
    matched = int((indices >= 0).sum())
    possible, known = min(len(indices), len(proteins.index)), f"TranscriptFormer's genes of {species.name}"
    require_matches(matched, possible, min_matched_genes, known, cells)

    tensors, network = read_once(load_transcriptformer, find_file(home, "model_weights.pt"), settings)
    tables = [network.aux_embeddings[column].num_embeddings for column in settings.columns]
    covariates, unknown = _covariates(cells.whole, home, settings.columns, tables)
    special = Special.of(settings.special, surgery)
    rows = [settings.special.index(name) for name in special.order]
    special_rows = tensors.tensors["gene_embeddings.embedding.weight"][rows].float()
    distinct = {row.tobytes(): row for row in covariates}  # few, and shared by cells to save memory
    of_cell = {cell: distinct[row.tobytes()] for cell, row in zip(cells.whole.cells, covariates, strict=True)}
    sentences = Sentences(indices, special, settings.positions, clip_counts, of_cell)
    vectors = torch.from_numpy(proteins.vectors(indices[sentences.columns], special_rows.shape[1]))
    encoder = Encoder(sentences, network.to(device), torch.cat([special_rows, vectors]), unknown)
    matrix, facts = embed_split(cells, encoder, device=device, precision=precision, tokens_per_batch=tokens_per_batch)
    model_facts = {
        "matched_genes": matched,
        "species": species.name,
        "proteins": f"{proteins.path.parent.name}/{proteins.path.name}",
        "cells_of_unknown_assay": int((covariates[cells.rows] == np.asarray(unknown)).any(axis=1).sum()),
        "revision": tensors.revision(),
    }
    return Embedded(matrix, cells.cells, {**model_facts, **facts})


class Encoder:
    """Cells to embeddings; see `cellgauge.inference.run.Encoder`. A record is what `Sentences` yields."""

    def __init__(
        self, sentences: Sentences, network: TranscriptFormer, proteins: torch.Tensor, unknown: Sequence[int]
    ) -> None:
        self.tokenize, self.forward, self.n_dims = sentences.tokenize, network, network.width
        self._start, self._unknown = sentences.special.start, np.asarray(unknown, dtype=np.int64)
        network.fill_table(proteins)
        n_special = len(sentences.special.order)
        self._row_of = np.arange(max(sentences.tokens.max() + 1, n_special))
        self._row_of[sentences.tokens] = n_special + np.arange(len(sentences.tokens))

    def collate(self, records: Sequence[Record]) -> tuple[np.ndarray, ...]:
        """Return rows of the table and counts, (batch, longest), lengths (batch,), covariates and whether unknown."""
        tokens, counts, covariates = zip(*(record.arrays for record in records), strict=True)
        lengths, covariates = np.asarray([len(sentence) for sentence in tokens]), np.stack(covariates)
        rows = self._row_of[padded(tokens, self._start)]
        return rows, padded(counts, 0), lengths, covariates, covariates == self._unknown


def _protein_file(home: Path, species: Organism, added: Mapping[str, str], *, trained: bool) -> Path:
    """Return the h5 of a species: the user's, the checkpoint's if it was trained on the species, or that of all_embeddings."""
    if species.name in added:
        return Path(added[species.name])
    name = f"{species.scientific.lower().replace(' ', '_')}_gene.h5"
    folders = [home / "all_embeddings", home.parent / "all_embeddings"]
    folders = [home / "vocabs", *folders] if trained else folders
    path = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if path is None:
        files = sorted(path.name for folder in folders if folder.is_dir() for path in folder.glob("*_gene.h5"))
        raise CheckpointError(
            f"{home}: no file {name} in {' or '.join(folder.name for folder in folders[:2])} (found:"
            f" {', '.join(files) or 'nothing'}); name a file for {species.name} under `species_files` in the model's params"
        )
    return path


def _covariates(
    cells: Split, home: Path, columns: Sequence[str], tables: Sequence[int]
) -> tuple[np.ndarray, list[int]]:
    """Return the covariates of the cells, int64 (n_cells, n_columns), and the value of each column that means "unknown".

    Args:
        columns: columns of obs that the network takes as covariates.
        tables: number of values that the network has for each.
    """
    covariates, unknown = np.empty((len(cells.cells), len(columns)), dtype=np.int64), []
    for i, (column, size) in enumerate(zip(columns, tables, strict=True)):
        path = find_file(home, f"vocabs/{column}_vocab.json")
        values = read_json(path)
        wrong = next((name for name, value in values.items() if value not in range(size)), None)
        if UNKNOWN not in values or wrong is not None:
            fault = f"it gives '{wrong}' the value {values[wrong]!r}" if UNKNOWN in values else f"it lacks '{UNKNOWN}'"
            raise CheckpointError(f"{path}: not a vocabulary of a checkpoint with {size} values ({fault})")
        unknown.append(values[UNKNOWN])
        labels = cells.column(column) if column in cells.columns else [UNKNOWN] * len(cells.cells)
        covariates[:, i] = [values.get(label, values[UNKNOWN]) for label in labels]
    return covariates, unknown

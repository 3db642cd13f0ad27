"""Make the files by which UCE takes a species that it was not trained on.

They are what the official notebook for new species makes: tokens of padding and sentence from the checkpoint, then one
vector for each protein-coding gene, then one random vector for each chromosome, drawn from the species' NCBI taxon; and
beside them where each gene lies. Genes are named by symbols; a gene needs a protein vector and a place.
"""

from __future__ import annotations

import csv
import gzip
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cellgauge.core.atomic import atomic_path
from cellgauge.core.errors import CellgaugeError, one_line
from cellgauge.inference.checkpoints import REMEDY, Checkpoint

if TYPE_CHECKING:
    import torch

    from cellgauge.data.organisms import Organism

N_SPECIAL = 4
"""Rows of the checkpoint before those of genes: padding, the two ends of a chromosome, CLS."""

_PLACE = re.compile(r"\s[a-z_]+:[^:\s]*:([^:\s]+):(\d+):\d+(?::-?\d)?(?:\s|$)")
_SYMBOL = re.compile(r"\bgene_symbol:(\S+)")
_NAME = re.compile(r"\bgene_name \"([^\"]+)\"")


def build_species(checkpoint: Path, proteins: Path, genes: Path, species: Organism, folder: Path) -> str:
    """Write the files of a species into `folder` and return in a sentence what they hold.

    Args:
        checkpoint: UCE's .torch.
        proteins: a .pt of {symbol: vector}: means of ESM2's last layer, of the width that the checkpoint takes.
        genes: Ensembl's FASTA of peptides (its headers) or a GTF, plain or gzipped: where the genes lie.

    Raises:
        CellgaugeError: a file is missing, damaged or of another kind, or too few genes have both.
    """
    import torch

    own = Checkpoint.open(checkpoint)
    _, width = own.shape("pe_embedding.weight", 2)
    vectors = Checkpoint.open(proteins).tensors
    places = read_places(genes)
    kept: dict[str, str] = {}
    for symbol in vectors:
        if symbol.upper() in places:
            kept.setdefault(symbol.upper(), symbol)
    if 2 * len(kept) < min(len(vectors), len(places)):
        raise CellgaugeError(
            f"{len(kept)} of {len(vectors)} symbols of {proteins} (such as {', '.join(list(vectors)[:3])}) have a place in"
            f" {genes} (such as {', '.join(list(places)[:3])}), fewer than half; are they of one species?"
        )
    for symbol in kept.values():
        if vectors[symbol].shape != (width,):
            raise CellgaugeError(
                f"{proteins}: the vector of {symbol} has shape {tuple(vectors[symbol].shape)}, {own.path.name} takes"
                f" ({width},)"
            )
    chromosomes = sorted({places[symbol][0] for symbol in kept})
    generator = torch.Generator().manual_seed(species.taxon)
    parts = [
        own.tensors["pe_embedding.weight"][:N_SPECIAL].float(),
        torch.stack([vectors[symbol].float() for symbol in kept.values()]),
        torch.randn(len(chromosomes), width, generator=generator),
    ]
    _save(folder / "all_tokens.torch", torch.cat(parts))
    _save(folder / "protein_embeddings.pt", {symbol: vectors[name] for symbol, name in kept.items()})
    with atomic_path(folder / "species_offsets.pkl") as path:
        path.write_bytes(pickle.dumps({species.name: N_SPECIAL}))
    rows = ((symbol, *places[symbol], species.name) for symbol in kept)
    _write_csv(folder / "species_chrom.csv", ("gene_symbol", "chromosome", "start", "species"), rows)
    added = [(species.name, "protein_embeddings.pt")]
    _write_csv(folder / "new_species_protein_embeddings.csv", ("species", "path"), added)
    return (
        f"{species.name}: {len(kept)} genes on {len(chromosomes)} chromosomes, of {len(vectors)} with a protein vector and"
        f" {len(places)} with a place"
    )


def read_places(path: Path) -> dict[str, tuple[str, int]]:
    """Return {symbol in capitals: (chromosome, start in base pairs)}; of a gene with several places the first.

    Args:
        path: Ensembl's FASTA of peptides, of which headers alone are read, or a GTF, of which genes alone; may be gzipped.

    Raises:
        CellgaugeError: the file is missing, damaged or neither of these, or names no gene by a symbol.
    """
    places: dict[str, tuple[str, int]] = {}
    with _text(path) as lines:
        for line in lines:
            if found := _place(line):
                places.setdefault(found[0].upper(), found[1:])
    if not places:
        raise CellgaugeError(
            f"{path}: no gene with a symbol and a place; give Ensembl's FASTA of peptides (headers with gene_symbol: and a"
            " place such as primary_assembly:GRCg7b:1:5:90:1) or a GTF (genes with gene_name)"
        )
    return places


def _place(line: str) -> tuple[str, str, int] | None:
    """Return (symbol, chromosome, start) of a header of FASTA or a line of GTF, None where it tells of no gene."""
    if line.startswith(">"):
        symbol, place = _SYMBOL.search(line), _PLACE.search(line)
        return (symbol[1], place[1], int(place[2])) if symbol and place else None
    fields = line.split("\t")
    if len(fields) != 9 or fields[2] != "gene" or not fields[3].isdigit():
        return None
    name = _NAME.search(fields[8])
    return (name[1], fields[0], int(fields[3])) if name else None


@contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt", encoding="utf-8") if zipped else path.open(encoding="utf-8") as lines:
            yield lines
    except FileNotFoundError:
        raise CellgaugeError(f"{path}: no such file") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise CellgaugeError(f"{path}: cannot be read as text ({one_line(error)}); {REMEDY}") from None


def _save(path: Path, content: torch.Tensor | dict[str, torch.Tensor]) -> None:
    import torch

    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def _write_csv(path: Path, header: tuple[str, ...], rows: object) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)

"""Build the files that UCE needs for a species that it was not trained on.

They equal those of the official notebook for new species: special tokens from the checkpoint, then one vector per
protein-coding gene, then one random vector per chromosome, seeded by the species' NCBI taxon; and a table of the genes'
loci (chromosome and start). Genes are named by symbol; a gene needs a protein vector and a locus.
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
from cellgauge.core.errors import CellgaugeError
from cellgauge.data.organisms import Organism
from cellgauge.inference.checkpoints import Checkpoint, reading_file

if TYPE_CHECKING:
    import torch

N_SPECIAL = 4
"""Number of special tokens, the checkpoint's first rows: padding, start and end of a chromosome, CLS."""

_LOCUS = re.compile(r"\s[a-z_]+:[^:\s]*:([^:\s]+):(\d+):\d+(?::-?\d)?(?:\s|$)")
_SYMBOL = re.compile(r"\bgene_symbol:(\S+)")
_NAME = re.compile(r"\bgene_name \"([^\"]+)\"")


def build_species(checkpoint: Path, proteins: Path, genes: Path, species: Organism, folder: Path) -> str:
    """Write the files of a species into `folder` and return a sentence with the numbers of genes.

    Args:
        checkpoint: UCE's .torch.
        proteins: a .pt with {symbol: vector}: means of ESM2's last layer, of the width in the checkpoint.
        genes: the loci: Ensembl's FASTA of peptides (its headers) or a GTF, plain or gzipped.

    Raises:
        CellgaugeError: a file is missing, damaged or of another kind, or fewer than half of the genes have both.
    """
    import torch

    model = Checkpoint.open(checkpoint)
    _, width = model.shape("pe_embedding.weight", 2)
    vectors = Checkpoint.open(proteins).tensors
    loci = read_loci(genes)
    symbols: dict[str, str] = {}  # as in the loci -> as in the vectors
    for symbol in vectors:
        if symbol.upper() in loci:
            symbols.setdefault(symbol.upper(), symbol)
    if 2 * len(symbols) < min(len(vectors), len(loci)):
        raise CellgaugeError(
            f"{len(symbols)} of {len(vectors)} symbols of {proteins} (such as {', '.join(list(vectors)[:3])}) have a locus in"
            f" {genes} (such as {', '.join(list(loci)[:3])}), fewer than half; are the files of the same species?"
        )
    for symbol in symbols.values():
        if vectors[symbol].shape != (width,):
            raise CellgaugeError(
                f"{proteins}: the vector of {symbol} has shape {tuple(vectors[symbol].shape)}, {model.path.name} needs"
                f" ({width},)"
            )
    chromosomes = sorted({loci[symbol][0] for symbol in symbols})
    generator = torch.Generator().manual_seed(species.taxon)
    parts = [
        model.tensors["pe_embedding.weight"][:N_SPECIAL].float(),
        torch.stack([vectors[symbol].float() for symbol in symbols.values()]),
        torch.randn(len(chromosomes), width, generator=generator),
    ]
    _save(folder / "all_tokens.torch", torch.cat(parts))
    _save(folder / "protein_embeddings.pt", {symbol: vectors[name] for symbol, name in symbols.items()})
    with atomic_path(folder / "species_offsets.pkl") as path:
        path.write_bytes(pickle.dumps({species.name: N_SPECIAL}))
    rows = ((symbol, *loci[symbol], species.name) for symbol in symbols)
    _write_csv(folder / "species_chrom.csv", ("gene_symbol", "chromosome", "start", "species"), rows)
    paths = [(species.name, "protein_embeddings.pt")]
    _write_csv(folder / "new_species_protein_embeddings.csv", ("species", "path"), paths)
    return (
        f"{species.name}: {len(symbols)} genes on {len(chromosomes)} chromosomes, of {len(vectors)} with a protein vector and"
        f" {len(loci)} with a locus"
    )


def read_loci(path: Path) -> dict[str, tuple[str, int]]:
    """Return the locus of each gene, {symbol in upper case: (chromosome, start in base pairs)}; the first if it has several.

    Args:
        path: Ensembl's FASTA of peptides, of which only headers are read, or a GTF, of which only genes are; may be gzipped.

    Raises:
        CellgaugeError: the file is missing, damaged or of another kind, or has no gene with a symbol.
    """
    loci: dict[str, tuple[str, int]] = {}
    with _text(path) as lines:
        for line in lines:
            if gene := _locus(line):
                loci.setdefault(gene[0].upper(), gene[1:])
    if not loci:
        raise CellgaugeError(
            f"{path}: no gene with a symbol and a locus; give Ensembl's FASTA of peptides (headers with gene_symbol: and a"
            " locus such as primary_assembly:GRCg7b:1:5:90:1) or a GTF (genes with gene_name)"
        )
    return loci


def _locus(line: str) -> tuple[str, str, int] | None:
    """Return (symbol, chromosome, start) of a FASTA header or a line of a GTF; None if the line is not of a gene."""
    if line.startswith(">"):
        symbol, locus = _SYMBOL.search(line), _LOCUS.search(line)
        return (symbol[1], locus[1], int(locus[2])) if symbol and locus else None
    fields = line.split("\t")
    if len(fields) != 9 or fields[2] != "gene" or not fields[3].isdigit():
        return None
    name = _NAME.search(fields[8])
    return (name[1], fields[0], int(fields[3])) if name else None


@contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    with reading_file(path, "cannot be read as text"):
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt", encoding="utf-8") if zipped else path.open(encoding="utf-8") as lines:
            yield lines


def _save(path: Path, content: torch.Tensor | dict[str, torch.Tensor]) -> None:
    import torch

    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def _write_csv(path: Path, header: tuple[str, ...], rows: object) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)

"""UCE's sentences: what it knows of the genes of a species, and the sample of genes that stands for a cell.

The files of a species are those of the official `model_files`: species_offsets.pkl {species: its first token},
species_chrom.csv (gene_symbol, chromosome, start, species), protein_embeddings/*.pt {symbol: vector}, of which only the order
of the symbols matters here; and new_species_protein_embeddings.csv (species, path), which names the .pt of an added species.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.data.organisms import Organism
from cellgauge.inference.checkpoints import Checkpoint, CheckpointError, find_file, read_pickled_dict
from cellgauge.inference.run import Record, cell_generators

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

PADDING, END, CLS = 0, 2, 3
OWN_NAMES = {"western_clawed_frog": "frog"}


@dataclass(frozen=True)
class SpeciesGenes:
    """The genes of a species by their symbols in capitals.

    Attributes:
        name: what the files call the species.
        tokens: first token of the species and the number of its genes.
        places: symbol -> (token, code of the chromosome, start in base pairs).
        n_chromosomes: chromosomes of all species of the files: each has a token after those of the genes.
    """

    name: str
    tokens: range
    places: dict[str, tuple[int, int, int]]
    n_chromosomes: int

    def places_of(self, symbols: Sequence[str]) -> np.ndarray:
        """Return (token, chromosome, start) of each symbol, int64, shape (n, 3); -1 where a symbol is not known."""
        unknown = (-1, -1, -1)
        return np.asarray([self.places.get(symbol.upper(), unknown) for symbol in symbols], dtype=np.int64)


def read_species(folder: Path, species: Organism) -> SpeciesGenes:
    """Read the genes of a species from a folder of official files.

    Raises:
        CheckpointError: a file is missing or damaged, or does not know the species.
    """
    offsets = read_pickled_dict(find_file(folder, "species_offsets.pkl"), int)
    name = _name_in_files(species, offsets, folder)
    symbols = list(
        dict.fromkeys(symbol.upper() for symbol in Checkpoint.open(_proteins(folder, name, species)).tensors)
    )
    tokens = range(offsets[name], offsets[name] + len(symbols))
    rows = _read_csv(find_file(folder, "species_chrom.csv"), ("species", "gene_symbol", "chromosome", "start"))
    codes = {chromosome: code for code, chromosome in enumerate(sorted({f"{row[0]}_{row[2]}" for row in rows}))}
    token_of = dict(zip(symbols, tokens, strict=True))
    places: dict[str, tuple[int, int, int]] = {}
    for owner, symbol, chromosome, start in rows:
        if owner == name and (token := token_of.get(symbol.upper())) is not None:
            # of a symbol that lies in two places the first is taken
            places.setdefault(symbol.upper(), (token, codes[f"{owner}_{chromosome}"], _whole(start, symbol, folder)))
    return SpeciesGenes(name, tokens, places, len(codes))


class Sentences:
    """Cells to sentences of tokens.

    Args:
        places: (token, chromosome, start) of each gene of the split, -1 where unknown, shape (n_genes, 3).
        first_chromosome: the token of the chromosome with code 0.
        kept: positions of the genes that are not left out.
    """

    def __init__(
        self,
        places: np.ndarray,
        first_chromosome: int,
        kept: np.ndarray,
        sample_size: int,
        min_genes: int,
        seed: int,
        random_stream: str,
    ) -> None:
        self._kept, self._min_genes, self._size = kept, min_genes, sample_size
        self.columns = kept[places[kept, 0] >= 0]
        self.tokens, self._chromosomes, self._starts = places[self.columns].T
        self.first_chromosome = first_chromosome
        self._generator_of = cell_generators(random_stream, seed, np.random.RandomState)

    def tokenise(self, counts: csr_matrix, cells: Sequence[str]) -> Iterator[Record | None]:
        """Yield (tokens,), int64, of each row of `counts` (n, n_genes of the split)."""
        enough = np.diff(counts[:, self._kept].indptr) >= self._min_genes
        known = counts[:, self.columns]
        for row, cell in enumerate(cells):
            values = known.data[known.indptr[row] : known.indptr[row + 1]].astype(np.int64)  # cuts fractions off
            if not enough[row] or not values.any():
                yield None
                continue
            dense = np.zeros(len(self.columns), dtype=np.int64)
            dense[known.indices[known.indptr[row] : known.indptr[row + 1]]] = values
            tokens = self._sentence(dense, self._generator_of(cell))
            yield Record((tokens,), len(tokens))

    def _sentence(self, counts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return CLS, then of each chromosome its token, those of its genes by their starts, and END."""
        genes = np.searchsorted(_cumulative(counts), generator.random(self._size), side="right")
        order = np.unique(self._chromosomes[genes])
        generator.shuffle(order)
        rank = np.argsort(order)[np.searchsorted(np.sort(order), self._chromosomes[genes])]
        # genes that begin at one place in the order of the split: ties must not depend on the machine
        sorting = np.lexsort((genes, self._starts[genes], rank))
        sizes = np.bincount(rank, minlength=len(order))
        ends = np.cumsum(sizes + 2)
        sentence = np.empty(1 + len(genes) + 2 * len(order), dtype=np.int64)
        sentence[0] = CLS
        sentence[ends - sizes - 1] = order + self.first_chromosome
        sentence[ends] = END
        sentence[2 + np.arange(len(genes)) + 2 * rank[sorting]] = self.tokens[genes[sorting]]
        return sentence


def _cumulative(counts: np.ndarray) -> np.ndarray:
    """Return the cumulative probabilities of genes, float64, with the float32 roundings of the official code."""
    import torch

    logs = torch.log1p(torch.from_numpy(counts))
    weights = (logs / logs.sum()).numpy()
    # the official code divides by Python's sum, which adds one by one
    weights = weights / np.cumsum(weights, dtype=np.float32)[-1]
    cumulative = np.cumsum(weights, dtype=np.float64)
    return cumulative / cumulative[-1]


# --- files of a species ----------------------------------------------------------------------------------------------


def _name_in_files(species: Organism, offsets: dict[str, int], folder: Path) -> str:
    names = (OWN_NAMES.get(species.name), species.name, species.scientific.lower().replace(" ", "_"))
    found = next((name for name in names if name in offsets), None)
    if found is None:
        raise CheckpointError(
            f"{folder}: its files know {', '.join(sorted(offsets))}, not {species.name}; give files of this species with"
            " `species_files` in the model's params"
        )
    return found


def _proteins(folder: Path, name: str, species: Organism) -> Path:
    """Return the .pt of a species: the one that was added, or that of its scientific name."""
    added = folder / "new_species_protein_embeddings.csv"
    if added.is_file():
        for owner, path in _read_csv(added, ("species", "path")):
            if owner == name:
                # by its name alone: nothing outside of the folder is read
                return find_file(folder, f"protein_embeddings/{Path(path).name}", Path(path).name)
    return find_file(folder, f"protein_embeddings/{species.scientific.replace(' ', '_')}*.pt")


def _read_csv(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = set(columns) - set(reader.fieldnames or ())
            if missing:
                raise CheckpointError(f"{path}: has no column '{sorted(missing)[0]}' (found: {reader.fieldnames})")
            return [tuple(row[column] or "" for column in columns) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise CheckpointError(f"{path}: not readable as csv ({error})") from None


def _whole(text: str, symbol: str, folder: Path) -> int:
    try:
        return int(float(text))
    except ValueError:
        raise CheckpointError(
            f"{folder}/species_chrom.csv: the start of '{symbol}' is '{text}', not a number"
        ) from None

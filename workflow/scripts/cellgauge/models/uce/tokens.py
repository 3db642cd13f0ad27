"""UCE's sentences: the genes of a species with their tokens and loci, and the sample of genes that represents a cell.

The files of a species are those of the official `model_files`: species_offsets.pkl {species: its first token},
species_chrom.csv (gene_symbol, chromosome, start, species), protein_embeddings/*.pt {symbol: vector}, of which only the order
of the symbols is used; and new_species_protein_embeddings.csv (species, path), which names the .pt of an added species.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from cellgauge.data.organisms import Organism
from cellgauge.inference.checkpoints import Checkpoint, CheckpointError, find_file, read_pickled_dict, reading_file
from cellgauge.inference.run import Record, cell_generators

PADDING, END, CLS = 0, 2, 3
CELLS_AT_ONCE = 64  # that are tokenized together: their numbers stay in the processor's cache
UCE_NAMES = {"western_clawed_frog": "frog"}


@dataclass(frozen=True)
class SpeciesGenes:
    """The genes of a species by symbol, in upper case.

    Attributes:
        name: the species' name in the files.
        tokens: range of the species' gene tokens.
        loci: (token, code of the chromosome, start in base pairs) of each symbol.
        n_chromosomes: number of chromosomes of all species in the files. Each has a token after those of the genes.
    """

    name: str
    tokens: range
    loci: dict[str, tuple[int, int, int]]
    n_chromosomes: int

    def loci_of(self, symbols: Sequence[str]) -> np.ndarray:
        """Return (token, chromosome, start) of each symbol, int64, shape (n, 3); -1 for an unknown symbol."""
        unknown = (-1, -1, -1)
        return np.asarray([self.loci.get(symbol.upper(), unknown) for symbol in symbols], dtype=np.int64)


def read_species(folder: Path, species: Organism) -> SpeciesGenes:
    """Read the genes of a species from a folder of official files.

    Raises:
        CheckpointError: a file is missing or damaged, or the species is not in the files.
    """
    offsets = read_pickled_dict(find_file(folder, "species_offsets.pkl"), int)
    name = _name_in_files(species, offsets, folder)
    proteins = Checkpoint.open(_proteins(folder, name, species))
    symbols = list(dict.fromkeys(symbol.upper() for symbol in proteins.tensors))
    tokens = range(offsets[name], offsets[name] + len(symbols))
    rows = _read_csv(find_file(folder, "species_chrom.csv"), ("species", "gene_symbol", "chromosome", "start"))
    codes = {chromosome: code for code, chromosome in enumerate(sorted({f"{row[0]}_{row[2]}" for row in rows}))}
    token_of = dict(zip(symbols, tokens, strict=True))
    loci: dict[str, tuple[int, int, int]] = {}
    for species_name, symbol, chromosome, start in rows:
        if species_name == name and (token := token_of.get(symbol.upper())) is not None:
            # the first locus of a symbol with several
            loci.setdefault(symbol.upper(), (token, codes[f"{name}_{chromosome}"], _integer(start, symbol, folder)))
    return SpeciesGenes(name, tokens, loci, len(codes))


class Sentences:
    """Cells to sentences of tokens.

    Args:
        loci: (token, chromosome, start) of each of the split's genes, -1 if unknown, int64, shape (n_genes, 3).
        first_chromosome: the token of the chromosome with code 0.
        filtered: positions of the genes that pass the filter of genes, ascending.
        sample_size: number of genes to sample for a cell.
        min_genes: fewest expressed genes, among `filtered`, of a cell that is embedded.
        seed, random_stream: see `inference.run.cell_generators`.
    """

    def __init__(
        self,
        loci: np.ndarray,
        first_chromosome: int,
        filtered: np.ndarray,
        sample_size: int,
        min_genes: int,
        seed: int,
        random_stream: str,
    ) -> None:
        self._filtered, self._min_genes, self._size = filtered, min_genes, sample_size
        self.columns = filtered[loci[filtered, 0] >= 0]
        self.tokens, chromosomes, starts = loci[self.columns].T
        self.first_chromosome, self.in_order = first_chromosome, random_stream == "official"
        self._generator_of = cell_generators(random_stream, seed, np.random.RandomState)
        # places of genes: by chromosome, then by start; ties keep the split's order, so that they do not depend on the machine
        self._chromosomes, self._codes = np.unique(chromosomes, return_inverse=True)
        by_place = np.lexsort((starts, self._codes))
        self._token_at, self._place = self.tokens[by_place], np.argsort(by_place)

    def tokenize(self, counts: csr_matrix, cells: Sequence[str]) -> Iterator[Record | None]:
        """Yield (tokens,), int64, of each row of `counts` (n, n_genes of the split)."""
        n_genes = np.diff(counts[:, self._filtered].indptr) if self._min_genes else np.zeros(len(cells))
        enough = n_genes >= self._min_genes
        known = counts[:, self.columns]
        for start in range(0, len(cells), CELLS_AT_ONCE):
            rows = slice(start, start + CELLS_AT_ONCE)
            yield from self._tokenize(known[rows], cells[rows], enough[rows])

    def _tokenize(self, known: csr_matrix, cells: Sequence[str], enough: Sequence[bool]) -> Iterator[Record | None]:
        ends, weights = known.indptr.tolist(), _weights(known)
        samples, orders, sizes, embedded = [], [], [], []
        for cell, start, stop, is_enough in zip(cells, ends, ends[1:], enough, strict=False):
            embedded.append(bool(is_enough and weights[start:stop].any()))
            if not embedded[-1]:
                continue
            generator = self._generator_of(cell)
            # the order of a sample tells nothing, and sorted numbers are found faster
            numbers = np.sort(generator.random(self._size))
            genes = known.indices[start:stop][_cumulative(weights[start:stop]).searchsorted(numbers, side="right")]
            sizes.append(np.bincount(self._codes[genes], minlength=len(self._chromosomes)))
            order = np.flatnonzero(sizes[-1])
            generator.shuffle(order)
            samples.append(genes)
            orders.append(order)
        sentences = iter(self._sentences(np.asarray(samples), orders, np.asarray(sizes)) if samples else ())
        for is_embedded in embedded:
            tokens = next(sentences) if is_embedded else None
            yield Record((tokens,), len(tokens)) if is_embedded else None

    def _sentences(self, genes: np.ndarray, orders: Sequence[np.ndarray], sizes: np.ndarray) -> list[np.ndarray]:
        """Return for each cell CLS, then for each chromosome its token, those of its genes ordered by start, and END.

        Args:
            genes: the samples, positions among `columns` in any order, shape (n_cells, sample_size).
            orders: the codes of each cell's chromosomes in their order.
            sizes: number of genes of each chromosome, shape (n_cells, n_chromosomes).
        """
        n_cells, size = genes.shape
        places = np.sort(self._place[genes], axis=1)
        lengths = np.asarray([1 + size + 2 * len(order) for order in orders])
        starts = np.cumsum(lengths) - lengths
        tokens = np.empty(lengths.sum(), dtype=np.int64)
        tokens[starts] = CLS
        order = np.concatenate(orders)
        cell = np.repeat(np.arange(n_cells), [len(order) for order in orders])
        ordered_sizes = sizes[cell, order]
        ends = np.cumsum(ordered_sizes + 2) + cell  # after a CLS for each cell before
        tokens[ends - ordered_sizes - 1] = self._chromosomes[order] + self.first_chromosome
        tokens[ends] = END
        # genes lie by chromosome in `places`: each chromosome's move together to where the sentence has it
        shifts = np.zeros(sizes.shape, dtype=np.int64)
        shifts[cell, order] = ends
        shifts = shifts.ravel() - np.cumsum(sizes)
        tokens[np.arange(genes.size) + np.repeat(shifts, sizes.ravel())] = self._token_at[places].ravel()
        return np.split(tokens, starts[1:])


def _weights(counts: csr_matrix) -> np.ndarray:
    """Return the weight of each stored count among those of its cell, float32: log(1 + count), scaled to a sum of about 1.

    Fractions are cut off. The numbers are those of the official code to the last bit, which PyTorch computes from dense cells.
    """
    import torch

    logs = torch.log1p(torch.from_numpy(counts.data.astype(np.int64))).numpy()
    cell = np.zeros(counts.shape[1], dtype=np.float32)
    as_tensor, sums = torch.from_numpy(cell), np.ones(counts.shape[0], dtype=np.float32)
    for row, (start, stop) in enumerate(zip(counts.indptr, counts.indptr[1:], strict=False)):
        expressed = counts.indices[start:stop]
        cell[expressed] = logs[start:stop]
        sums[row] = as_tensor.sum().item() or 1  # the order in which PyTorch adds depends on the columns
        cell[expressed] = 0
    return logs / np.repeat(sums, np.diff(counts.indptr))


def _cumulative(weights: np.ndarray) -> np.ndarray:
    """Return the cumulative probabilities of a cell's genes, float64, with the float32 roundings of the official code."""
    # like Python's sum in the official code, cumsum adds one by one; genes without counts would add nothing
    weights = weights / np.cumsum(weights, dtype=np.float32)[-1]
    cumulative = np.cumsum(weights, dtype=np.float64)
    return cumulative / cumulative[-1]


def _name_in_files(species: Organism, offsets: dict[str, int], folder: Path) -> str:
    names = (UCE_NAMES.get(species.name), species.name, species.scientific.lower().replace(" ", "_"))
    known_name = next((name for name in names if name in offsets), None)
    if known_name is None:
        raise CheckpointError(
            f"{folder}: its files have {', '.join(sorted(offsets))}, not {species.name}; name files of this species under"
            " `species_files` in the model's params"
        )
    return known_name


def _proteins(folder: Path, name: str, species: Organism) -> Path:
    """Return the .pt of a species: of an added one its entry in the csv, else the file with its scientific name."""
    added = folder / "new_species_protein_embeddings.csv"
    if added.is_file():
        for species_name, path in _read_csv(added, ("species", "path")):
            if species_name == name:
                # only the file's name is used: nothing outside the folder is read
                return find_file(folder, f"protein_embeddings/{Path(path).name}", Path(path).name)
    return find_file(folder, f"protein_embeddings/{species.scientific.replace(' ', '_')}*.pt")


def _read_csv(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    with reading_file(path, "not readable as csv"), path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = set(columns) - set(reader.fieldnames or ())
        if missing:
            raise CheckpointError(f"{path}: has no column '{sorted(missing)[0]}' (found: {reader.fieldnames})")
        return [tuple(row[column] or "" for column in columns) for row in reader]


def _integer(text: str, symbol: str, folder: Path) -> int:
    try:
        return np.int64(float(text)).item()
    except (ValueError, OverflowError):
        fault = f"the start of '{symbol}' is '{text}', not a number"
        raise CheckpointError(f"{folder}/species_chrom.csv: {fault}") from None

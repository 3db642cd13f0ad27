"""TranscriptFormer's sentences: the expressed genes of a cell in the order of the split, with clipped counts.

A species is represented by its protein vectors: an h5 with `keys` (Ensembl ids) and one vector `arrays/<id>` per gene. Tokens
are numbered as in the official code: the special tokens of config.json, then the genes in the file's order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from cellgauge.files.hdf5 import item_of, open_hdf5
from cellgauge.inference.checkpoints import REMEDY, CheckpointError, reading_file
from cellgauge.inference.run import Record

PACKAGE_ORDER = ("unknown", "[START]", "[END]", "[RD]", "[CELL]", "[PAD]", "[MASK]")
"""The special tokens in the order of the package transcriptformer (0.2.1 to 0.6.1), which is not that of its checkpoints."""


@dataclass(frozen=True)
class Proteins:
    """The genes of a species and their protein vectors.

    Attributes:
        path: the h5.
        index: index of each Ensembl id among the genes of the file.
    """

    path: Path
    index: Mapping[str, int]

    @classmethod
    def open(cls, path: Path) -> Proteins:
        """Read the ids of a file; raise CheckpointError if it is not a file of protein vectors."""
        with (
            reading_file(path, "not an h5 with `keys` and `arrays`, truncated or corrupt"),
            open_hdf5(path, whole=False) as file,
        ):
            names = [name.decode() for name in item_of(file, "keys")[:].tolist()]
        return cls(path, {name: i for i, name in enumerate(dict.fromkeys(names))})

    def indices_of(self, genes: Sequence[str]) -> np.ndarray:
        """Return the index of each gene, int64, shape (n,); -1 for an unknown or repeated gene.

        Versions of ids are ignored, as in the official code. If a gene has several columns, the first is used.
        """
        names = [gene.partition(".")[0] for gene in genes]
        indices = np.asarray([self.index.get(name, -1) for name in names], dtype=np.int64)
        _, first = np.unique(indices, return_index=True)
        is_first = np.zeros(len(indices), dtype=bool)
        is_first[first] = True
        return np.where(is_first, indices, -1)

    def vectors(self, indices: np.ndarray, width: int) -> np.ndarray:
        """Return the vectors of some genes, float32, shape (n, width); raise CheckpointError if one is missing or damaged."""
        names = list(self.index)
        vectors = np.empty((len(indices), width), dtype=np.float32)
        fault = "a vector cannot be read, truncated or corrupt"
        with reading_file(self.path, fault), open_hdf5(self.path, whole=False) as file:
            arrays = item_of(file, "arrays")
            for row, index in enumerate(indices):
                array = item_of(arrays, names[index])
                if array.shape != (width,):
                    fault = f"the vector of {names[index]} has shape {array.shape}"
                    raise CheckpointError(f"{self.path}: {fault}, the checkpoint needs ({width},)")
                array.read_direct(vectors, dest_sel=np.s_[row])
        if not np.isfinite(vectors).all():
            raise CheckpointError(f"{self.path}: some vectors are not finite; {REMEDY}")
        return vectors


@dataclass(frozen=True)
class Special:
    """The special tokens that sentences use.

    Attributes:
        order: the names, in the order of their numbers.
        start, padding: numbers of these tokens.
        padding_hidden: whether the network ignores padding, as it should.
    """

    order: tuple[str, ...]
    start: int
    padding: int
    padding_hidden: bool

    @classmethod
    def of(cls, names: Sequence[str], surgery: str) -> Special:
        """Return the special tokens of a checkpoint that has `names`.

        Args:
            surgery: "fixed" keeps the checkpoint's numbers. "official" does what the official code does when it replaces
                the vocabulary (`change_embedding_layer`): rows follow the order of the package, but the network still uses
                the checkpoint's numbers for START and for the padding that it hides.
        """
        start, padding = names.index("[START]"), names.index("[PAD]")
        if surgery == "fixed":
            return cls(tuple(names), start, padding, True)
        order = tuple(name for name in PACKAGE_ORDER if name in names)
        return cls(order, start, order.index("[PAD]"), order.index("[PAD]") == padding)


class Sentences:
    """Cells to sentences of tokens.

    Args:
        indices: index of each of the split's genes among those of the species, -1 for none, shape (n_genes,).
        max_length: most tokens of a sentence, START included.
        clip: upper limit of counts.
        covariates: values of the network's covariates for each cell id, int64, shape (n_columns,).
    """

    def __init__(
        self, indices: np.ndarray, special: Special, max_length: int, clip: float, covariates: Mapping[str, np.ndarray]
    ) -> None:
        self.columns = np.flatnonzero(indices >= 0)
        self.special, self.tokens = special, indices[self.columns] + len(special.order)
        self._max_length, self._clip, self._covariates = max_length, clip, covariates

    def tokenize(self, counts: csr_matrix, cells: Sequence[str]) -> Iterator[Record | None]:
        """Yield (tokens int64, counts float32, covariates int64) for each row of `counts` (n, n_genes)."""
        known = counts[:, self.columns]
        known.sort_indices()
        np.minimum(known.data, np.float32(self._clip), out=known.data)
        for row, cell in enumerate(cells):
            # START takes one of the positions
            stored = slice(known.indptr[row], min(known.indptr[row + 1], known.indptr[row] + self._max_length - 1))
            if stored.start == stored.stop:
                yield None
                continue
            tokens = np.append(self.special.start, self.tokens[known.indices[stored]])
            values = np.append(np.float32(1), known.data[stored])
            if not self.special.padding_hidden:
                padding = (0, self._max_length - len(tokens))
                tokens = np.pad(tokens, padding, constant_values=self.special.padding)
                values = np.pad(values, padding)
            covariates = self._covariates[cell]
            yield Record((tokens, values, covariates), len(covariates) + len(tokens))

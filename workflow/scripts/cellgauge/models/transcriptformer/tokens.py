"""TranscriptFormer's sentences: the expressed genes of a cell in the order of the split, with clipped counts.

A species is told by the vectors of its proteins: an h5 of `keys` (Ensembl ids) and `arrays/<id>`, one vector each. Tokens
are those of the official code for this one file: the special tokens of config.json, then the genes in the file's order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.core.errors import one_line
from cellgauge.inference.checkpoints import REMEDY, CheckpointError
from cellgauge.inference.run import Record

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

PACKAGE_ORDER = ("unknown", "[START]", "[END]", "[RD]", "[CELL]", "[PAD]", "[MASK]")
"""The special tokens in the order of the package transcriptformer (0.2.1 to 0.6.1), which is not that of its checkpoints."""


@dataclass(frozen=True)
class Proteins:
    """The genes of a species and the vectors of their proteins.

    Attributes:
        path: the h5.
        places: Ensembl id -> position among the genes of the file.
    """

    path: Path
    places: Mapping[str, int]

    @classmethod
    def open(cls, path: Path) -> Proteins:
        """Read the ids of a file; raise CheckpointError when it is not one of protein vectors."""
        import h5py

        try:
            with h5py.File(path, "r") as file:
                names = [name.decode() for name in file["keys"][:].tolist()]
        except (OSError, KeyError, ValueError, AttributeError, TypeError) as error:
            raise CheckpointError(
                f"{path}: not an h5 with `keys` and `arrays`, truncated or corrupt ({one_line(error)[:120]}); {REMEDY}"
            ) from None
        return cls(path, {name: place for place, name in enumerate(dict.fromkeys(names))})

    def places_of(self, genes: Sequence[str]) -> np.ndarray:
        """Return the place of each gene, int64, shape (n,); -1 where one is unknown or has come before.

        Versions of ids are left out, as in the official code; of two columns of one gene the first counts.
        """
        names = [gene.partition(".")[0] for gene in genes]
        places = np.asarray([self.places.get(name, -1) for name in names], dtype=np.int64)
        _, first = np.unique(places, return_index=True)
        once = np.zeros(len(places), dtype=bool)
        once[first] = True
        return np.where(once, places, -1)

    def vectors(self, places: np.ndarray, width: int) -> np.ndarray:
        """Return the vectors of some genes, float32, shape (n, width); raise CheckpointError for one that is no such."""
        import h5py

        names = list(self.places)
        vectors = np.empty((len(places), width), dtype=np.float32)
        try:
            with h5py.File(self.path, "r") as file:
                for row, place in enumerate(places):
                    array = file["arrays"][names[place]]
                    if array.shape != (width,):
                        raise CheckpointError(
                            f"{self.path}: the vector of {names[place]} has shape {array.shape}, the checkpoint takes"
                            f" ({width},)"
                        )
                    array.read_direct(vectors, dest_sel=np.s_[row])
        except (OSError, KeyError, AttributeError, TypeError) as error:
            raise CheckpointError(
                f"{self.path}: a vector cannot be read, truncated or corrupt ({one_line(error)[:120]}); {REMEDY}"
            ) from None
        if not np.isfinite(vectors).all():
            raise CheckpointError(f"{self.path}: holds vectors that are not finite")
        return vectors


@dataclass(frozen=True)
class Special:
    """The special tokens that sentences use.

    Attributes:
        order: all of them, as they are numbered.
        start, padding: tokens.
        padding_hidden: whether padding is left out, as it should be.
    """

    order: tuple[str, ...]
    start: int
    padding: int
    padding_hidden: bool

    @classmethod
    def of(cls, names: Sequence[str], surgery: str) -> Special:
        """Return those of a checkpoint whose special tokens are `names`.

        Args:
            surgery: "fixed" keeps the checkpoint's numbers. "official" does what the official code does when it replaces
                the vocabulary (`change_embedding_layer`): rows are put in the order of the package, while the network goes
                on with the checkpoint's numbers of START and of the padding that it hides.
        """
        start, padding = names.index("[START]"), names.index("[PAD]")
        if surgery == "fixed":
            return cls(tuple(names), start, padding, True)
        order = tuple(name for name in PACKAGE_ORDER if name in names)
        return cls(order, start, order.index("[PAD]"), order.index("[PAD]") == padding)


class Sentences:
    """Cells to sentences of tokens.

    Args:
        places: the place of each gene of the split among those of the species, -1 where it is none.
        positions: the longest sentence, START included.
        clip: counts above are cut to this.
        told: cell id -> its values of the columns that the network is told.
    """

    def __init__(
        self, places: np.ndarray, special: Special, positions: int, clip: float, told: Mapping[str, np.ndarray]
    ) -> None:
        self.columns = np.flatnonzero(places >= 0)
        self.special, self.tokens = special, places[self.columns] + len(special.order)
        self._positions, self._clip, self._told = positions, clip, told

    def tokenise(self, counts: csr_matrix, cells: Sequence[str]) -> Iterator[Record | None]:
        """Yield (tokens int64, counts float32, values of the columns int64) of each row of `counts` (n, n_genes)."""
        known = counts[:, self.columns]
        known.sort_indices()
        np.minimum(known.data, np.float32(self._clip), out=known.data)
        for row, cell in enumerate(cells):
            # START is put before the genes, so the last of as many as there are positions has no place
            stored = slice(known.indptr[row], min(known.indptr[row + 1], known.indptr[row] + self._positions - 1))
            if stored.start == stored.stop:
                yield None
                continue
            tokens = np.append(self.special.start, self.tokens[known.indices[stored]])
            values = np.append(np.float32(1), known.data[stored])
            if not self.special.padding_hidden:
                padding = (0, self._positions - len(tokens))
                tokens = np.pad(tokens, padding, constant_values=self.special.padding)
                values = np.pad(values, padding)
            told = self._told[cell]
            yield Record((tokens, values, told), len(told) + len(tokens))

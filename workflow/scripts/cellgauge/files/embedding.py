"""The embedding: one row per cell of a split, or of the splits of a set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cellgauge.core.errors import ContractError
from cellgauge.files import h5ad
from cellgauge.files.checked import checked_path
from cellgauge.files.split import Split


@dataclass(frozen=True)
class Embedding:
    """The rows that a model gave to cells. The matrix is read when asked for.

    Attributes:
        path: the h5ad file.
        shape: (n_cells, n_dims).
        cells: cell ids, str, shape (n_cells,).
        splits: the split of each cell, str, shape (n_cells,).
        uns: provenance: model, dataset, split (or the name of the set of `splits` that it spans), params, seed, device,
            seconds, memory, versions. `not_applicable`: why the model cannot embed these cells; then all rows are NaN.
    """

    path: Path
    shape: tuple[int, int]
    cells: np.ndarray
    splits: np.ndarray
    uns: Mapping[str, Any]

    @classmethod
    def read(cls, path: str | Path) -> Embedding:
        """Open an embedding file; raise ContractError when it is not one."""
        path = Path(path)
        with h5ad.open_stage(path) as file:
            uns = h5ad.read_scalars(file)
            cells = h5ad.read_index(file, "obs")
            if "split" in file["obs"]:
                splits = h5ad.read_column(file, "obs", "split", path)
            else:
                splits = np.full(len(cells), str(uns.get("split", "")), dtype=object)
            shape = h5ad.matrix_shape(file["X"], path)
        if shape[0] != len(cells):
            raise ContractError(f"{path}: X has {shape[0]} rows for {len(cells)} cells")
        return cls(path, shape, cells, splits, uns)

    @cached_property
    def matrix(self) -> np.ndarray:
        """The rows, float32, shape (n_cells, n_dims); a cell that the model could not embed is a row of NaN."""
        with h5ad.open_stage(self.path) as file:
            return h5ad.read_dense(file["X"], self.path)

    @cached_property
    def spans(self) -> tuple[str, ...]:
        """The splits that the file holds; none in a file made by hand that names none."""
        return tuple(name for name in dict.fromkeys(self.splits) if name)

    def forget(self) -> None:
        """Give the memory of the matrix back; it is read again when asked for."""
        self.__dict__.pop("matrix", None)

    def rows_of(self, split: Split) -> np.ndarray:
        """Return the rows of `split`'s cells in its order, float32, shape (n_cells, n_dims)."""
        places = self.places_of(split)
        return self.matrix if len(places) == len(self.cells) else self.matrix[places]

    def places_of(self, split: Split) -> np.ndarray:
        """Return where the rows of `split`'s cells stand, in its order, int64, shape (n_cells,).

        Raises:
            ContractError: a cell is missing, or (in a file of one split) there are others or another order.
        """
        several = len(self.spans) > 1
        places = np.flatnonzero(self.splits == split.name) if several else np.arange(len(self.cells))
        if np.array_equal(self.cells[places], split.cells):
            return places
        raise ContractError(
            f"{self.path}: its cells are not the cells of split {split.name} in their order"
            f" ({h5ad.first_difference(self.cells[places], split.cells)})"
        )


def match_embeddings(embeddings: Sequence[Embedding], splits: Sequence[Split]) -> list[Embedding]:
    """Return the embedding of each split: that of its own, or one that spans it.

    A file that names no split, made by hand, is of the split that stands at its position.

    Raises:
        ContractError: a split has no embedding or more than one, or its cells are not the split's.
    """
    places = [e.spans or tuple(split.name for split in splits[n : n + 1]) for n, e in enumerate(embeddings)]
    matched = []
    for split in splits:
        fitting = [e for e, names in zip(embeddings, places, strict=True) if split.name in names]
        if len(fitting) != 1:
            known = ", ".join(dict.fromkeys(name for names in places for name in names)) or "none"
            number = "no embedding" if not fitting else f"{len(fitting)} embeddings"
            raise ContractError(f"{number} given for split {split.name} of {split.dataset} (found: {known})")
        fitting[0].places_of(split)
        matched += fitting
    return matched


def write_embedding(
    path: str | Path,
    matrix: np.ndarray,
    cells: Sequence[str],
    splits: Sequence[Split],
    uns: Mapping[str, Any],
) -> None:
    """Check an adapter's rows against the splits that it was given and write them.

    Args:
        matrix: shape (n_cells, n_dims), any real dtype; written as float32.
        cells: the ids of the rows, in the order of `splits` one after the other.
        uns: provenance; values must be str, int, float or bool (None is left out, dicts become JSON). With a reason
            in `not_applicable` all rows may be NaN.

    Raises:
        ContractError: wrong shape, other cells or order, a row partly NaN or with an infinite value, no row at all (of a
            part of a split there may be none).
    """
    matrix = np.ascontiguousarray(matrix, dtype=np.float32)
    expected = np.concatenate([split.cells for split in splits])
    ids = np.asarray(cells, dtype=object)
    if matrix.ndim != 2 or matrix.shape[1] == 0 or len(matrix) != len(ids):
        raise ContractError(f"an embedding of {len(ids)} cells must be a matrix with as many rows, not {matrix.shape}")
    if not np.array_equal(ids, expected):
        fault = h5ad.first_difference(ids, expected)
        raise ContractError(f"the rows are not the split's cells in their order ({fault})")
    unembedded = np.isnan(matrix).all(axis=1)
    in_full = not any(split.is_part for split in splits)
    if in_full and unembedded.all() and not uns.get("not_applicable"):
        raise ContractError("no cell was embedded: every row is NaN")
    if not np.isfinite(matrix[~unembedded]).all():
        row = np.flatnonzero(~np.isfinite(matrix).all(axis=1) & ~unembedded)[0]
        raise ContractError(f"the row of cell {ids[row]} contains a value that is not finite")

    names = np.repeat([split.name for split in splits], [len(split.cells) for split in splits])
    facts = {**uns, "unembedded": int(unembedded.sum()), "n_dims": matrix.shape[1]}
    facts = {key: h5ad.as_plain(value) for key, value in facts.items() if value is not None}
    with checked_path(path) as temporary:
        h5ad.write_h5ad(temporary, matrix, ids, names, facts)

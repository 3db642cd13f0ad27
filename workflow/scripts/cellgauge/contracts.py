"""The files between the stages: split, embedding, neighbours, score. Read them, write them, check them.

Splits and embeddings are h5ad files. Splits are written with anndata; embeddings are written, and both are read, with
h5py alone: a job that starts for each of some thousand cells of the grid must not pay a second for importing anndata.
What h5py cannot place is read by anndata itself.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellgauge.errors import ContractError, one_line

if TYPE_CHECKING:
    import anndata
    import h5py
    from scipy.sparse import csr_matrix

# --- writing whole files ---------------------------------------------------------------------------------------------


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` and move it there when the block succeeds; leave nothing when it fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


_ROWS = 512  # of a matrix that are in memory at a time


# --- split -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """The cells of one tissue or species, as `split_dataset` wrote them. Matrices are read when asked for.

    Attributes:
        path: the h5ad file.
        dataset, name: the catalogue's dataset and the split's slug.
        organism: the canonical name of the species (`cellgauge.organisms`).
        cells: cell ids, str, shape (n_cells,), unique.
    """

    path: Path
    dataset: str
    name: str
    organism: str
    cells: np.ndarray

    @classmethod
    def open(cls, path: str | Path) -> Split:
        """Read the ids and the provenance of a split; raise ContractError when the file is not one."""
        path = Path(path)
        with open_h5(path) as file:
            uns = read_scalars(file)
            missing = {"dataset", "split", "organism"} - set(uns)
            if missing:
                raise ContractError(
                    f"{path}: not a split of cellgauge, uns lacks {', '.join(sorted(missing))};"
                    " write it with split_dataset.py"
                )
            cells = read_index(file, "obs")
        _check_unique(cells, path)
        return cls(path, str(uns["dataset"]), str(uns["split"]), str(uns["organism"]), cells)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of obs."""
        with open_h5(self.path) as file:
            return tuple(name for name in file["obs"] if name != _index_key(file["obs"]))

    def column(self, name: str) -> np.ndarray:
        """Return one column of obs as str, shape (n_cells,); raise ContractError when it is missing."""
        with open_h5(self.path) as file:
            return read_column(file, "obs", name, self.path)

    def numbers(self, name: str) -> np.ndarray:
        """Return one column of obs as numbers, shape (n_cells,), in the type that they are stored in (text: float64).

        Raises:
            ContractError: the column is missing, or holds something else.
        """
        with open_h5(self.path) as file:
            item = file["obs"].get(name)
            if getattr(getattr(item, "dtype", None), "kind", "") in ("i", "u", "f"):
                return item[:]
        try:
            return self.column(name).astype(np.float64)
        except ValueError as error:
            raise ContractError(f"{self.path}: obs column '{name}' must hold numbers ({one_line(error)})") from None

    @cached_property
    def genes(self) -> np.ndarray:
        """Gene ids (var_names: Ensembl without version where the data has them), str, shape (n_genes,)."""
        with open_h5(self.path) as file:
            return read_index(file, "var")

    @cached_property
    def symbols(self) -> np.ndarray:
        """Gene symbols (var["feature_name"]), str, shape (n_genes,)."""
        with open_h5(self.path) as file:
            return read_column(file, "var", "feature_name", self.path)

    @cached_property
    def orthologues(self) -> np.ndarray:
        """The name that each gene shares with its one-to-one orthologues (var["orthologue"]), "" without; str, (n_genes,).

        Raises:
            ContractError: the split was made without a table of orthologues.
        """
        with open_h5(self.path) as file:
            if "orthologue" not in file["var"]:
                raise ContractError(f"split {self.name} of {self.dataset} has no column 'orthologue' in var")
            return read_column(file, "var", "orthologue", self.path)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_cells, n_genes), read from the header alone."""
        return len(self.cells), len(self.genes)

    def counts(self) -> csr_matrix:
        """Return the raw counts, CSR float32, shape (n_cells, n_genes). Read anew at each call: the caller owns it."""
        with open_h5(self.path) as file:
            return read_csr(file["X"], self.path)

    def count_blocks(self, rows_per_block: int = _ROWS) -> Iterator[tuple[int, csr_matrix]]:
        """Yield (position of the first cell, counts) of the cells in their order, CSR float32, so many rows at a time.

        Only the rows of one block are in memory; column indices ascend and no zero is stored. Splits of cellgauge are CSR
        (a CSC matrix cannot be read by rows and is read whole).

        Raises:
            ContractError: a count that is negative or not finite, or a block that cannot be read.
        """
        with open_h5(self.path) as file:
            try:
                for start, block in _read_row_blocks(file["X"], rows_per_block, self.path):
                    if not (np.isfinite(block.data) & (block.data >= 0)).all():
                        raise ContractError(f"{self.path}: X holds counts that are negative or not finite")
                    block.sum_duplicates()
                    block.eliminate_zeros()
                    yield start, block
            except (OSError, KeyError, ValueError) as error:
                raise ContractError(
                    f"{self.path}: X cannot be read, truncated or corrupt ({one_line(error)})"
                ) from None

    def library_sizes(self) -> np.ndarray:
        """Return the sum of each cell's counts, float64, shape (n_cells,); which genes they are of is not even read.

        Raises:
            ContractError: the counts cannot be read.
        """
        with open_h5(self.path) as file:
            item = file["X"]
            if item.attrs.get("encoding-type", "array") != "csr_matrix":
                return np.asarray(read_csr(item, self.path).astype(np.float64).sum(axis=1)).ravel()
            try:
                sizes, ends = np.empty(len(self.cells)), item["indptr"][:]
                for start in range(0, len(sizes), _ROWS):
                    bounds = ends[start : start + _ROWS + 1]
                    sums = np.cumsum(item["data"][bounds[0] : bounds[-1]], dtype=np.float64)
                    sizes[start : start + _ROWS] = np.diff(np.append(0.0, sums)[bounds - bounds[0]])
            except (OSError, KeyError, ValueError) as error:
                raise ContractError(
                    f"{self.path}: X cannot be read, truncated or corrupt ({one_line(error)})"
                ) from None
        return sizes

    def facts(self) -> dict[str, Any]:
        """Return the scalars of uns."""
        with open_h5(self.path) as file:
            return read_scalars(file)

    def expression(self, rows: np.ndarray | None = None) -> csr_matrix:
        """Return the log-normalised expression of a screen, CSR float32, of all cells or of `rows` (ascending positions).

        Raises:
            ContractError: the split has none (only those of perturbation screens do).
        """
        if rows is None:
            with self._open_expression() as item:
                return read_csr(item, self.path)
        from scipy.sparse import vstack

        parts = []
        for start, block in self.expression_blocks():
            first, last = np.searchsorted(rows, (start, start + block.shape[0]))
            parts.append(block[rows[first:last] - start])
        return vstack(parts, format="csr")

    def expression_blocks(self, rows_per_block: int = 8192) -> Iterator[tuple[int, csr_matrix]]:
        """Yield (position of the first cell, log-normalised expression) of so many cells at a time, CSR float32."""
        with self._open_expression() as item:
            yield from _read_row_blocks(item, rows_per_block, self.path)

    @contextmanager
    def _open_expression(self) -> Iterator[h5py.Group | h5py.Dataset]:
        with open_h5(self.path) as file:
            if "layers/expression" not in file:
                raise ContractError(
                    f"{self.path}: no layer 'expression', which the splits of perturbation screens have"
                )
            yield file["layers/expression"]

    def to_anndata(self) -> anndata.AnnData:
        """Return the split as an AnnData, for adapters that use the scverse libraries."""
        import anndata

        return anndata.read_h5ad(self.path)


def write_split(path: str | Path, data: anndata.AnnData) -> None:
    """Write `data` as a split: CSR float32 counts, plain strings, no None in uns, old readers welcome.

    Raises:
        ContractError: no label column, no `feature_name`, duplicate ids, an empty split or X not raw counts.
    """
    where = f"split {data.uns.get('split', path)}"
    if data.n_obs == 0:
        raise ContractError(f"{where}: no cells")
    if "label" not in data.obs:
        raise ContractError(f"{where}: obs has no column 'label'")
    if "feature_name" not in data.var:
        raise ContractError(f"{where}: var has no column 'feature_name'")
    _check_unique(data.obs_names.to_numpy(), where)
    data.X = as_counts(data.X, where)
    with atomic_path(path) as temporary:
        data.write_h5ad(temporary, compression="gzip", compression_opts=1)


ROUNDING = 1e-2
"""How far a count may be from a whole number when the user asks for rounding: log1p and expm1 in float32 reach 1e-3."""


def as_counts(matrix: Any, where: str, *, to_round: bool = False) -> csr_matrix:
    """Return `matrix` (n_cells, n_genes) as CSR float32 raw counts: finite, not negative, whole numbers.

    Args:
        to_round: whether values within `ROUNDING` of a whole number are rounded.

    Raises:
        ContractError: naming `where`, the first value that is no count, and what may be done.
    """
    from scipy.sparse import csr_matrix, issparse

    matrix = matrix.tocsr() if issparse(matrix) else csr_matrix(matrix)
    values = matrix.data.astype(np.uint8) if matrix.data.dtype.kind == "b" else matrix.data
    for fault, wrong in (("not finite", ~np.isfinite(values)), ("negative", values < 0)):
        if wrong.any():
            raise ContractError(
                f"{where}: the matrix is not raw counts, {int(wrong.sum())} of {values.size} stored values are {fault}"
                f" (such as {values[np.argmax(wrong)]}); name the layer that holds counts with `counts:` in the dataset's entry"
            )
    whole = np.round(values)
    wrong = values != whole
    if wrong.any():
        furthest = float(np.abs(values - whole).max())
        if furthest > ROUNDING or not to_round:
            raise ContractError(
                f"{where}: the matrix is not raw counts, {int(wrong.sum())} of {values.size} stored values are not whole"
                f" numbers (such as {values[np.argmax(wrong)]}); {_remedy(furthest, float(wrong.mean()), to_round)}"
            )
        values = whole
    matrix = csr_matrix((values.astype(np.float32, copy=False), matrix.indices, matrix.indptr), matrix.shape)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _remedy(furthest: float, share: float, to_round: bool) -> str:
    layer = "name the layer that holds counts with `counts:` in the dataset's entry"
    if furthest <= ROUNDING:
        return f"they are off by rounding, by {furthest:.1g} at most: set `round: true` in the dataset's entry"
    if share < 0.5:
        limit = f", and `round: true` rounds what is off by {ROUNDING:g} at most" if to_round else ""
        return (
            "most are whole, so that they look like corrected counts (SoupX, CellBender, alevin), which are taken for no"
            f" raw counts{limit}; {layer}"
        )
    return layer


LARGEST_LOGARITHM = 20.0
"""log2(1 + counts per million) of a cell with one gene is 19.93."""


def as_expression(matrix: Any, where: str, counts: csr_matrix | None = None) -> csr_matrix:
    """Return `matrix` (n_cells, n_genes) as CSR float32 log-normalised expression: finite, and on a logarithmic scale.

    Args:
        counts: the raw counts of the same cells, to tell normalised counts without a logarithm.

    Raises:
        ContractError: naming `where` and what was found.
    """
    from scipy.sparse import csr_matrix, issparse

    matrix = matrix.tocsr() if issparse(matrix) else csr_matrix(matrix)
    matrix = csr_matrix((matrix.data.astype(np.float32, copy=False), matrix.indices, matrix.indptr), matrix.shape)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    remedy = (
        "so it is not log-normalised; name another matrix with `expression` in the dataset's entry, or none to have it"
        " computed from the counts"
    )
    if not np.isfinite(matrix.data).all():
        raise ContractError(f"{where}: the log-normalised expression holds values that are not finite")
    if matrix.nnz and (matrix.data == np.round(matrix.data)).all():
        raise ContractError(f"{where}: the expression holds whole numbers only, {remedy}")
    if matrix.nnz and matrix.data.min() < 0:
        least = float(matrix.data.min())
        raise ContractError(f"{where}: the expression holds negative values (down to {least:.3g}, z-scores?), {remedy}")
    if matrix.nnz and matrix.data.max() > LARGEST_LOGARITHM:
        raise ContractError(f"{where}: the expression holds values up to {float(matrix.data.max()):.3g}, {remedy}")
    if counts is not None and _is_proportional(matrix, counts):
        raise ContractError(f"{where}: the expression of a cell is its counts times a number, {remedy}")
    return matrix


def _is_proportional(expression: csr_matrix, counts: csr_matrix, n_cells: int = 200) -> bool:
    """Return whether in most of the first cells expression is counts times one number, although the counts differ."""
    alike = compared = 0
    for row in range(min(n_cells, expression.shape[0])):
        places = slice(counts.indptr[row], counts.indptr[row + 1])
        values = counts.data[places]
        if len(values) < 2 or np.ptp(values) == 0:
            continue
        scaled = np.asarray(expression[row, counts.indices[places]].todense()).ravel() / values
        compared += 1
        alike += bool(scaled.min() > 0 and np.ptp(scaled) <= 1e-3 * scaled.max())
    return compared > 0 and alike > compared / 2


def log_normalised(counts: csr_matrix) -> csr_matrix:
    """Return log(1 + counts scaled to the median library size), CSR float32, as scanpy's normalize_total and log1p."""
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    target = np.median(totals[totals > 0]) if (totals > 0).any() else 1.0
    scaled = counts.astype(np.float32)
    scaled.data *= np.repeat((target / np.where(totals > 0, totals, 1)).astype(np.float32), np.diff(counts.indptr))
    np.log1p(scaled.data, out=scaled.data)
    return scaled


# --- embedding -------------------------------------------------------------------------------------------------------


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
        with open_h5(path) as file:
            uns = read_scalars(file)
            cells = read_index(file, "obs")
            if "split" in file["obs"]:
                splits = read_column(file, "obs", "split", path)
            else:
                splits = np.full(len(cells), str(uns.get("split", "")), dtype=object)
            shape = _matrix_shape(file["X"], path)
        if shape[0] != len(cells):
            raise ContractError(f"{path}: X has {shape[0]} rows for {len(cells)} cells")
        return cls(path, shape, cells, splits, uns)

    @cached_property
    def matrix(self) -> np.ndarray:
        """The rows, float32, shape (n_cells, n_dims); a cell that the model could not embed is a row of NaN."""
        with open_h5(self.path) as file:
            return _read_dense(file["X"], self.path)

    @cached_property
    def spans(self) -> tuple[str, ...]:
        """The splits that the file holds; none in a file made by hand that names none."""
        return tuple(name for name in dict.fromkeys(self.splits) if name)

    def forget(self) -> None:
        """Give the memory of the matrix back; it is read again when asked for."""
        self.__dict__.pop("matrix", None)

    def rows_of(self, split: Split) -> np.ndarray:
        """Return the rows of `split`'s cells in its order, float32, shape (n_cells, n_dims).

        Raises:
            ContractError: as `places_of`.
        """
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
            f"{self.path}: its cells are not those of split {split.name} in their order"
            f" ({_first_difference(self.cells[places], split.cells)})"
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
            given = ", ".join(dict.fromkeys(name for names in places for name in names)) or "none"
            number = "no embedding" if not fitting else f"{len(fitting)} embeddings"
            raise ContractError(f"{number} given for split {split.name} of {split.dataset} (found: {given})")
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
        ContractError: wrong shape, other cells or order, a row partly NaN or with an infinite value, no row at all.
    """
    matrix = np.ascontiguousarray(matrix, dtype=np.float32)
    expected = np.concatenate([split.cells for split in splits])
    cells = np.asarray(cells, dtype=object)
    if matrix.ndim != 2 or matrix.shape[1] == 0 or len(matrix) != len(cells):
        raise ContractError(f"an embedding of {len(cells)} cells must be a matrix of as many rows, not {matrix.shape}")
    if not np.array_equal(cells, expected):
        raise ContractError(
            f"the rows are not those of the split's cells in their order ({_first_difference(cells, expected)})"
        )
    unembedded = np.isnan(matrix).all(axis=1)
    if unembedded.all() and not uns.get("not_applicable"):
        raise ContractError("no cell was embedded: every row is NaN")
    if not np.isfinite(matrix[~unembedded]).all():
        row = np.flatnonzero(~np.isfinite(matrix).all(axis=1) & ~unembedded)[0]
        raise ContractError(f"the row of cell {cells[row]} holds a value that is not finite")

    names = np.repeat([split.name for split in splits], [len(split.cells) for split in splits])
    facts = {**uns, "unembedded": int(unembedded.sum()), "n_dims": matrix.shape[1]}
    facts = {key: as_plain(value) for key, value in facts.items() if value is not None}
    with atomic_path(path) as temporary:
        _write_h5ad(temporary, matrix, cells, names, facts)


# --- neighbours ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Neighbours:
    """What a task asks of the distances between the cells of a model and split, found once and kept.

    Attributes:
        path: the npz file.
        arrays: by name, as the task's search in `cellgauge.neighbours` returned them, of the embedded cells in their order;
            none where the cells cannot be scored, or where nothing was worth keeping.
        embedded: which cells of the splits are embedded, bool, shape (n_cells,); none where the cells cannot be scored.
        facts: task, model, dataset and split.
    """

    path: Path
    arrays: Mapping[str, np.ndarray]
    embedded: np.ndarray
    facts: Mapping[str, str]

    @classmethod
    def read(cls, path: str | Path, facts: Mapping[str, str], cells: np.ndarray) -> Neighbours:
        """Read a file of neighbours.

        Args:
            facts: what it must be of: task, model, dataset and split.
            cells: the ids of the cells that it must be of, str, shape (n_cells,).

        Raises:
            ContractError: the file is missing or is not one, or is of something else.
        """
        path = Path(path)
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            found = json.loads(str(arrays.pop("facts")))
            digest, embedded = str(arrays.pop("cells")), arrays.pop("embedded")
        except FileNotFoundError:
            raise ContractError(f"{path}: no such file") from None
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ContractError(
                f"{path}: not a file of neighbours, truncated or corrupt ({one_line(error)}); delete it and run again"
            ) from None
        wrong = [
            f"{name} {found.get(name)} instead of {value}" for name, value in facts.items() if found.get(name) != value
        ]
        if not wrong and digest != _digest(cells):
            wrong = ["other cells, or another order of them"]
        if wrong:
            raise ContractError(f"{path}: these neighbours are of {', '.join(wrong)}; delete the file and run again")
        return cls(path, arrays, embedded, found)


def write_neighbours(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    embedded: np.ndarray,
    facts: Mapping[str, str],
    cells: np.ndarray,
) -> None:
    """Write what `Neighbours` describes."""
    about = {"facts": np.array(json.dumps(facts)), "cells": np.array(_digest(cells)), "embedded": embedded}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **about, **arrays)


def _digest(cells: np.ndarray) -> str:
    return hashlib.sha256("\n".join(cells).encode()).hexdigest()


# --- score -----------------------------------------------------------------------------------------------------------

SCORE_COLUMNS = (
    "task",
    "model",
    "dataset",
    "split",
    "classifier",
    "metric",
    "subset",
    "condition",
    "profile",
    "seed",
    "fold",
    "value",
    "status",
    "reason",
    "source",
)
LATER_COLUMNS = ("source",)
"""Columns that files of earlier versions lack: absent is empty."""
TABLE_COLUMNS = ("species",)
"""Columns that scores.csv adds from the catalogue; a reader of score rows passes over them."""
STATUSES = ("ok", "failed", "not_applicable")


@dataclass(frozen=True)
class Score:
    """One row of a score file; an absent field is empty. docs/results.md says what each column holds.

    Raises:
        ContractError: an unknown status, `ok` without a finite value, another status with a value or without a reason.
    """

    metric: str = ""
    value: float | None = None
    profile: str = ""
    classifier: str = ""
    subset: str = ""
    condition: str = ""
    seed: int | None = None
    fold: int | None = None
    status: str = "ok"
    reason: str = ""
    task: str = ""
    model: str = ""
    dataset: str = ""
    split: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ContractError(f"score {self.metric}: status {self.status!r} is none of {', '.join(STATUSES)}")
        if self.status == "ok" and (self.value is None or not math.isfinite(self.value)):
            raise ContractError(f"score {self.metric}: status ok needs a finite value, not {self.value}")
        if self.status != "ok" and (self.value is not None or not self.reason):
            raise ContractError(f"score {self.metric}: status {self.status} needs a reason and no value")

    def cells(self) -> dict[str, str]:
        """Return the row as text, one entry per column."""
        return {column: _text(getattr(self, column)) for column in SCORE_COLUMNS}


def write_scores(path: str | Path, scores: Iterable[Score]) -> None:
    """Write score rows as TSV; floats with all their digits."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, SCORE_COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(score.cells() for score in scores)


def read_scores(path: str | Path) -> list[Score]:
    """Read a score file, TSV or (by its suffix) CSV.

    Raises:
        ContractError: its columns or values are not those of the contract; names the row.
    """
    path = Path(path)
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t", strict=True)
        try:
            columns = tuple(name for name in reader.fieldnames or () if name not in TABLE_COLUMNS)
            if columns + tuple(name for name in LATER_COLUMNS if name not in columns) != SCORE_COLUMNS:
                raise ContractError(f"{path}: the columns are {list(columns)}, not {list(SCORE_COLUMNS)}")
            return [_parse_score(row, f"{path}, row {number}") for number, row in enumerate(reader, 1)]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ContractError(f"{path}: not a readable table of scores ({one_line(error)})") from None


def _parse_score(row: Mapping[str, str], where: str) -> Score:
    if None in row or None in row.values():
        raise ContractError(f"{where}: it has more or fewer fields than there are columns")
    kinds = {"value": float, "seed": int, "fold": int}
    texts = {name: text for name, text in row.items() if name not in TABLE_COLUMNS}
    try:
        numbers = {name: kind(row[name]) if row[name] else None for name, kind in kinds.items()}
        return Score(**{**texts, **numbers})
    except (ValueError, ContractError) as error:
        raise ContractError(f"{where}: {one_line(error)}") from None


def _text(value: object) -> str:
    if value is None:
        return ""
    return repr(float(value)) if isinstance(value, float | np.floating) else one_line(value)


def as_plain(value: Any) -> Any:
    """Return `value` as uns can hold it: str, bool or a number; dicts, lists and tuples become JSON."""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, sort_keys=True)
    return value if isinstance(value, str | bool) else np.asarray(value)[()]


# --- h5ad with h5py --------------------------------------------------------------------------------------------------


@contextmanager
def open_h5(path: str | Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; raise ContractError when it is missing, truncated or no HDF5."""
    import h5py

    path = Path(path)
    if not path.is_file():
        raise ContractError(f"{path}: no such file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ContractError(f"{path}: not a readable h5ad file, truncated or corrupt ({one_line(error)})") from None
    with file:
        missing = {"obs", "var", "X"} - set(file)
        if missing:
            raise ContractError(f"{path}: not an h5ad file with a matrix, it lacks {', '.join(sorted(missing))}")
        yield file


def read_scalars(file: h5py.File) -> dict[str, Any]:
    """Return the scalars of uns (groups and arrays are left out)."""
    import h5py

    scalars = {}
    for key, item in file.get("uns", {}).items():
        if isinstance(item, h5py.Dataset) and item.shape == ():
            value = item[()]
            scalars[key] = value.decode() if isinstance(value, bytes) else np.asarray(value)[()]
    return scalars


def _write_h5ad(path: Path, matrix: np.ndarray, cells: np.ndarray, splits: np.ndarray, uns: Mapping[str, Any]) -> None:
    """Write X, obs["split"] and uns as anndata 0.8 and later write them (its documentation: "on-disk format").

    Args:
        matrix: float32, shape (n_cells, n_dims).
        cells, splits: the id and the split of each cell, shape (n_cells,).
        uns: str, bool or numbers.
    """
    import h5py

    with h5py.File(path, "w") as file:
        _encoded(file, "anndata", "0.1.0")
        _encoded(file.create_dataset("X", data=matrix), "array", "0.2.0")
        obs = _write_frame(file, "obs", cells, ["split"])
        categories, codes = np.unique(splits, return_inverse=True)
        column = _encoded(obs.create_group("split"), "categorical", "0.2.0")
        column.attrs["ordered"] = False
        _write_strings(column, "categories", categories)
        codes = codes.astype(np.min_scalar_type(-len(categories)))
        _encoded(column.create_dataset("codes", data=codes), "array", "0.2.0")
        _write_frame(file, "var", [str(column) for column in range(matrix.shape[1])], [])
        for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
            _encoded(file.create_group(name), "dict", "0.1.0")
        for name, value in uns.items():
            kind = "string" if isinstance(value, str) else "numeric-scalar"
            _encoded(file["uns"].create_dataset(name, data=value), kind, "0.2.0")


def _write_frame(file: h5py.File, name: str, index: Sequence[str], columns: Sequence[str]) -> h5py.Group:
    import h5py

    frame = _encoded(file.create_group(name), "dataframe", "0.2.0")
    frame.attrs["_index"] = "_index"
    frame.attrs["column-order"] = np.asarray(columns, dtype=h5py.string_dtype())
    _write_strings(frame, "_index", index)
    return frame


def _write_strings(group: h5py.Group, name: str, values: Sequence[str]) -> None:
    import h5py

    strings = np.asarray([str(value) for value in values], dtype=object)
    _encoded(group.create_dataset(name, data=strings, dtype=h5py.string_dtype()), "string-array", "0.2.0")


def _encoded(item: h5py.Group | h5py.Dataset, kind: str, version: str) -> h5py.Group | h5py.Dataset:
    item.attrs["encoding-type"], item.attrs["encoding-version"] = kind, version
    return item


def _index_key(frame: h5py.Group) -> str:
    key = frame.attrs.get("_index", "_index")
    return key.decode() if isinstance(key, bytes) else key


def read_index(file: h5py.File, frame: str) -> np.ndarray:
    """Return the index of "obs" or "var", str, shape (n,)."""
    return read_column(file, frame, _index_key(file[frame]), Path(file.filename))


def read_column(file: h5py.File, frame: str, name: str, path: Path) -> np.ndarray:
    """Return a column of "obs" or "var" as str, shape (n,); raise ContractError when it is missing."""
    if name not in file[frame]:
        found = ", ".join(sorted(key for key in file[frame] if not key.startswith("_"))) or "none"
        raise ContractError(f"{path}: {frame} has no column '{name}' (found: {found})")
    item = file[frame][name]
    encoding = item.attrs.get("encoding-type", "")
    if encoding == "categorical":
        codes = item["codes"][:]
        categories = np.append(_strings(item["categories"]), "")
        return categories[np.where(codes < 0, len(categories) - 1, codes)]
    if encoding == "string-array" or (encoding == "array" and item.dtype.kind not in "fO"):
        return _strings(item)
    from anndata.io import read_elem

    from cellgauge.data.text_columns import ids

    return ids(read_elem(item))


def _strings(dataset: h5py.Dataset) -> np.ndarray:
    import h5py

    if h5py.check_string_dtype(dataset.dtype) is not None:
        return dataset.asstr()[:].astype(object)
    return np.asarray([str(value) for value in dataset[:].tolist()], dtype=object)


def read_csr(item: h5py.Group | h5py.Dataset, path: Path) -> csr_matrix:
    """Return a matrix of an h5ad file as CSR float32, however it is stored."""
    from scipy.sparse import csc_matrix, csr_matrix

    encoding = item.attrs.get("encoding-type", "array")
    if encoding in ("csr_matrix", "csc_matrix"):
        parts = (item["data"][:].astype(np.float32, copy=False), item["indices"][:], item["indptr"][:])
        kind = csr_matrix if encoding == "csr_matrix" else csc_matrix
        return kind(parts, shape=tuple(item.attrs["shape"])).tocsr()
    if encoding == "array":
        return csr_matrix(item[:].astype(np.float32, copy=False))
    raise ContractError(f"{path}: X is encoded as {encoding!r}, not as a CSR, CSC or dense matrix")


def _read_row_blocks(item: h5py.Group | h5py.Dataset, size: int, path: Path) -> Iterator[tuple[int, csr_matrix]]:
    from scipy.sparse import csr_matrix

    if item.attrs.get("encoding-type", "array") != "csr_matrix":
        whole = read_csr(item, path) if hasattr(item, "keys") else item
        for start in range(0, whole.shape[0], size):
            yield start, csr_matrix(whole[start : start + size], dtype=np.float32)
        return
    n_rows, n_columns = item.attrs["shape"]
    ends = item["indptr"][:]
    for start in range(0, n_rows, size):
        bounds = ends[start : start + size + 1]
        stored = slice(int(bounds[0]), int(bounds[-1]))
        parts = (item["data"][stored].astype(np.float32, copy=False), item["indices"][stored], bounds - bounds[0])
        yield start, csr_matrix(parts, shape=(len(bounds) - 1, n_columns))


def _matrix_shape(item: h5py.Group | h5py.Dataset, path: Path) -> tuple[int, int]:
    shape = tuple(int(n) for n in (item.attrs["shape"] if hasattr(item, "keys") else item.shape))
    if len(shape) != 2 or 0 in shape:
        raise ContractError(f"{path}: X has shape {shape}, an embedding is a matrix of cells x dimensions")
    return shape


def _read_dense(item: h5py.Group | h5py.Dataset, path: Path) -> np.ndarray:
    if hasattr(item, "keys"):
        return read_csr(item, path).toarray()
    matrix = np.empty(item.shape, dtype=np.float32)
    item.read_direct(matrix)
    return matrix


def _check_unique(cells: np.ndarray, where: object) -> None:
    seen: set[str] = set()
    repeated = next((cell for cell in cells if cell in seen or seen.add(cell)), None)
    if repeated is not None:
        raise ContractError(f"{where}: cell ids must be unique, '{repeated}' stands there more than once")


def _first_difference(found: np.ndarray, expected: np.ndarray) -> str:
    if len(found) != len(expected):
        return f"{len(found)} rows, expected {len(expected)}"
    row = int(np.argmax(found != expected))
    return f"row {row} is '{found[row]}', expected '{expected[row]}'"

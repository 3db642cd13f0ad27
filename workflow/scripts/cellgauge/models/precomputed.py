"""A user's own embeddings, read from npy, npz, csv, tsv, parquet or h5ad and aligned with the split's cells."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cellgauge.core.errors import CellgaugeError
from cellgauge.data import tables
from cellgauge.data.genes import without_version
from cellgauge.data.published import Published, open_published
from cellgauge.data.tables import FORMATS, reading_one_of
from cellgauge.files.arrays import Npz, read_npy
from cellgauge.files.split import Split, log_normalized
from cellgauge.files.text_columns import ids, text_column
from cellgauge.models.base import Embedded

SHARED_SPACE = False  # nobody can see in a file whether another split's file is of the same model
PATH = "my_model/{dataset}/{split}.npy"

CELL_ARRAYS = ("cells", "cell_ids", "obs_names", "ids")
MATRIX_ARRAYS = ("embedding", "embeddings", "X", "emb")
LAYOUTS = ("umap", "tsne", "draw_graph", "spatial", "phate", "force", "layout")
"""Words in the names of pictures of cells: never taken for the embedding unasked."""
_COMPARED = 1000
_CHANCE = 3.0
"""Standard errors by which neighbors in an embedding must be more alike in expression than any two cells."""


@dataclass(frozen=True)
class Rows:
    """What a file of embeddings holds.

    Attributes:
        matrix: shape (n_rows, n_dims), finite or NaN.
        cells: the ids of the rows, str; None where the file has none.
        columns: further columns, by name, to verify rows with.
        notes: what was chosen, left out or read in another way than one might think.
    """

    matrix: np.ndarray
    cells: np.ndarray | None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Sequence[str] = ()


def embed(
    cells: Split,
    weights: Path,
    *,
    device: str,
    seed: int,
    align: str = "id",
    key: str = "",
    id_column: str = "",
    columns: str | Sequence[str] = (),
    verify: Mapping[str, str] | None = None,
) -> Embedded:
    """Return the rows of the file `weights` for the split's cells.

    Args:
        align: "id" matches rows by cell id (cells without a row stay NaN, rows of other cells are left out); "row" takes
            the rows as they stand, when there are as many as cells.
        key: the array of an npz, or the obsm entry of an h5ad ("X" for its matrix); needless where only one fits.
        id_column: the column of a table that holds the cell ids (default: the first that holds the split's).
        columns: the columns of a table that are the embedding, as names or patterns ("d*"); by default all, which must be
            of one kind (`cellgauge.data.tables.numbers`).
        verify: {column of the file: column of the split}: aligned rows must agree in them.
    """
    if weights is None:
        raise CellgaugeError("precomputed embeddings need a file: set `path` in the model's entry (by hand: --weights)")
    if align not in ("id", "row"):
        raise CellgaugeError(f"{weights}: align must be 'id' or 'row', not '{align}'")
    verify = verify or {}
    table = read_rows(weights, cells, key=key, id_column=id_column, columns=columns, spare=list(verify))
    rows = rows_by_id(table, cells, weights) if align == "id" else rows_in_order(table, cells, weights)
    matrix = np.full((len(cells.cells), table.matrix.shape[1]), np.nan, dtype=np.float32)
    matrix[rows >= 0] = table.matrix[rows[rows >= 0]]
    refuse_counts(matrix, weights)
    partly = np.flatnonzero(~np.isfinite(matrix).all(axis=1) & ~np.isnan(matrix).all(axis=1))
    if len(partly):
        raise CellgaugeError(
            f"{weights}: the row of cell {cells.cells[partly[0]]} holds a value that is missing or not finite; for a"
            " cell without an embedding, leave out the row or leave all of it empty"
        )
    for column, column_of_split in verify.items():
        _verify(table, rows, cells, column, column_of_split, weights)
    notes = list(table.notes)
    if (rows < 0).any():
        notes.append(f"{int((rows < 0).sum())} of {len(rows)} cells have no row")
    if align == "row" and not verify and looks_shuffled(matrix, cells):
        notes.append(
            "its rows look shuffled: neighbors in it are no more alike in expression than random cells. Save cell"
            " ids with the rows, or check them with `verify`"
        )
    for note in notes:
        print(f"note: {weights}: {note}", file=sys.stderr)
    facts = {"source": weights.name, "notes": "\n".join(notes)} if notes else {"source": weights.name}
    return Embedded(matrix, cells.cells, facts)


def rows_by_id(table: Rows, cells: Split, path: Path) -> np.ndarray:
    """Return the row of each cell, int, shape (n_cells,), -1 where the file has none."""
    if table.cells is None:
        raise CellgaugeError(
            f"{path}: the file holds no cell ids; add them, or set `align: row` in the model's params if its rows are the"
            f" cells of split {cells.name} in their order"
        )
    index = pd.Index(table.cells)
    if not index.is_unique:
        raise CellgaugeError(
            f"{path}: cell id '{index[index.duplicated()][0]}' appears more than once; keep one row of each cell"
        )
    rows = index.get_indexer(cells.cells)
    if (rows < 0).all():
        example = f" (such as '{index[0]}')" if len(index) else ""
        raise CellgaugeError(
            f"{path}: none of its {len(index)} cell ids{example} is one of split {cells.name} (such as '{cells.cells[0]}');"
            " save it with the split's cell ids (obs_names), or name their column with `id_column`"
        )
    return np.asarray(rows)


def rows_in_order(table: Rows, cells: Split, path: Path) -> np.ndarray:
    """Return 0, 1, 2, ...: the rows are the cells in their order."""
    if len(table.matrix) != len(cells.cells):
        raise CellgaugeError(
            f"{path}: it has {len(table.matrix)} rows, split {cells.name} has {len(cells.cells)} cells; rows can be used"
            " in order only if the numbers are equal"
        )
    return np.arange(len(cells.cells))


def _verify(table: Rows, rows: np.ndarray, cells: Split, column: str, column_of_split: str, path: Path) -> None:
    if column not in table.columns:
        raise CellgaugeError(f"{path}: no column '{column}' to verify (found: {', '.join(table.columns) or 'none'})")
    values = text_column(table.columns[column]).values[rows[rows >= 0]]
    wrong = values != text_column(cells.column(column_of_split)).values[rows >= 0]
    if wrong.any():
        raise CellgaugeError(
            f"{path}: its rows are not the cells of split {cells.name}, {int(wrong.sum())} of {len(values)} differ in"
            f" '{column}' from the split's '{column_of_split}'"
        )


def looks_shuffled(matrix: np.ndarray, cells: Split) -> bool:
    """Return whether nearest neighbors in an embedding are no more alike in expression than any two cells.

    Of up to 1,000 cells, alike by the correlation of log-normalized expression; False where there are too few to tell.
    """
    rows = np.flatnonzero(np.isfinite(matrix).all(axis=1))
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _COMPARED)).astype(int)] if len(rows) else rows
    points = matrix[rows].astype(np.float64)
    if len(rows) < 30 or np.ptp(points, axis=0).max() == 0:
        return False
    expression = log_normalized(cells.counts(rows))
    squares = np.asarray(expression.multiply(expression).mean(axis=0)).ravel()
    spread = squares - np.asarray(expression.mean(axis=0)).ravel() ** 2
    dense = expression[:, np.argsort(-spread, kind="stable")[:500]].toarray().astype(np.float64)
    dense -= dense.mean(axis=0)
    norms = np.linalg.norm(dense, axis=1, keepdims=True)
    dense /= np.where(norms > 0, norms, 1)
    alike = dense @ dense.T
    lengths = (points**2).sum(axis=1)
    apart = lengths[:, None] + lengths - 2 * points @ points.T
    np.fill_diagonal(apart, np.inf)
    of_neighbors = alike[np.arange(len(rows)), apart.argmin(axis=1)]
    of_any = alike[~np.eye(len(rows), dtype=bool)]
    return bool(of_neighbors.mean() - of_any.mean() <= _CHANCE * of_any.std() / np.sqrt(len(rows)))


def read_rows(
    path: Path,
    split: Split,
    *,
    key: str = "",
    id_column: str = "",
    columns: str | Sequence[str] = (),
    spare: Collection[str] = (),
) -> Rows:
    """Read a file of embeddings; see `embed` for the options. `spare` are columns to verify rows with."""
    columns = (columns,) if isinstance(columns, str) else tuple(columns)
    readers: dict[str, Callable[[], Rows]] = {
        ".npy": lambda: Rows(read_npy(path), None),
        ".npz": lambda: _read_npz(path, key),
        **dict.fromkeys(FORMATS, lambda: _read_table(path, split, id_column, columns, spare)),
        ".h5ad": lambda: _read_h5ad(path, split, key),
    }
    with reading_one_of(readers, path, "embeddings") as ending:
        table = readers[ending]()
    matrix = table.matrix
    if matrix.ndim != 2 or matrix.dtype.kind not in "iuf" or 0 in matrix.shape:
        raise CellgaugeError(
            f"{path}: an embedding is a matrix of numbers, cells x dimensions, not {matrix.dtype} of shape {matrix.shape}"
        )
    if table.cells is not None and len(table.cells) != len(matrix):
        raise CellgaugeError(f"{path}: it has {len(matrix)} rows for {len(table.cells)} cell ids")
    return table


def refuse_counts(matrix: np.ndarray, path: Path) -> None:
    """Raise CellgaugeError where an embedding holds whole numbers alone, none of them negative."""
    known = matrix[np.isfinite(matrix).all(axis=1)]
    if len(known) and (known >= 0).all() and np.ptp(known) > 0 and (known == np.round(known)).all():
        raise CellgaugeError(
            f"{path}: this looks like counts, not like an embedding: it has only whole numbers (from {known.min():g} to"
            f" {known.max():g}); name the embedding with `key` (h5ad, npz) or `columns`"
        )


def _read_npz(path: Path, key: str) -> Rows:
    arrays = Npz(path)
    cells = next((ids(arrays[name].ravel()) for name in CELL_ARRAYS if name in arrays), None)
    names = [name for name in arrays if name not in CELL_ARRAYS]
    likely = [name for name in names if name in MATRIX_ARRAYS] or names
    return Rows(arrays[_choose(key, names, likely, path, "array")], cells)


def _read_table(path: Path, split: Split, id_name: str, columns: Sequence[str], spare: Collection[str]) -> Rows:
    table = tables.read_table(path, text_columns=[name for name in (id_name, *spare) if name])
    id_name = tables.id_column(table.frame, split.cells, path, id_name)
    cells = None if id_name is None else ids(table.frame[id_name])
    further = {name: table.frame[name].to_numpy() for name in spare if name in table.frame}
    frame = tables.without_ids(table.frame, id_name)
    names, matrix, notes = tables.numbers(frame, path, columns=columns, spare=spare)
    _refuse_genes(names, split, path, "its columns")
    if notes and len(names) > 1:
        notes = [f"{len(names)} dimensions ({names[0]} to {names[-1]}); {notes[0]}"]
    return Rows(matrix, cells, further, [*table.notes, *notes])


def _read_h5ad(path: Path, split: Split, key: str) -> Rows:
    with open_published(path) as file:
        names = [*file.embeddings, *(["X"] if "X" in file.matrices else [])]
        chosen = _choose(key, names, _likely(file, split), path, "matrix")
        if chosen == "X":
            _refuse_genes(ids(file.genes("X").index), split, path, "the columns of X")
        matrix = file.embedding(chosen)
        columns = {str(name): file.obs[name].to_numpy() for name in file.obs}
        others = ", ".join(name for name in names if name != chosen)
        notes = [f"taken: {chosen}; not taken: {others}"] if others and not key else []
        return Rows(matrix, ids(file.obs.index), columns, notes)


def _likely(file: Published, split: Split) -> list[str]:
    """Return what of an h5ad may be the embedding: the entries of obsm, but no lone picture; X where it is not of genes."""
    likely = list(file.embeddings)
    if len(likely) == 1 and any(word in likely[0].lower() for word in LAYOUTS):
        likely = []
    if "X" in file.matrices and not (likely and _is_expression(file, split)):
        likely.append("X")
    return likely


def _is_expression(file: Published, split: Split) -> bool:
    """Return whether X is of genes or of counts, judged by its columns' names and its first cells."""
    if _shared_genes(ids(file.genes("X").index), split):
        return True
    first = file.rows("X", np.arange(min(len(file.obs), 100)))
    return bool((first.data >= 0).all() and (first.data == np.round(first.data)).all())


def _shared_genes(names: Collection[str], split: Split) -> list[str]:
    known = {*split.genes, *split.symbols}
    return [str(name) for name in names if name in known or without_version(str(name)) in known]


def _refuse_genes(names: Collection[str], split: Split, path: Path, what: str) -> None:
    shared = _shared_genes(names, split)
    if 2 * len(shared) > len(names):
        raise CellgaugeError(
            f"{path}: this looks like counts (or expression), not like an embedding: {len(shared)} of {len(names)} of {what}"
            f" are genes of split {split.name} (such as {shared[0]}); name the embedding with `key`, or save only the embedding"
        )


def _choose(key: str, names: Sequence[str], likely: Sequence[str], path: Path, kind: str) -> str:
    """Return the matrix called `key`, or the only likely one."""
    known = f"(found: {', '.join(names) or 'none'})"
    if key and key not in names:
        raise CellgaugeError(f"{path}: no {kind} '{key}' {known}")
    if not key and len(likely) != 1:
        raise CellgaugeError(f"{path}: which {kind} is the embedding? Name it with `key` in the model's params {known}")
    return key or likely[0]

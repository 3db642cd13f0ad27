"""A user's own embeddings, read from npy, npz, csv, tsv, parquet or h5ad and aligned with the split's cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cellgauge.errors import CellgaugeError
from cellgauge.models.base import Embedded

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from cellgauge.contracts import Split

SCOPE = "split"
SHARED_SPACE = True
STOCHASTIC = False
PATH = "my_model/{dataset}/{split}.npy"

CELL_ARRAYS = ("cells", "cell_ids", "obs_names", "ids")
MATRIX_ARRAYS = ("embedding", "embeddings", "X", "emb")


@dataclass(frozen=True)
class _Table:
    """What a file holds: matrix (n_rows, n_dims), the rows' cell ids (None where it has none), further columns."""

    matrix: np.ndarray
    cells: np.ndarray | None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)


def embed(
    cells: Split,
    weights: Path,
    *,
    device: str,
    seed: int,
    align: str = "id",
    key: str = "",
    id_column: str = "",
    verify: Mapping[str, str] | None = None,
) -> Embedded:
    """Return the rows of the file `weights` for the split's cells.

    Args:
        align: "id" matches rows by cell id (cells without a row stay NaN, rows of other cells are left out); "row" takes
            the rows as they stand, when there are as many as cells.
        key: the array of an npz, or the obsm entry of an h5ad ("X" for its matrix); found by itself where only one fits.
        id_column: the column of a csv, tsv or parquet that holds the cell ids (default: the first, or parquet's index).
        verify: {column of the file: column of the split}: aligned rows must agree in them.

    Raises:
        CellgaugeError: a file of another format, no ids, repeated ids, other cells, a wrong number of rows.
    """
    import numpy as np

    if weights is None:
        raise CellgaugeError("precomputed embeddings need a file: set `path` in the model's entry (by hand: --weights)")
    if align not in ("id", "row"):
        raise CellgaugeError(f"{weights}: align must be 'id' or 'row', not '{align}'")
    table = _read(weights, key, id_column)
    if table.matrix.ndim != 2 or not np.issubdtype(table.matrix.dtype, np.number):
        raise CellgaugeError(
            f"{weights}: an embedding is a matrix of numbers, cells x dimensions, not {table.matrix.dtype} of shape"
            f" {table.matrix.shape}"
        )
    rows = _by_id(table, cells, weights) if align == "id" else _by_row(table, cells, weights)
    matrix = np.full((len(cells.cells), table.matrix.shape[1]), np.nan, dtype=np.float32)
    matrix[rows >= 0] = table.matrix[rows[rows >= 0]]
    for theirs, ours in (verify or {}).items():
        _verify(table, rows, cells, theirs, ours, weights)
    return Embedded(matrix, cells.cells, {"source": weights.name})


def _by_id(table: _Table, cells: Split, path: Path) -> np.ndarray:
    """Return the row of each cell, -1 where the file has none."""
    import numpy as np
    import pandas as pd

    if table.cells is None:
        raise CellgaugeError(
            f"{path}: the file holds no cell ids; add them, or set `align: row` in the model's params if its rows are the"
            f" cells of split {cells.name} in their order"
        )
    index = pd.Index(table.cells)
    if not index.is_unique:
        raise CellgaugeError(f"{path}: cell id '{index[index.duplicated()][0]}' stands there more than once")
    rows = index.get_indexer(cells.cells)
    if (rows < 0).all():
        raise CellgaugeError(
            f"{path}: none of its {len(index)} cell ids (such as '{index[0]}') is one of split {cells.name}"
            f" (such as '{cells.cells[0]}')"
        )
    return np.asarray(rows)


def _by_row(table: _Table, cells: Split, path: Path) -> np.ndarray:
    import numpy as np

    if len(table.matrix) != len(cells.cells):
        raise CellgaugeError(
            f"{path}: it has {len(table.matrix)} rows, split {cells.name} has {len(cells.cells)} cells; rows can be taken"
            " in order only when the counts match"
        )
    return np.arange(len(cells.cells))


def _verify(table: _Table, rows: np.ndarray, cells: Split, theirs: str, ours: str, path: Path) -> None:
    if theirs not in table.columns:
        raise CellgaugeError(f"{path}: no column '{theirs}' to verify (found: {', '.join(table.columns) or 'none'})")
    found = table.columns[theirs].astype(str)[rows[rows >= 0]]
    wrong = found != cells.column(ours)[rows >= 0]
    if wrong.any():
        raise CellgaugeError(
            f"{path}: its rows are not the cells of split {cells.name}, {int(wrong.sum())} of {len(found)} differ in"
            f" '{theirs}' from the split's '{ours}'"
        )


def _read(path: Path, key: str, id_column: str) -> _Table:
    readers = {
        ".npy": lambda: _read_npy(path),
        ".npz": lambda: _read_npz(path, key),
        ".csv": lambda: _read_text(path, ",", id_column),
        ".tsv": lambda: _read_text(path, "\t", id_column),
        ".parquet": lambda: _read_parquet(path, id_column),
        ".h5ad": lambda: _read_h5ad(path, key),
    }
    if path.suffix not in readers:
        raise CellgaugeError(f"{path}: unknown format '{path.suffix}'; embeddings are read from {', '.join(readers)}")
    if not path.is_file():
        raise CellgaugeError(f"{path}: no such file")
    try:
        return readers[path.suffix]()
    except CellgaugeError:
        raise
    except Exception as error:  # every reader has errors of its own for a damaged file
        raise CellgaugeError(f"{path}: cannot be read as {path.suffix[1:]} ({error})") from None


def _read_npy(path: Path) -> _Table:
    import numpy as np

    return _Table(np.load(path, allow_pickle=False), None)


def _read_npz(path: Path, key: str) -> _Table:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        ids = next((arrays[name].astype(str) for name in CELL_ARRAYS if name in arrays), None)
        return _Table(arrays[_choose(key, [n for n in arrays if n not in CELL_ARRAYS], path, "array")], ids)


def _read_text(path: Path, separator: str, id_column: str) -> _Table:
    import pandas as pd

    with path.open(encoding="utf-8") as file:
        id_column = id_column or file.readline().rstrip("\r\n").split(separator)[0].strip('"')
    frame = pd.read_csv(path, sep=separator, dtype={id_column: str} if id_column else {0: str})
    return _split_columns(frame.set_index(frame.columns[0] if not id_column else _has(frame, id_column, path)))


def _read_parquet(path: Path, id_column: str) -> _Table:
    import pandas as pd

    frame = pd.read_parquet(path)
    if id_column:
        frame = frame.set_index(_has(frame, id_column, path))
    elif isinstance(frame.index, pd.RangeIndex):
        first = frame.columns[0]
        if not pd.api.types.is_numeric_dtype(frame[first]):
            frame = frame.set_index(first)
    table = _split_columns(frame)
    return _Table(table.matrix, None, table.columns) if isinstance(frame.index, pd.RangeIndex) else table


def _has(frame: object, column: str, path: Path) -> str:
    if column not in frame:
        raise CellgaugeError(f"{path}: no column '{column}' for cell ids (found: {', '.join(map(str, frame.columns))})")
    return column


def _split_columns(frame: object) -> _Table:
    """Take the numeric columns as the embedding and the others as columns to verify."""
    numeric = frame.select_dtypes("number")
    others = {str(name): frame[name].to_numpy().astype(str) for name in frame.columns if name not in numeric}
    return _Table(numeric.to_numpy(), frame.index.astype(str).to_numpy(), others)


def _read_h5ad(path: Path, key: str) -> _Table:
    import h5py
    from anndata.io import read_elem

    with h5py.File(path, "r") as file:
        obs = read_elem(file["obs"])
        matrices = [*file.get("obsm", {}), *(["X"] if "X" in file else [])]
        chosen = _choose(key, matrices, path, "matrix")
        matrix = read_elem(file["X"] if chosen == "X" else file["obsm"][chosen])
    matrix = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    matrix = matrix.to_numpy() if hasattr(matrix, "to_numpy") else matrix
    return _Table(matrix, obs.index.astype(str).to_numpy(), {str(c): obs[c].to_numpy().astype(str) for c in obs})


def _choose(key: str, there: list[str], path: Path, kind: str) -> str:
    if key:
        if key not in there:
            raise CellgaugeError(f"{path}: no {kind} '{key}' (found: {', '.join(there) or 'none'})")
        return key
    likely = [name for name in there if name in MATRIX_ARRAYS] or there
    if len(likely) != 1:
        raise CellgaugeError(
            f"{path}: which {kind} is the embedding? Name it with `key` in the model's params (found:"
            f" {', '.join(there) or 'none'})"
        )
    return likely[0]

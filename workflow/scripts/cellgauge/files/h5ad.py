"""Parts of h5ad files, read and written with h5py alone: a job that starts for each of some thousand cells of the grid
must not pay a second for importing anndata. What h5py cannot place is read by anndata itself.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellgauge.core.errors import ContractError, one_line
from cellgauge.files.checked import CheckedFile

if TYPE_CHECKING:
    import h5py
    from scipy.sparse import csr_matrix


ROWS_AT_ONCE = 512  # of a matrix that are in memory at a time


def as_plain(value: Any) -> Any:
    """Return `value` as uns can hold it: str, bool or a number; dicts, lists and tuples become JSON."""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, sort_keys=True)
    return value if isinstance(value, str | bool) else np.asarray(value)[()]


@contextmanager
def open_h5(path: str | Path, source: CheckedFile | None = None) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, through `source` where it is given; raise ContractError when it is missing,
    truncated or no HDF5.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise ContractError(f"{path}: no such file")
    try:
        file = h5py.File(source or path, "r")
    except OSError as error:
        raise ContractError(f"{path}: not a readable h5ad file, truncated or corrupt ({one_line(error)})") from None
    with file:
        missing = {"obs", "var", "X"} - set(file)
        if missing:
            raise ContractError(f"{path}: not an h5ad file with a matrix, it lacks {', '.join(sorted(missing))}")
        yield file


@contextmanager
def open_stage(path: str | Path) -> Iterator[h5py.File]:
    """Open an HDF5 file that another stage wrote: as `open_h5`, and what is read of it is compared with its checksums."""
    with CheckedFile(path) as source, open_h5(path, source) as file:
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


def write_h5ad(path: Path, matrix: np.ndarray, cells: np.ndarray, splits: np.ndarray, uns: Mapping[str, Any]) -> None:
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


def _write_frame(file: h5py.File, name: str, index: Iterable[str], columns: Sequence[str]) -> h5py.Group:
    import h5py

    frame = _encoded(file.create_group(name), "dataframe", "0.2.0")
    frame.attrs["_index"] = "_index"
    frame.attrs["column-order"] = np.asarray(columns, dtype=h5py.string_dtype())
    _write_strings(frame, "_index", index)
    return frame


def _write_strings(group: h5py.Group, name: str, values: Iterable[str]) -> None:
    import h5py

    strings = np.asarray([str(value) for value in values], dtype=object)
    _encoded(group.create_dataset(name, data=strings, dtype=h5py.string_dtype()), "string-array", "0.2.0")


def _encoded(item: h5py.Group | h5py.Dataset, kind: str, version: str) -> h5py.Group | h5py.Dataset:
    item.attrs["encoding-type"], item.attrs["encoding-version"] = kind, version
    return item


def index_key(frame: h5py.Group) -> str:
    key = frame.attrs.get("_index", "_index")
    return key.decode() if isinstance(key, bytes) else key


def read_index(file: h5py.File, frame: str) -> np.ndarray:
    """Return the index of "obs" or "var", str, shape (n,)."""
    return read_column(file, frame, index_key(file[frame]), Path(file.filename))


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

    from cellgauge.files.text_columns import ids

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


def read_row_blocks(
    item: h5py.Group | h5py.Dataset, size: int, path: Path, first: int = 0, last: int | None = None
) -> Iterator[tuple[int, csr_matrix]]:
    """Yield (first row, rows) of a matrix of an h5ad file, CSR float32, `size` rows at a time, from `first` up to `last`."""
    from scipy.sparse import csr_matrix

    if item.attrs.get("encoding-type", "array") != "csr_matrix":
        whole = read_csr(item, path) if hasattr(item, "keys") else item
        last = whole.shape[0] if last is None else min(last, whole.shape[0])
        for start in range(first, last, size):
            yield start, csr_matrix(whole[start : min(start + size, last)], dtype=np.float32)
        return
    n_rows, n_columns = item.attrs["shape"]
    last = n_rows if last is None else min(last, n_rows)
    ends = item["indptr"][first : last + 1]
    for start in range(first, last, size):
        bounds = ends[start - first : start - first + size + 1]
        stored = slice(int(bounds[0]), int(bounds[-1]))
        parts = (item["data"][stored].astype(np.float32, copy=False), item["indices"][stored], bounds - bounds[0])
        yield start, csr_matrix(parts, shape=(len(bounds) - 1, n_columns))


def matrix_shape(item: h5py.Group | h5py.Dataset, path: Path) -> tuple[int, int]:
    shape = tuple(int(n) for n in (item.attrs["shape"] if hasattr(item, "keys") else item.shape))
    if len(shape) != 2 or 0 in shape:
        raise ContractError(f"{path}: X has shape {shape}, an embedding is a matrix of cells x dimensions")
    return shape


def read_dense(item: h5py.Group | h5py.Dataset, path: Path) -> np.ndarray:
    if hasattr(item, "keys"):
        return read_csr(item, path).toarray()
    matrix = np.empty(item.shape, dtype=np.float32)
    item.read_direct(matrix)
    return matrix


def check_unique(cells: np.ndarray, where: object) -> None:
    if len(set(cells)) < len(cells):
        repeated, _ = Counter(cells).most_common(1)[0]
        raise ContractError(f"{where}: cell ids must be unique, '{repeated}' appears more than once")


def first_difference(cells: np.ndarray, expected: np.ndarray) -> str:
    if len(cells) != len(expected):
        return f"{len(cells)} rows, expected {len(expected)}"
    row = int(np.argmax(cells != expected))
    return f"row {row} is '{cells[row]}', expected '{expected[row]}'"

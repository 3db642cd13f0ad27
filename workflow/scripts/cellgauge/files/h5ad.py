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

import h5py
import numpy as np

from cellgauge.core.errors import CellgaugeError, ContractError, reading
from cellgauge.files.checked import CheckedFile
from cellgauge.files.hdf5 import open_hdf5

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


ROWS_AT_ONCE = 512  # of a matrix that are in memory at a time


def as_plain(value: Any) -> Any:
    """Return `value` as uns can hold it: str, bool or a number; dicts, lists and tuples become JSON."""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, sort_keys=True)
    return value if isinstance(value, str | bool) else np.asarray(value)[()]


@contextmanager
def open_h5(path: str | Path, source: CheckedFile | None = None) -> Iterator[h5py.File]:
    """Open an h5ad file for reading, through `source` where it is given; raise ContractError when it is missing, refused
    (`open_hdf5`), damaged or no h5ad.
    """
    path = Path(path)
    try:
        with open_hdf5(path, source) as file, reading(f"{path}: it cannot be read, truncated or corrupt"):
            missing = {"obs", "var", "X"} - set(file)
            if missing:
                raise ContractError(f"{path}: not an h5ad file with a matrix, it lacks {', '.join(sorted(missing))}")
            yield file
    except ContractError:
        raise
    except CellgaugeError as error:
        raise ContractError(str(error)) from None


@contextmanager
def open_stage(path: str | Path) -> Iterator[h5py.File]:
    """Open an HDF5 file that another stage wrote: as `open_h5`, and what is read of it is compared with its checksums."""
    with CheckedFile(path) as source, open_h5(path, source) as file:
        yield file


def read_scalars(file: h5py.File) -> dict[str, Any]:
    """Return the scalars of uns (groups and arrays are left out)."""
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
    frame = _encoded(file.create_group(name), "dataframe", "0.2.0")
    frame.attrs["_index"] = "_index"
    frame.attrs["column-order"] = np.asarray(columns, dtype=h5py.string_dtype())
    _write_strings(frame, "_index", index)
    return frame


def _write_strings(group: h5py.Group, name: str, values: Iterable[str]) -> None:
    strings = np.asarray([str(value) for value in values], dtype=object)
    _encoded(group.create_dataset(name, data=strings, dtype=h5py.string_dtype()), "string-array", "0.2.0")


def _encoded(item: h5py.Group | h5py.Dataset, kind: str, version: str) -> h5py.Group | h5py.Dataset:
    item.attrs["encoding-type"], item.attrs["encoding-version"] = kind, version
    return item


def index_key(frame: h5py.Group) -> str:
    """Return the name of the index of a table."""
    key = frame.attrs.get("_index", "_index")
    return key.decode() if isinstance(key, bytes) else key


def read_index(file: h5py.File, frame: str) -> np.ndarray:
    """Return the index of "obs" or "var", str, shape (n,)."""
    return read_column(file, frame, index_key(file[frame]), Path(file.filename))


def read_column(file: h5py.File, frame: str, name: str, path: Path) -> np.ndarray:
    """Return a column of "obs" or "var" as str, shape (n,); raise ContractError when it is missing."""
    if name not in file[frame]:
        names = ", ".join(sorted(key for key in file[frame] if not key.startswith("_"))) or "none"
        raise ContractError(f"{path}: {frame} has no column '{name}' (found: {names})")
    values = _column(file[frame][name], f"{path}: {frame} column '{name}'")
    index = file[frame].get(index_key(file[frame]))
    if values.ndim != 1 or len(values) != getattr(index, "shape", values.shape)[0]:
        raise ContractError(f"{path}: {frame} column '{name}' has shape {values.shape}, not one value per row")
    return values


def _column(item: h5py.Group | h5py.Dataset, where: str) -> np.ndarray:
    encoding = item.attrs.get("encoding-type", "")
    if encoding == "categorical":
        codes = item["codes"][:]
        categories = np.append(_strings(item["categories"]), "")
        if codes.size and codes.max() >= len(categories) - 1:
            raise ContractError(f"{where} contains codes of no category")
        return categories[np.where(codes < 0, len(categories) - 1, codes)]
    if encoding == "string-array" or (encoding == "array" and item.dtype.kind not in "fO"):
        return _strings(item)
    from anndata.io import read_elem

    from cellgauge.files.text_columns import ids

    return ids(read_elem(item))


def _strings(dataset: h5py.Dataset) -> np.ndarray:
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return dataset.asstr()[:].astype(object)
    return np.asarray([str(value) for value in dataset[:].tolist()], dtype=object)


def sparse_ends(item: h5py.Group, path: Path) -> tuple[tuple[int, int], np.ndarray]:
    """Return the shape of a sparse matrix, and where its rows (columns of CSC) end in its data: int64, ascending from 0.

    What scipy takes on trust is checked here, but for the numbers of columns, which are checked where they are read.

    Raises:
        ContractError: the parts of the matrix do not fit together, or are not numbers.
    """
    encoding = item.attrs.get("encoding-type", "")
    shape = np.asarray(item.attrs.get("shape", ()))
    parts = [item.get(name) for name in ("data", "indices", "indptr")]
    if encoding not in ("csr_matrix", "csc_matrix"):
        raise ContractError(f"{path}: X is encoded as {encoding!r}, not as a CSR, CSC or dense matrix")
    if any(not isinstance(part, h5py.Dataset) or part.ndim != 1 for part in parts):
        raise ContractError(f"{path}: the sparse matrix lacks data, indices or indptr")
    data, indices, indptr = parts
    _check_numbers(data.dtype, path)
    if shape.shape != (2,) or shape.dtype.kind not in "iu" or shape.min() < 0 or shape.max() > np.iinfo(np.int64).max:
        raise ContractError(f"{path}: the shape of the sparse matrix is {shape.tolist()}, not two numbers")
    if indices.dtype.kind not in "iu" or indptr.dtype.kind not in "iu":
        kinds = f"{indices.dtype}, {indptr.dtype}"
        raise ContractError(f"{path}: the places of the sparse matrix are {kinds}, not integers")
    n_rows = int(shape[0 if encoding == "csr_matrix" else 1])
    if len(data) != len(indices) or len(indptr) != n_rows + 1:
        lengths = f"{len(data)} values, {len(indices)} places, {len(indptr)} ends"
        raise ContractError(f"{path}: the parts of the sparse matrix do not fit its shape {shape.tolist()}: {lengths}")
    ends = indptr[:]
    if ends[0] != 0 or ends[-1] != len(data) or (ends[1:] < ends[:-1]).any():
        raise ContractError(f"{path}: the rows of the sparse matrix do not follow each other from 0 to {len(data)}")
    return (int(shape[0]), int(shape[1])), ends.astype(np.int64, copy=False)


def _check_numbers(dtype: np.dtype, path: Path) -> None:
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise ContractError(f"{path}: the matrix holds {dtype}, not numbers")


def _placed(indices: np.ndarray, n_columns: int, path: Path) -> np.ndarray:
    """Return the places of values; raise ContractError where one is no column."""
    if indices.size and (indices.min() < 0 or indices.max() >= n_columns):
        places = f"{indices.min()} to {indices.max()}"
        raise ContractError(f"{path}: the places of the sparse matrix run from {places}, it has {n_columns} columns")
    return indices


def read_csr(item: h5py.Group | h5py.Dataset, path: Path, dtype: type | None = np.float32) -> csr_matrix:
    """Return a matrix of an h5ad file as CSR, however it is stored.

    Args:
        dtype: of the values; None for that of the file (float16, which scipy has not, becomes float32).

    Raises:
        ContractError: it is no matrix of numbers, or its parts do not fit together.
    """
    from scipy.sparse import csc_matrix, csr_matrix

    if not hasattr(item, "keys"):
        kind = type_for_scipy(item.dtype, path)
        return csr_matrix(item[:].astype(dtype or kind, copy=False))
    shape, ends = sparse_ends(item, path)
    is_csr = item.attrs["encoding-type"] == "csr_matrix"
    indices = _placed(item["indices"][:], shape[1] if is_csr else shape[0], path)
    values = item["data"][:].astype(dtype or type_for_scipy(item["data"].dtype, path), copy=False)
    return (csr_matrix if is_csr else csc_matrix)((values, indices, ends), shape=shape).tocsr()


def type_for_scipy(dtype: np.dtype, path: Path) -> np.dtype:
    """Return the dtype of numbers in scipy, which has no half precision; raise ContractError where they are no numbers."""
    _check_numbers(dtype, path)
    return np.dtype(np.float32) if dtype.kind in "bf" and dtype.itemsize < 4 else dtype


def read_row_blocks(
    item: h5py.Group | h5py.Dataset, size: int, path: Path, first: int = 0, last: int | None = None
) -> Iterator[tuple[int, csr_matrix]]:
    """Yield (first row, rows) of a matrix of an h5ad file, CSR float32, `size` rows at a time, from `first` up to `last`."""
    from scipy.sparse import csr_matrix

    if item.attrs.get("encoding-type", "array") != "csr_matrix":
        whole = read_csr(item, path) if hasattr(item, "keys") else item
        _check_numbers(whole.dtype, path)
        last = whole.shape[0] if last is None else min(last, whole.shape[0])
        for start in range(first, last, size):
            yield start, csr_matrix(whole[start : min(start + size, last)], dtype=np.float32)
        return
    (n_rows, n_columns), ends = sparse_ends(item, path)
    last = n_rows if last is None else min(last, n_rows)
    for start in range(first, last, size):
        bounds = ends[start : min(start + size, last) + 1]
        stored = slice(int(bounds[0]), int(bounds[-1]))
        places = _placed(item["indices"][stored], n_columns, path)
        parts = (item["data"][stored].astype(np.float32, copy=False), places, bounds - bounds[0])
        yield start, csr_matrix(parts, shape=(len(bounds) - 1, n_columns))


def read_rows(item: h5py.Group | h5py.Dataset, rows: np.ndarray, path: Path) -> csr_matrix:
    """Return rows (ascending positions) of a matrix of an h5ad file, CSR float32; some thousand are in memory beside them."""
    from scipy.sparse import vstack

    parts = []
    for start, block in read_row_blocks(item, 8192, path):
        first, last = np.searchsorted(rows, (start, start + block.shape[0]))
        parts.append(block[rows[first:last] - start])
    return vstack(parts, format="csr")


def matrix_shape(item: h5py.Group | h5py.Dataset, path: Path) -> tuple[int, int]:
    """Return the shape of a matrix of an h5ad file; raise ContractError where it is no matrix of numbers, or is empty."""
    if hasattr(item, "keys"):
        shape: tuple[int, ...] = sparse_ends(item, path)[0]
    else:
        _check_numbers(item.dtype, path)
        shape = item.shape
    if len(shape) != 2 or 0 in shape:
        raise ContractError(f"{path}: X has shape {shape}, an embedding is a matrix of cells x dimensions")
    return shape


def read_dense(item: h5py.Group | h5py.Dataset, path: Path) -> np.ndarray:
    """Return a matrix of an h5ad file, float32."""
    if hasattr(item, "keys"):
        return read_csr(item, path).toarray()
    matrix = np.empty(item.shape, dtype=np.float32)
    item.read_direct(matrix)
    return matrix


def check_unique(cells: np.ndarray, where: object) -> None:
    """Raise ContractError, which begins with `where`, for an id that appears more than once."""
    if len(set(cells)) < len(cells):
        repeated, _ = Counter(cells).most_common(1)[0]
        raise ContractError(f"{where}: cell ids must be unique, '{repeated}' appears more than once")


def first_difference(cells: np.ndarray, expected: np.ndarray) -> str:
    """Return in what ids differ from those that are expected."""
    if len(cells) != len(expected):
        return f"{len(cells)} rows, expected {len(expected)}"
    row = int(np.argmax(cells != expected))
    return f"row {row} is '{cells[row]}', expected '{expected[row]}'"

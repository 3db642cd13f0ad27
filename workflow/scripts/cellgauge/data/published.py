"""h5ad files of every age, as people publish them, with or without X; what is no h5ad is told by its kind.

A file of today is read in parts, so that one tissue of an atlas does not cost the atlas's memory; an older one is read whole,
by anndata itself.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, issparse, vstack

from cellgauge.core.errors import CellgaugeError, reading
from cellgauge.files.h5ad import read_csr, sparse_ends
from cellgauge.files.hdf5 import open_hdf5, read_anndata

_LABELS = "it holds no labels: read it with {reader}, add obs['cell_type'] (and a donor), and write it with write_h5ad"


def _command(module: str, reader: str, path: Path, more: str = "") -> str:
    """Return the command that converts a file to h5ad."""
    code = f"import {module}; {module}.{reader}({str(path)!r}){more}.write_h5ad({path.stem + '.h5ad'!r})"
    return f"python -c {shlex.quote(code)}"


class Published:
    """A file of cells, open for reading. Every method raises CellgaugeError for what is damaged or missing.

    Attributes:
        obs: the table of cells, one row each.
        matrices: the names of the matrices: "X", "raw/X" and "layers/<name>".
        embeddings: the names of the entries of obsm.
    """

    obs: pd.DataFrame
    matrices: list[str]
    embeddings: list[str]

    def genes(self, matrix: str) -> pd.DataFrame:
        """Return the table of genes that belongs to a matrix: var, or raw.var."""
        raise NotImplementedError

    def rows(self, matrix: str, rows: np.ndarray) -> csr_matrix:
        """Return rows (ascending positions) of a matrix in its own dtype (float16: float32), CSR, (n_rows, n_genes)."""
        raise NotImplementedError

    def embedding(self, name: str) -> np.ndarray:
        """Return an entry of obsm, or "X", dense, shape (n_cells, n_dims)."""
        raise NotImplementedError


@contextmanager
def open_published(path: str | Path) -> Iterator[Published]:
    """Open an h5ad file for reading.

    Raises:
        CellgaugeError: no such file, truncated or corrupt, or a file of another kind, with the command that converts it.
    """
    path = Path(path)
    _refuse_other_kinds(path)
    with open_hdf5(path) as file:
        _refuse_other_hdf5(file, path)
        with reading(f"{path}: it cannot be read, truncated or corrupt"):
            published = _Whole(path) if _is_old(file) else _InParts(file, path)
        yield published


class _InParts(Published):
    def __init__(self, file: h5py.File, path: Path) -> None:
        self._file, self._path = file, path
        self.obs = self._frame("obs")
        names = ["X", "raw/X", *(f"layers/{name}" for name in file.get("layers", {}))]
        self.matrices = [name for name in names if name in file and _holds_something(file[name])]
        self.embeddings = [name for name in file.get("obsm", {}) if _holds_something(file["obsm"][name])]

    def _frame(self, key: str) -> pd.DataFrame:
        from anndata.io import read_elem

        with reading(f"{self._path}: {key} cannot be read, truncated or corrupt"):
            frame = read_elem(self._file[key])
            if isinstance(frame, pd.DataFrame):
                return frame
        raise CellgaugeError(f"{self._path}: {key} is no table")

    def genes(self, matrix: str) -> pd.DataFrame:
        return self._frame("raw/var" if matrix == "raw/X" else "var")

    def rows(self, matrix: str, rows: np.ndarray) -> csr_matrix:
        from anndata.io import sparse_dataset

        item, encoding = self._file[matrix], str(self._file[matrix].attrs.get("encoding-type", "array"))
        with reading(f"{self._path}: matrix '{matrix}' cannot be read, the file is truncated or corrupt"):
            if not hasattr(item, "keys"):
                _check_shape(item.shape, len(self.obs), len(self.genes(matrix)), matrix, self._path)
                return _sparse_rows(item, rows)
            shape, _ = sparse_ends(item, self._path)
            _check_shape(shape, len(self.obs), len(self.genes(matrix)), matrix, self._path)
            is_half = item["data"].dtype == "float16"  # which scipy has not
            if encoding == "csr_matrix" and len(rows) < shape[0] and not is_half:
                part = sparse_dataset(item)[rows]
                part.check_format(full_check=True)
                return part
            whole = read_csr(item, self._path, dtype=None)
            return whole if len(rows) == shape[0] else whole[rows]

    def embedding(self, name: str) -> np.ndarray:
        from anndata.io import read_elem

        with reading(f"{self._path}: matrix '{name}' cannot be read, the file is truncated or corrupt"):
            return _dense(read_elem(self._file["X"] if name == "X" else self._file["obsm"][name]))


class _Whole(Published):
    def __init__(self, path: Path) -> None:
        with warnings.catch_warnings():  # of old layouts: the reader knows
            warnings.simplefilter("ignore")
            data = read_anndata(path)
        self._data, self._path, self.obs = data, path, data.obs
        parts = {"X": data.X, "raw/X": data.raw.X if data.raw is not None else None}
        parts |= {f"layers/{name}": data.layers[name] for name in data.layers}
        self._parts = {name: part for name, part in parts.items() if part is not None}
        self.matrices, self.embeddings = list(self._parts), list(data.obsm)

    def genes(self, matrix: str) -> pd.DataFrame:
        return self._data.raw.var if matrix == "raw/X" else self._data.var

    def rows(self, matrix: str, rows: np.ndarray) -> csr_matrix:
        with reading(f"{self._path}: matrix '{matrix}' cannot be read, the file is truncated or corrupt"):
            part = self._parts[matrix]
            _check_shape(part.shape, len(self.obs), len(self.genes(matrix)), matrix, self._path)
            if issparse(part):
                part.check_format(full_check=True)
            part = part.tocsr() if issparse(part) else np.asarray(part)
            return csr_matrix(part[rows].astype(_at_least_single(part.dtype), copy=False))

    def embedding(self, name: str) -> np.ndarray:
        with reading(f"{self._path}: matrix '{name}' cannot be read, the file is truncated or corrupt"):
            return _dense(self._data.X if name == "X" else self._data.obsm[name])


# --- which kind of file -----------------------------------------------------------------------------------------------


def _refuse_other_kinds(path: Path) -> None:
    if path.is_dir():
        if any((path / name).exists() for name in (".zgroup", ".zattrs", "zarr.json")):
            command = _command("anndata", "read_zarr", path)
            raise CellgaugeError(f"{path}: a zarr folder, cellgauge reads h5ad; convert it: {command}")
        if any(path.glob("matrix.mtx*")):
            raise CellgaugeError(f"{path}: a 10x folder; {_LABELS.format(reader='scanpy.read_10x_mtx')}")
        raise CellgaugeError(f"{path}: a folder, not an h5ad file")
    if not path.is_file():
        raise CellgaugeError(f"{path}: no such file")
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"\x1f\x8b"):
        raise CellgaugeError(
            f"{path}: it is packed with gzip; unpack it (`gunzip -k {shlex.quote(path.name)}`) and name the h5ad"
        )
    if start.startswith(b"PK\x03\x04"):
        raise CellgaugeError(
            f"{path}: a zip archive (or an Excel workbook), not an h5ad file; unpack it and name the h5ad"
        )
    suffix = path.suffix.lower()
    others = {
        ".loom": f"convert it: {_command('scanpy', 'read_loom', path)}",
        ".mtx": _LABELS.format(reader="scanpy.read_mtx"),
        ".rds": "convert it in R, for example with anndataR::write_h5ad",
        ".rdata": "convert it in R, for example with anndataR::write_h5ad",
        ".csv": _LABELS.format(reader="scanpy.read_csv"),
        ".tsv": _LABELS.format(reader="scanpy.read_csv"),
        ".txt": _LABELS.format(reader="scanpy.read_csv"),
    }
    if suffix in others and not start.startswith(b"\x89HDF"):
        raise CellgaugeError(f"{path}: not an h5ad file; {others[suffix]}")


def _refuse_other_hdf5(file: h5py.File, path: Path) -> None:
    if {"obs", "var"} <= set(file):
        return
    if "matrix" in file and "barcodes" in file["matrix"]:
        raise CellgaugeError(f"{path}: a 10x file; {_LABELS.format(reader='scanpy.read_10x_h5')}")
    if "row_attrs" in file and "col_attrs" in file:
        raise CellgaugeError(f"{path}: a loom file; convert it: {_command('scanpy', 'read_loom', path)}")
    if "mod" in file:
        command = _command("mudata", "read", path, "['rna']")
        raise CellgaugeError(f"{path}: a file of several modalities; write the one of RNA: {command}")
    if "assays" in file or "cell.names" in file:
        raise CellgaugeError(
            f"{path}: a file of SeuratDisk; convert it in R: SeuratDisk::Convert('{path}', dest = 'h5ad')"
        )
    missing = ", ".join(sorted({"obs", "var"} - set(file)))
    raise CellgaugeError(f"{path}: not an h5ad file, it lacks {missing}")


def _is_old(file: h5py.File) -> bool:
    """Return whether anndata before 0.7 wrote the file: tables as compound datasets, sparse matrices by "h5sparse_format"."""
    matrices = [file[name] for name in ("X", "raw/X", "raw.X") if name in file]
    return (
        not hasattr(file["obs"], "keys")
        or not hasattr(file["var"], "keys")
        or "raw.X" in file
        or any("h5sparse_format" in item.attrs for item in matrices)
    )


# --- matrices ---------------------------------------------------------------------------------------------------------


def _holds_something(item: h5py.Group | h5py.Dataset) -> bool:
    """Return whether a matrix is there: anndata writes none as an element of the kind "null"."""
    return item.attrs.get("encoding-type", "") != "null" and getattr(item, "shape", ()) is not None


def _check_shape(shape: Sequence[int], n_cells: int, n_genes: int, matrix: str, path: Path) -> None:
    if tuple(shape) != (n_cells, n_genes):
        raise CellgaugeError(
            f"{path}: matrix '{matrix}' has shape {tuple(map(int, shape))} for {n_cells} cells and {n_genes} genes"
        )


def _sparse_rows(item: h5py.Dataset, rows: np.ndarray, at_once: int = 4096) -> csr_matrix:
    """Return rows (ascending) of a dense matrix as CSR, a block at a time: most of it is zeros, and all of it may not fit."""
    kind = _at_least_single(item.dtype)
    blocks = []
    for start in range(0, item.shape[0], at_once):
        first, last = np.searchsorted(rows, (start, start + at_once))
        if last > first:
            block = item[start : start + at_once][rows[first:last] - start]
            blocks.append(csr_matrix(block.astype(kind, copy=False)))
    return vstack(blocks, format="csr")


def _at_least_single(dtype: np.dtype) -> np.dtype:
    if dtype.kind not in "buif":
        raise CellgaugeError(f"it holds {dtype}, not numbers")
    return np.dtype(np.float32) if dtype.kind in "bf" and dtype.itemsize < 4 else dtype


def _dense(matrix: Any) -> np.ndarray:
    matrix = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    return np.asarray(matrix.to_numpy() if hasattr(matrix, "to_numpy") else matrix)

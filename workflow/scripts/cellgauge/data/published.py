"""h5ad files of every age, as people publish them, with or without X; what is no h5ad is told by its kind.

A file of today is read in parts, so that one tissue of an atlas does not cost the atlas's memory; an older one is read whole,
by anndata itself.
"""

import shlex
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem, sparse_dataset
from scipy.sparse import csr_matrix, issparse, vstack

from cellgauge.core.errors import CellgaugeError, reading
from cellgauge.files.h5ad import read_csr, sparse_ends, type_for_scipy
from cellgauge.files.hdf5 import open_hdf5, read_anndata

ROWS_AT_ONCE = 4096
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

    def __init__(
        self, path: Path, obs: pd.DataFrame, genes: Callable[[str], pd.DataFrame], parts: dict[str, Any]
    ) -> None:
        """Take an open file.

        Args:
            genes: returns the table "var" or "raw/var".
            parts: the matrices by name, and as "obsm/<name>" the embeddings; each an HDF5 object or an array in memory.
        """
        self.path, self.obs, self._table, self._parts = path, obs, genes, parts
        self.matrices = [name for name in parts if not name.startswith("obsm/")]
        self.embeddings = [name.removeprefix("obsm/") for name in parts if name.startswith("obsm/")]

    def genes(self, matrix: str) -> pd.DataFrame:
        """Return the table of genes that belongs to a matrix: var, or raw.var."""
        return self._table("raw/var" if matrix == "raw/X" else "var")

    def rows(self, matrix: str, rows: np.ndarray) -> csr_matrix:
        """Return rows (ascending positions) of a matrix in its own dtype (float16: float32), CSR, (n_rows, n_genes)."""
        with self._reading(matrix):
            part = self._parts[matrix]
            shape = tuple(sparse_ends(part, self.path)[0] if isinstance(part, h5py.Group) else map(int, part.shape))
            n_cells, n_genes = len(self.obs), len(self.genes(matrix))
            if shape != (n_cells, n_genes):
                size = f"{n_cells} cells and {n_genes} genes"
                raise CellgaugeError(f"{self.path}: matrix '{matrix}' has shape {shape} for {size}")
            read = {h5py.Group: _rows_of_sparse, h5py.Dataset: _rows_of_dense}.get(type(part), _rows_in_memory)
            return read(part, rows, self.path)

    def embedding(self, name: str) -> np.ndarray:
        """Return an entry of obsm, or "X", dense, shape (n_cells, n_dims)."""
        with self._reading(name):
            part = self._parts["X" if name == "X" else f"obsm/{name}"]
            matrix = read_elem(part) if isinstance(part, h5py.Group | h5py.Dataset) else part
            return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)

    def _reading(self, name: str) -> AbstractContextManager[None]:
        return reading(f"{self.path}: matrix '{name}' cannot be read, the file is truncated or corrupt")


@contextmanager
def open_published(path: str | Path) -> Iterator[Published]:
    """Open an h5ad file for reading; raise CellgaugeError for a damaged one or a file of another kind, with what to do."""
    path = Path(path)
    if fault := _other_kind(path):
        raise CellgaugeError(f"{path}: {fault}")
    with open_hdf5(path) as file:
        if fault := _other_hdf5(file, path):
            raise CellgaugeError(f"{path}: {fault}")
        with reading(f"{path}: it cannot be read, truncated or corrupt"):
            published = _in_memory(path) if _is_old(file) else _in_parts(file, path)
        yield published


def _in_parts(file: h5py.File, path: Path) -> Published:
    def table(key: str) -> pd.DataFrame:
        with reading(f"{path}: {key} cannot be read, truncated or corrupt"):
            frame = read_elem(file[key])
            if isinstance(frame, pd.DataFrame):
                return frame
        raise CellgaugeError(f"{path}: {key} is no table")

    names = ["X", "raw/X", *(f"{group}/{name}" for group in ("layers", "obsm") for name in file.get(group, {}))]
    parts = {name: file[name] for name in names if name in file and _holds_something(file[name])}
    return Published(path, table("obs"), table, parts)


def _in_memory(path: Path) -> Published:
    with warnings.catch_warnings():  # of old layouts: the reader knows
        warnings.simplefilter("ignore")
        data = read_anndata(path)
    parts = {"X": data.X, "raw/X": data.raw.X if data.raw is not None else None}
    parts |= {f"layers/{name}": layer for name, layer in data.layers.items()}
    parts |= {f"obsm/{name}": matrix for name, matrix in data.obsm.items()}
    parts = {name: part for name, part in parts.items() if part is not None}
    return Published(path, data.obs, lambda key: data.raw.var if key == "raw/var" else data.var, parts)


def _rows_of_sparse(item: h5py.Group, rows: np.ndarray, path: Path) -> csr_matrix:
    n_cells = item.attrs["shape"][0]
    is_half = item["data"].dtype == "float16"  # which scipy has not
    if item.attrs.get("encoding-type") == "csr_matrix" and len(rows) < n_cells and not is_half:
        part = sparse_dataset(item)[rows]
        part.check_format(full_check=True)
        return part
    whole = read_csr(item, path, dtype=None)
    return whole if len(rows) == n_cells else whole[rows]


def _rows_of_dense(item: h5py.Dataset, rows: np.ndarray, path: Path) -> csr_matrix:
    """Return rows of a dense matrix as CSR, a block at a time: most of it is zeros, and all of it may not fit."""
    kind = type_for_scipy(item.dtype, path)
    blocks = []
    for start in range(0, item.shape[0], ROWS_AT_ONCE):
        first, last = np.searchsorted(rows, (start, start + ROWS_AT_ONCE))
        if last > first:
            block = item[start : start + ROWS_AT_ONCE][rows[first:last] - start]
            blocks.append(csr_matrix(block.astype(kind, copy=False)))
    return vstack(blocks, format="csr")


def _rows_in_memory(part: Any, rows: np.ndarray, path: Path) -> csr_matrix:
    if issparse(part):
        part.check_format(full_check=True)
    part = part.tocsr() if issparse(part) else np.asarray(part)
    return csr_matrix(part[rows].astype(type_for_scipy(part.dtype, path), copy=False))


def _other_kind(path: Path) -> str:
    """Return what a path is that is no HDF5 file, and what to do; "" where it may be one."""
    if path.is_dir():
        if any((path / name).exists() for name in (".zgroup", ".zattrs", "zarr.json")):
            return f"a zarr folder, cellgauge reads h5ad; convert it: {_command('anndata', 'read_zarr', path)}"
        is_10x = any(path.glob("matrix.mtx*"))
        return (
            f"a 10x folder; {_LABELS.format(reader='scanpy.read_10x_mtx')}" if is_10x else "a folder, not an h5ad file"
        )
    if not path.is_file():
        return "no such file"
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"\x1f\x8b"):
        return f"it is packed with gzip; unpack it (`gunzip -k {shlex.quote(path.name)}`) and name the h5ad"
    if start.startswith(b"PK\x03\x04"):
        return "a zip archive (or an Excel workbook), not an h5ad file; unpack it and name the h5ad"
    others = {".loom": f"convert it: {_command('scanpy', 'read_loom', path)}"}
    others |= {".mtx": _LABELS.format(reader="scanpy.read_mtx")}
    others |= dict.fromkeys((".rds", ".rdata"), "convert it in R, for example with anndataR::write_h5ad")
    others |= dict.fromkeys((".csv", ".tsv", ".txt"), _LABELS.format(reader="scanpy.read_csv"))
    remedy = others.get(path.suffix.lower())
    return f"not an h5ad file; {remedy}" if remedy and not start.startswith(b"\x89HDF") else ""


def _other_hdf5(file: h5py.File, path: Path) -> str:
    """Return what an HDF5 file is that is no h5ad, and what to do; "" where it is one."""
    if {"obs", "var"} <= set(file):
        return ""
    if "matrix" in file and "barcodes" in file["matrix"]:
        return f"a 10x file; {_LABELS.format(reader='scanpy.read_10x_h5')}"
    if "row_attrs" in file and "col_attrs" in file:
        return f"a loom file; convert it: {_command('scanpy', 'read_loom', path)}"
    if "mod" in file:
        command = _command("mudata", "read", path, "['rna']")
        return f"a file of several modalities; write the one of RNA: {command}"
    if "assays" in file or "cell.names" in file:
        return f"a file of SeuratDisk; convert it in R: SeuratDisk::Convert('{path}', dest = 'h5ad')"
    return f"not an h5ad file, it lacks {', '.join(sorted({'obs', 'var'} - set(file)))}"


def _is_old(file: h5py.File) -> bool:
    """Return whether anndata before 0.7 wrote the file: tables as compound datasets, sparse matrices by "h5sparse_format"."""
    matrices = [file[name] for name in ("X", "raw/X", "raw.X") if name in file]
    return (
        not hasattr(file["obs"], "keys")
        or not hasattr(file["var"], "keys")
        or "raw.X" in file
        or any("h5sparse_format" in item.attrs for item in matrices)
    )


def _holds_something(item: h5py.Group | h5py.Dataset) -> bool:
    """Return whether a matrix is there: anndata writes none as an element of the kind "null"."""
    return item.attrs.get("encoding-type", "") != "null" and getattr(item, "shape", ()) is not None

"""The split: the cells of one tissue or species, as `split_dataset` wrote them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cellgauge.core.errors import ContractError, one_line, reading
from cellgauge.files import h5ad
from cellgauge.files.checked import checked_path

if TYPE_CHECKING:
    import anndata
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Split:
    """The cells of one tissue or species, as `split_dataset` wrote them. Matrices are read when asked for.

    Attributes:
        path: the h5ad file.
        dataset, name: the catalogue's dataset and the split's slug.
        organism: the canonical name of the species (`cellgauge.data.organisms`).
        cells: cell ids, str, shape (n_cells,), unique.
        rows: which rows of the file these cells are; `slice(None)` for a whole split.
        of: the split that these cells are a part of, None for a whole split.
    """

    path: Path
    dataset: str
    name: str
    organism: str
    cells: np.ndarray
    rows: slice = field(default_factory=lambda: slice(None))
    of: Split | None = None

    @classmethod
    def open(cls, path: str | Path) -> Split:
        """Read the ids and the provenance of a split; raise ContractError when the file is not one."""
        path = Path(path)
        with h5ad.open_stage(path) as file:
            uns = h5ad.read_scalars(file)
            if missing := {"dataset", "split", "organism"} - set(uns):
                fault = f"not a split of cellgauge, uns lacks {', '.join(sorted(missing))}"
                raise ContractError(f"{path}: {fault}; write it with split_dataset.py")
            cells = h5ad.read_index(file, "obs")
        h5ad.check_unique(cells, path)
        return cls(path, str(uns["dataset"]), str(uns["split"]), str(uns["organism"]), cells)

    @property
    def is_part(self) -> bool:
        """Whether these are some of a split's cells."""
        return self.of is not None

    @property
    def whole(self) -> Split:
        """The split with all its cells."""
        return self.of or self

    def part(self, rows: slice) -> Split:
        """Return the split as if it had these cells alone.

        Args:
            rows: of a whole split of modality expression, with both ends.
        """
        return replace(self, cells=self.cells[rows], rows=rows, of=self)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of obs."""
        with h5ad.open_stage(self.path) as file:
            return tuple(name for name in file["obs"] if name != h5ad.index_key(file["obs"]))

    def column(self, name: str) -> np.ndarray:
        """Return one column of obs as str, shape (n_cells,); raise ContractError when it is missing."""
        with h5ad.open_stage(self.path) as file:
            return h5ad.read_column(file, "obs", name, self.path)[self.rows]

    def numbers(self, name: str) -> np.ndarray:
        """Return one column of obs as numbers, shape (n_cells,), in the type that they are stored in (text: float64).

        Raises:
            ContractError: the column is missing, or holds something else.
        """
        with h5ad.open_stage(self.path) as file:
            item = file["obs"].get(name)
            if getattr(getattr(item, "dtype", None), "kind", "") in ("i", "u", "f") and item.ndim == 1:
                values = item[self.rows]
                if values.shape == self.cells.shape:
                    return values
        try:
            return self.column(name).astype(np.float64)
        except ValueError as error:
            raise ContractError(f"{self.path}: obs column '{name}' must hold numbers ({one_line(error)})") from None

    @cached_property
    def genes(self) -> np.ndarray:
        """Gene ids (var_names: Ensembl without version where the data has them), str, shape (n_genes,)."""
        with h5ad.open_stage(self.path) as file:
            return h5ad.read_index(file, "var")

    @cached_property
    def symbols(self) -> np.ndarray:
        """Gene symbols (var["feature_name"]), str, shape (n_genes,)."""
        with h5ad.open_stage(self.path) as file:
            return h5ad.read_column(file, "var", "feature_name", self.path)

    @cached_property
    def orthologues(self) -> np.ndarray:
        """The name that each gene shares with its one-to-one orthologues (var["orthologue"]), "" without; str, (n_genes,).

        Raises:
            ContractError: the split was made without a table of orthologues.
        """
        with h5ad.open_stage(self.path) as file:
            if "orthologue" not in file["var"]:
                raise ContractError(f"split {self.name} of {self.dataset} has no column 'orthologue' in var")
            return h5ad.read_column(file, "var", "orthologue", self.path)

    def counts(self, rows: np.ndarray | None = None) -> csr_matrix:
        """Return the raw counts of all cells, or of `rows` (ascending positions), CSR float32, read anew at each call."""
        with h5ad.open_stage(self.path) as file:
            if rows is None:
                return h5ad.read_csr(file["X"], self.path)[self.rows]
            return h5ad.read_rows(file["X"], rows + (self.rows.start or 0), self.path)

    def count_blocks(
        self, rows_per_block: int = h5ad.ROWS_AT_ONCE, first: int = 0, last: int | None = None
    ) -> Iterator[tuple[int, csr_matrix]]:
        """Yield (position of the first cell, counts) of the cells in their order, CSR float32, so many rows at a time.

        Only the rows of one block are in memory; column indices ascend and no zero is stored. Splits of cellgauge are CSR
        (a CSC matrix cannot be read by rows and is read whole).

        Args:
            first, last: the cells to read, `last` excluded (default: all).

        Raises:
            ContractError: a count that is negative or not finite, or a block that cannot be read.
        """
        before, end = self.rows.start or 0, len(self.cells) if last is None else min(last, len(self.cells))
        rows = before + first, before + end
        with h5ad.open_stage(self.path) as file, self._reading_counts():
            for start, block in h5ad.read_row_blocks(file["X"], rows_per_block, self.path, *rows):
                least = block.data.min(initial=np.inf)
                if not (least >= 0 and block.data.max(initial=0) < np.inf):  # neither holds of NaN
                    raise ContractError(f"{self.path}: X holds counts that are negative or not finite")
                block.sum_duplicates()
                if least == 0:
                    block.eliminate_zeros()
                yield start - before, block

    def library_sizes(self) -> np.ndarray:
        """Return the sum of each cell's counts, float64, shape (n_cells,); which genes they are of is not even read.

        Raises:
            ContractError: the counts cannot be read.
        """
        with h5ad.open_stage(self.path) as file, self._reading_counts():
            item = file["X"]
            if item.attrs.get("encoding-type", "array") != "csr_matrix":
                return np.asarray(h5ad.read_csr(item, self.path).astype(np.float64).sum(axis=1)).ravel()[self.rows]
            sizes, ends = np.empty(len(self.cells)), item["indptr"][:]
            ends = ends[self.rows.start or 0 :][: len(sizes) + 1]
            for start in range(0, len(sizes), h5ad.ROWS_AT_ONCE):
                bounds = ends[start : start + h5ad.ROWS_AT_ONCE + 1]
                sums = np.cumsum(item["data"][bounds[0] : bounds[-1]], dtype=np.float64)
                sizes[start : start + h5ad.ROWS_AT_ONCE] = np.diff(np.append(0.0, sums)[bounds - bounds[0]])
        return sizes

    def _reading_counts(self) -> AbstractContextManager[None]:
        return reading(f"{self.path}: X cannot be read, truncated or corrupt", ContractError)

    def facts(self) -> dict[str, Any]:
        """Return the scalars of uns."""
        with h5ad.open_stage(self.path) as file:
            return h5ad.read_scalars(file)

    def expression(self, rows: np.ndarray | None = None) -> csr_matrix:
        """Return the log-normalized expression of a screen, CSR float32, of all cells or of `rows` (ascending positions)."""
        with self._open_expression() as item:
            return h5ad.read_csr(item, self.path) if rows is None else h5ad.read_rows(item, rows, self.path)

    def expression_blocks(self) -> Iterator[tuple[int, csr_matrix]]:
        """Yield (position of the first cell, log-normalized expression) of 8,192 cells at a time, CSR float32."""
        with self._open_expression() as item:
            yield from h5ad.read_row_blocks(item, 8192, self.path)

    @contextmanager
    def _open_expression(self) -> Iterator[h5py.Group | h5py.Dataset]:
        with h5ad.open_stage(self.path) as file:
            if "layers/expression" not in file:
                raise ContractError(f"{self.path}: no layer 'expression', which splits of perturbation screens have")
            yield file["layers/expression"]

    def to_anndata(self) -> anndata.AnnData:
        """Return the split as an AnnData, for adapters that use the scverse libraries."""
        from anndata.io import read_elem

        with h5ad.open_stage(self.path) as file:
            data = read_elem(file)
        return data[self.rows].copy() if self.is_part else data


def write_split(path: str | Path, data: anndata.AnnData) -> None:
    """Write `data` as a split: CSR float32 counts, plain strings, no None in uns, old readers welcome.

    Raises:
        ContractError: no label column, no `feature_name`, duplicate ids, an empty split or X not raw counts.
    """
    from anndata.io import write_elem

    where = f"split {data.uns.get('split', path)}"
    if data.n_obs == 0:
        raise ContractError(f"{where}: no cells")
    if "label" not in data.obs:
        raise ContractError(f"{where}: obs has no column 'label'")
    if "feature_name" not in data.var:
        raise ContractError(f"{where}: var has no column 'feature_name'")
    h5ad.check_unique(data.obs_names.to_numpy(), where)
    data.X = as_counts(data.X, where)
    with checked_path(path) as temporary:
        counts, data.X = data.X, None
        data.write_h5ad(temporary, compression="gzip", compression_opts=1)
        # shuffling the bytes of small numbers makes a smaller file, which is faster to read (docs/adr/0030)
        options = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
        with h5py.File(temporary, "r+") as file:
            write_elem(file, "X", counts, dataset_kwargs=options)
        data.X = counts


ROUNDING = 1e-2
"""How far a count may be from a whole number when the user asks for rounding: log1p and expm1 in float32 reach 1e-3."""

MOST_COUNT = 2**31
"""No cell has so many molecules of a gene, nor of all genes."""


def as_counts(matrix: Any, where: str, *, to_round: bool = False) -> csr_matrix:
    """Return `matrix` (n_cells, n_genes) as CSR float32 raw counts: finite, not negative, whole numbers.

    Args:
        to_round: whether values within `ROUNDING` of a whole number are rounded.
    """
    from scipy.sparse import csr_matrix, issparse

    matrix = matrix.tocsr() if issparse(matrix) else csr_matrix(matrix)
    values = matrix.data.astype(np.uint8) if matrix.data.dtype.kind == "b" else matrix.data
    too_large = values > MOST_COUNT  # beside which sums lose the counts of other cells
    for fault, wrong in (("not finite", ~np.isfinite(values)), ("negative", values < 0), ("too large", too_large)):
        if wrong.any():
            raise ContractError(
                f"{where}: the matrix is not raw counts, {int(wrong.sum())} of {values.size} stored values are {fault}"
                f" (such as {values[np.argmax(wrong)]}); name the layer of counts with `counts:` in the dataset's entry"
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
    return _canonical(matrix, values)


def _canonical(matrix: csr_matrix, values: np.ndarray) -> csr_matrix:
    """Return a CSR matrix with other stored values, float32, each place once and without zeros."""
    from scipy.sparse import csr_matrix

    matrix = csr_matrix((values.astype(np.float32, copy=False), matrix.indices, matrix.indptr), matrix.shape)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _remedy(furthest: float, share: float, to_round: bool) -> str:
    layer = "name the layer that contains counts with `counts:` in the dataset's entry"
    if furthest <= ROUNDING:
        return f"they have rounding errors of at most {furthest:.1g}: set `round: true` in the dataset's entry"
    if share < 0.5:
        limit = f", and `round: true` corrects errors of up to {ROUNDING:g}" if to_round else ""
        kind = "most are whole, so they look like corrected counts (SoupX, CellBender, alevin)"
        return f"{kind}, which are not raw counts{limit}; {layer}"
    return layer


LARGEST_LOGARITHM = 20.0
"""log2(1 + counts per million) of a cell with one gene is 19.93."""


def as_expression(matrix: Any, where: str, counts: csr_matrix | None = None) -> csr_matrix:
    """Return `matrix` (n_cells, n_genes) as CSR float32 log-normalized expression: finite, and on a logarithmic scale.

    Args:
        counts: the raw counts of the same cells, to tell normalized counts without a logarithm.
    """
    from scipy.sparse import csr_matrix, issparse

    matrix = matrix.tocsr() if issparse(matrix) else csr_matrix(matrix)
    matrix = _canonical(matrix, matrix.data)
    remedy = (
        "so it is not log-normalized; name another matrix with `expression` in the dataset's entry, or none to have it"
        " computed from the counts"
    )
    if not np.isfinite(matrix.data).all():
        raise ContractError(f"{where}: the log-normalized expression contains values that are not finite")
    if matrix.nnz and (matrix.data == np.round(matrix.data)).all():
        raise ContractError(f"{where}: the expression holds whole numbers only, {remedy}")
    least, most = float(matrix.data.min(initial=0)), float(matrix.data.max(initial=0))
    if least < 0:
        raise ContractError(f"{where}: the expression holds negative values (down to {least:.3g}, z-scores?), {remedy}")
    if most > LARGEST_LOGARITHM:
        raise ContractError(f"{where}: the expression holds values up to {most:.3g}, {remedy}")
    if counts is not None and _is_proportional(matrix, counts):
        raise ContractError(f"{where}: the expression of a cell is its counts times a number, {remedy}")
    return matrix


def _is_proportional(expression: csr_matrix, counts: csr_matrix) -> bool:
    """Return whether in most of the first cells expression is counts times one number, although the counts differ."""
    alike = compared = 0
    for row in range(min(200, expression.shape[0])):
        places = slice(counts.indptr[row], counts.indptr[row + 1])
        values = counts.data[places]
        if len(values) < 2 or np.ptp(values) == 0:
            continue
        scaled = np.asarray(expression[row, counts.indices[places]].todense()).ravel() / values
        compared += 1
        alike += bool(scaled.min() > 0 and np.ptp(scaled) <= 1e-3 * scaled.max())
    return compared > 0 and alike > compared / 2


def log_normalized(counts: csr_matrix) -> csr_matrix:
    """Return log(1 + counts scaled to the median library size), CSR float32, as scanpy's normalize_total and log1p."""
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    target = np.median(totals[totals > 0]) if (totals > 0).any() else 1.0
    scaled = counts.astype(np.float32)
    scaled.data *= np.repeat((target / np.where(totals > 0, totals, 1)).astype(np.float32), np.diff(counts.indptr))
    np.log1p(scaled.data, out=scaled.data)
    return scaled

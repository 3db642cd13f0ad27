"""A user's own predictions, read from h5ad, csv, tsv or parquet and aligned with the screen's conditions and genes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellgauge.errors import CellgaugeError
from cellgauge.predictors.base import Predicted, Response

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import pandas as pd
    from scipy.sparse import csr_matrix

    from cellgauge.screens import Screen

PATH = "my_model/{dataset}.csv"
CONDITION_COLUMNS = ("condition", "perturbation")


@dataclass(frozen=True)
class _Table:
    """What a file holds: the condition of each row, the name of each column, the matrix (n_rows, n_columns)."""

    names: np.ndarray
    genes: Sequence[str]
    matrix: np.ndarray | csr_matrix


def predict(
    screen: Screen, weights: Path, *, device: str, seed: int, condition_column: str = "", control: str = "ctrl"
) -> Predicted:
    """Return the rows of the file `weights`: one per condition (a mean), or several (predicted cells).

    Columns are genes by id or symbol, in any order; those that the screen has not are left out. Conditions match as sets of
    genes. Expression must be log-normalised as the screen's.

    Args:
        condition_column: the column of obs (or of the table) that holds the conditions; by default "condition" or
            "perturbation" where there is one, else the rows' names.
        control: how the file calls the control.

    Raises:
        CellgaugeError: a file of another format, a gene with text in it, no gene or no condition of the screen.
    """
    from cellgauge.screens import condition_name, targets

    if weights is None:
        raise CellgaugeError(
            "precomputed predictions need a file: set `path` in the model's entry (by hand: --weights)"
        )
    table = _read(weights, condition_column, screen)
    names = [condition_name(str(name), control) for name in table.names]
    column_of = _columns(screen, table.genes, weights)
    columns = list(column_of.values())
    rows: dict[frozenset[str], dict[str, list[int]]] = {}
    for row, name in enumerate(names):
        rows.setdefault(targets(name), {}).setdefault(name, []).append(row)
    if not any(targets(condition) in rows for condition in screen.test_conditions):
        raise CellgaugeError(
            f"{weights}: none of its conditions (such as '{names[0]}') is a test condition of {screen.where} (such as"
            f" '{screen.test_conditions[0]}')"
        )

    def responses() -> Iterator[Response]:
        for condition in screen.test_conditions:
            found = rows.get(targets(condition), {})
            chosen = found.get(condition) or [row for same in found.values() for row in same]
            if not chosen:
                yield Response(condition, reason=f"{weights.name} has no row of this condition")
            elif len(chosen) == 1:
                (mean,) = _dense(table.matrix[chosen][:, columns])
                yield Response(condition, mean=mean.astype("float64"))
            else:
                yield Response(condition, cells=table.matrix[chosen][:, columns].astype("float32"))

    return Predicted(list(column_of), responses(), {"source": weights.name, "matched_genes": len(column_of)})


def _columns(screen: Screen, genes: Sequence[str], path: Path) -> dict[str, int]:
    """Return the column of the file of each gene id of the screen that it has."""
    place = screen.column_of
    found: dict[str, int] = {}
    for column, name in enumerate(genes):
        if name in place:
            gene = str(screen.genes[place[name]])
            if gene in found:
                raise CellgaugeError(f"{path}: gene {gene} has two columns ('{genes[found[gene]]}' and '{name}')")
            found[gene] = column
    if not found:
        raise CellgaugeError(
            f"{path}: none of its columns (such as '{genes[0] if len(genes) else ''}') is a gene of {screen.where} (such as"
            f" '{screen.genes[0]}' or '{screen.symbols[0]}')"
        )
    return found


def _read(path: Path, condition_column: str, screen: Screen) -> _Table:
    import pandas as pd

    readers = {
        ".h5ad": lambda: _read_h5ad(path),
        ".csv": lambda: (pd.read_csv(path, index_col=0), None, None),
        ".tsv": lambda: (pd.read_csv(path, index_col=0, sep="\t"), None, None),
        ".parquet": lambda: (pd.read_parquet(path), None, None),
    }
    if path.suffix not in readers:
        raise CellgaugeError(f"{path}: unknown format '{path.suffix}'; predictions are read from {', '.join(readers)}")
    if not path.is_file():
        raise CellgaugeError(f"{path}: no such file")
    try:
        frame, matrix, genes = readers[path.suffix]()
    except Exception as error:  # every reader has errors of its own for a damaged file
        raise CellgaugeError(f"{path}: cannot be read as {path.suffix[1:]} ({error})") from None
    wanted = condition_column or next((name for name in CONDITION_COLUMNS if name in frame), "")
    if wanted and wanted not in frame:
        found = ", ".join(map(str, frame.columns[:20])) or "none"
        raise CellgaugeError(f"{path}: no column '{wanted}' for conditions (found: {found})")
    names = (frame[wanted] if wanted else frame.index.to_series()).astype(str).to_numpy()
    if not len(names):
        raise CellgaugeError(f"{path}: it has no rows")
    if matrix is None:
        frame = _numbers(frame.drop(columns=wanted) if wanted else frame, screen, path)
        matrix, genes = frame.to_numpy(), list(map(str, frame.columns))
    return _Table(names, genes, matrix)


def _numbers(frame: pd.DataFrame, screen: Screen, path: Path) -> pd.DataFrame:
    """Return the columns of numbers; what else a table holds may be anything but a gene's."""
    import pandas as pd

    numbers = frame.select_dtypes("number")
    for name in frame.columns.difference(numbers.columns, sort=False):
        if str(name) in screen.column_of:
            column = frame[name]
            unread = column[pd.to_numeric(column, errors="coerce").isna() & column.notna()]
            raise CellgaugeError(
                f"{path}: column '{name}' is a gene of {screen.where}, but not all of it are numbers (such as"
                f" '{[*unread, column.iloc[0]][0]}')"
            )
    return numbers


def _read_h5ad(path: Path) -> tuple[pd.DataFrame, np.ndarray | csr_matrix, list[str]]:
    import anndata

    data = anndata.read_h5ad(path)
    matrix = data.X.tocsr() if hasattr(data.X, "tocsr") else data.X
    return data.obs, matrix, list(map(str, data.var_names))


def _dense(matrix: np.ndarray | csr_matrix) -> np.ndarray:
    return matrix.toarray() if hasattr(matrix, "toarray") else matrix

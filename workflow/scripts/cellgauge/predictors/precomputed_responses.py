"""A user's own predictions, read from h5ad, csv, tsv or parquet and aligned with the screen's conditions and genes."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, issparse

from cellgauge.core.errors import CellgaugeError
from cellgauge.data import tables
from cellgauge.data.genes import without_version
from cellgauge.data.published import open_published
from cellgauge.files.text_columns import ids, shorten, text_column
from cellgauge.predictors.base import Predicted, Response
from cellgauge.screens.condition_names import ConditionNames, as_names, check_targets
from cellgauge.screens.screen import CONTROL, Screen, targets

USES_CONTROLS = False
PATH = "my_model/{dataset}.csv"
CONDITION_COLUMNS = ("condition", "perturbation")


def predict(
    screen: Screen,
    weights: Path,
    *,
    device: str,
    seed: int,
    condition_column: str = "",
    control: str | Sequence[str] = (),
    separator: str = "",
    pool_guides: bool = False,
    columns: str | Sequence[str] = (),
    without_withheld: bool = False,
) -> Predicted:
    """Return the rows of the file `weights`: one per condition (a mean), or several (predicted cells).

    Columns are genes by id or symbol, in any order; those that the screen has not are left out. Conditions match as sets of
    genes. Expression must be log-normalized as the screen's.

    Args:
        condition_column: the column of obs (or of the table) that holds the conditions; by default "condition" or
            "perturbation" if the file has one, else the rows' names.
        control: how the file calls the control, one name or several (`*` for any characters); by default as the screen's
            data do, or "ctrl".
        separator: what stands between the genes of a combination; by default it is recognized by the genes.
        pool_guides: whether KLF1_1 and KLF1_2 are rows of KLF1.
        columns: the columns of a table that are genes, as names or patterns; by default all that are called as one.
        without_withheld: whether the predictions were made without the controls that the split marks as `withheld`. Else their
            scores carry a note: a prediction that starts from all controls shares their noise with the measured changes.
    """
    if weights is None:
        raise CellgaugeError("precomputed predictions need a file: set `path` in its entry (by hand: --weights)")
    names = _condition_names(screen, control, separator, pool_guides)
    columns = (columns,) if isinstance(columns, str) else tuple(columns)
    conditions, genes, matrix, notes = _read(weights, screen, names, condition_column, columns, bool(separator))
    for note in notes:
        print(f"note: {weights}: {note}", file=sys.stderr)
    rows: dict[frozenset[str], dict[str, list[int]]] = {}
    for row, name in enumerate(conditions):
        if name:
            rows.setdefault(targets(name), {}).setdefault(name, []).append(row)

    def responses() -> Iterator[Response]:
        for condition in screen.test_conditions:
            by_name = rows.get(targets(condition), {})
            chosen = by_name.get(condition) or [row for same in by_name.values() for row in same]
            if not chosen:
                yield Response(condition, reason=f"{weights.name} has no row of this condition")
            elif len(chosen) == 1:
                mean = matrix[chosen]
                mean = mean.toarray() if issparse(mean) else mean
                yield Response(condition, mean=mean[0].astype("float64"))
            else:
                yield Response(condition, cells=matrix[chosen].astype("float32"))

    facts = {"source": weights.name, "matched_genes": len(genes), "may_have_used_withheld": not without_withheld}
    return Predicted(genes, responses(), facts | ({"notes": "\n".join(notes)} if notes else {}))


def _read(
    path: Path, screen: Screen, names: ConditionNames, condition_column: str, columns: Sequence[str], is_declared: bool
) -> tuple[list[str], list[str], np.ndarray | csr_matrix, list[str]]:
    """Read a file of predictions; see `predict` for the options.

    Args:
        names: how the file names its conditions.
        is_declared: whether the user said what is between genes, so that perturbed genes may be anything.

    Returns:
        The condition of each row as cellgauge writes it, "" where it has none; the gene id (of the screen) of each column;
        the matrix, shape (n_rows, n_genes); and notes on what was left out or read in another way than one might think.
    """
    with tables.reading_one_of((".h5ad", *tables.FORMATS), path, "predictions") as ending:
        published, genes, matrix, notes = (
            _read_h5ad(path, screen, condition_column)
            if ending == ".h5ad"
            else _read_table(path, screen, condition_column, columns)
        )
    if not len(published):
        raise CellgaugeError(f"{path}: it has no rows")
    column = text_column(published, meant=names.control)
    names = names.recognized(column.values)
    written = names.names(column.values)  # as the file has it -> as cellgauge writes it
    if unnamed := int(column.missing.sum()):
        notes.append(f"{unnamed} of {len(published)} rows have no condition and are left out")
    predicted = {targets(name) for name in written.values() if name}
    if not any(targets(condition) in predicted for condition in screen.test_conditions):
        raise CellgaugeError(
            f"{path}: none of its conditions (such as '{next(iter(written.values()))}') is a test condition of"
            f" {screen.where} (such as '{screen.test_conditions[0]}'); say how it writes them with `control` and `separator`"
        )
    notes += check_targets(str(path), names, written, declared=is_declared)
    places = _columns(screen, genes, path, column.values)
    return [written[name] for name in column.values], list(places), matrix[:, list(places.values())], notes


def _condition_names(screen: Screen, control: str | Sequence[str], separator: str, pool_guides: bool) -> ConditionNames:
    """Return how a file names conditions: as the options say, else as the screen's own data do, and as cellgauge does."""
    of_screen = json.loads(str(screen.split.facts().get("condition_names", "{}")))
    controls = as_names(control) if control else (CONTROL, *of_screen.get("control", ()))
    perturbed = {gene for condition in (*screen.partition, *screen.strata) for gene in targets(condition)}
    return ConditionNames(
        tuple(dict.fromkeys((*controls, CONTROL))),
        separator.strip() or separator,
        pool_guides or bool(of_screen.get("pool_guides")),
        frozenset(screen.column_of) | perturbed,
    )


def _columns(screen: Screen, genes: Sequence[str], path: Path, rows: Sequence[str]) -> dict[str, int]:
    """Return the column of the file of each gene id of the screen that it has."""
    place = screen.column_of
    columns: dict[str, int] = {}
    for column, name in enumerate(genes):
        known = name if name in place else without_version(name)
        if known in place:
            gene = str(screen.genes[place[known]])
            if gene in columns:
                raise CellgaugeError(f"{path}: gene {gene} has two columns ('{genes[columns[gene]]}' and '{name}')")
            columns[gene] = column
    if not columns:
        turned = sum(name in place for name in rows)
        hint = "; its rows are genes, so turn it round (conditions are rows)" if 2 * turned > len(rows) else ""
        raise CellgaugeError(
            f"{path}: none of its columns (such as '{genes[0] if len(genes) else ''}') is a gene of {screen.where} (such as"
            f" '{screen.genes[0]}' or '{screen.symbols[0]}'){hint}"
        )
    return columns


def _read_table(
    path: Path, screen: Screen, condition_column: str, columns: Sequence[str]
) -> tuple[pd.Series, list[str], np.ndarray, list[str]]:
    table = tables.read_table(path, text_columns=[condition_column, *CONDITION_COLUMNS])
    name = _condition_column(table.frame, condition_column, path) or table.frame.columns[0]
    frame, conditions = tables.without_ids(table.frame, name), table.frame[name]
    genes = {name for name in frame.columns if name in screen.column_of or without_version(name) in screen.column_of}
    if not genes:
        _columns(screen, list(frame.columns), path, conditions.astype(str).tolist())  # which raises
    names, matrix, notes = tables.numbers(frame, path, columns=columns, known=genes)
    return conditions, names, matrix, [*table.notes, *notes]


def _read_h5ad(
    path: Path, screen: Screen, condition_column: str
) -> tuple[pd.Series | pd.Index, list[str], csr_matrix, list[str]]:
    with open_published(path) as file:
        if "X" not in file.matrices:
            raise CellgaugeError(f"{path}: it has no X, which holds the predicted expression")
        name = _condition_column(file.obs, condition_column, path)
        genes = [str(gene) for gene in ids(file.genes("X").index)]
        return file.obs[name] if name else file.obs.index, genes, file.rows("X", np.arange(len(file.obs))), []


def _condition_column(frame: pd.DataFrame, name: str, path: Path) -> str:
    """Return the column that holds conditions: the one called `name`, else one of the usual names, "" without."""
    if name and name not in frame:
        raise CellgaugeError(
            f"{path}: no column '{name}' for conditions (found: {shorten(frame.columns, 20) or 'none'})"
        )
    return name or next((name for name in CONDITION_COLUMNS if name in frame), "")

"""The score file: tidy rows, one TSV per job."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellgauge.core.errors import ContractError, one_line
from cellgauge.files.checked import MARK, checked_path, open_checked
from cellgauge.files.spreadsheets import quoted, unquoted

_COLUMNS = "task model dataset split classifier metric subset condition profile seed fold value status reason source"
SCORE_COLUMNS = tuple(_COLUMNS.split())
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
            raise ContractError(f"score {self.metric}: status {self.status!r} is not one of {', '.join(STATUSES)}")
        if self.status == "ok" and (self.value is None or not math.isfinite(self.value)):
            raise ContractError(f"score {self.metric}: status ok needs a finite value, not {self.value}")
        if self.status != "ok" and (self.value is not None or not self.reason):
            raise ContractError(f"score {self.metric}: status {self.status} needs a reason and no value")

    def cells(self) -> dict[str, str]:
        """Return the row as text, one entry per column."""
        return {column: _text(getattr(self, column)) for column in SCORE_COLUMNS}


def write_scores(path: str | Path, scores: Iterable[Score]) -> None:
    """Write score rows as TSV; floats with all their digits, text as `spreadsheets.quoted` has it."""
    with checked_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, SCORE_COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: quoted(text) for name, text in score.cells().items()} for score in scores)


def read_scores(path: str | Path, *, by_hand: bool = False) -> list[Score]:
    """Read a score file, TSV or (by its suffix) CSV.

    Args:
        by_hand: whether others may have written it, without checksums.

    Raises:
        ContractError: its columns or values are not those of the contract; names the row.
    """
    path = Path(path)
    with io.TextIOWrapper(path.open("rb") if by_hand else open_checked(path), "utf-8", newline="") as file:
        lines = (line for line in file if not line.startswith(MARK.decode()))
        reader = csv.DictReader(lines, delimiter="," if path.suffix == ".csv" else "\t", strict=True)
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
    fields: dict[str, Any] = {name: unquoted(text) for name, text in row.items() if name not in TABLE_COLUMNS}
    try:
        for name, kind in (("value", float), ("seed", int), ("fold", int)):
            fields[name] = kind(row[name]) if row[name] else None
        return Score(**fields)
    except (ValueError, ContractError) as error:
        raise ContractError(f"{where}: {one_line(error)}") from None


def _text(value: object) -> str:
    if value is None:
        return ""
    return repr(float(value)) if isinstance(value, float | np.floating) else one_line(value)

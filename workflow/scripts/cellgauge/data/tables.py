"""Tables of numbers as people save them: csv and tsv of Python, R and Excel, parquet; and which of their columns are meant."""

import csv
import gzip
import io
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellgauge.core.errors import CellgaugeError, one_line, reading
from cellgauge.files import RATIO
from cellgauge.files.text_columns import ids, shorten

TEXT_FORMATS = (".csv", ".tsv", ".txt", ".tab")
FORMATS = (*TEXT_FORMATS, *(f"{suffix}.gz" for suffix in TEXT_FORMATS), ".parquet")
_ROW_NAMES = frozenset(("", "unnamed: 0", "index", "x", "level_0", "row", "rownames", "row_names", "__index_level_0__"))
_IDS = "cell cells cell_id cell_ids cellid barcode barcodes cell_barcode obs_names obs_name id ids cell_name"
_ID_NAMES = frozenset(_IDS.split())
_ABOUT = (
    "n_counts n_count ncounts total_counts ncount_rna n_genes n_genes_by_counts nfeature_rna n_umi n_umis umis "
    "counts leiden louvain cluster clusters seurat_clusters batch donor sample age size_factor size_factors "
    "pct_counts_mt percent_mt percent.mt pct_counts_ribo doublet_score s_score g2m_score phase label cell_type "
    "dpt_pseudotime library_size depth log1p_total_counts log1p_n_genes_by_counts"
)
_ABOUT_CELLS = frozenset(_ABOUT.split())
_MISSING = ("", "NA", "N/A", "NaN", "nan", "-nan", "NULL", "null", "<NA>", "None", "n/a", "#N/A")
_SAMPLED_LINES = 50
MOST_COLUMNS = 100_000
_LONGEST_LINE = 1 << 23


@dataclass(frozen=True)
class Table:
    """A table as it stands in its file.

    Attributes:
        frame: all columns, in their order; where the file has an index of names, as its first column.
        notes: what was read in another way than the file's name promises.
    """

    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)


@contextmanager
def reading_one_of(formats: Collection[str], path: Path, what: str) -> Iterator[str]:
    """Yield the ending of a file's name, ".gz" included; raise CellgaugeError for other formats, and for damage."""
    ending = "".join(path.suffixes[-2:]).lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if ending not in formats:
        raise CellgaugeError(f"{path}: unknown format '{ending}'; supported for {what}: {', '.join(formats)}")
    if not path.is_file():
        raise CellgaugeError(f"{path}: no such file")
    with reading(f"{path}: cannot be read as {ending[1:]}"):
        yield ending


def read_table(path: Path, *, text_columns: Collection[str] = ()) -> Table:
    """Read a csv, tsv, txt (also .gz) or parquet file; raise CellgaugeError where it is of another format or damaged.

    What separates columns is seen in the file; a decimal comma, a BOM, UTF-16, Excel's `sep=` line, R's header without a name
    for the first column and a separator at the end of each line are read right.

    Args:
        text_columns: columns that are read as text whatever they look like, beside the first.
    """
    with reading_one_of(FORMATS, path, "tables") as ending:
        table = _read_parquet(path) if ending == ".parquet" else _read_text(path, ending, text_columns)
    if not len(table.frame):
        raise CellgaugeError(f"{path}: it has no rows")
    return table


def _read_parquet(path: Path) -> Table:
    frame = pd.read_parquet(path)
    if not isinstance(frame.index, pd.RangeIndex):
        name = str(frame.index.name) if frame.index.name is not None else ""
        frame.insert(0, name, frame.index, allow_duplicates=True)
    frame.columns = [str(name) for name in frame.columns]
    _check_names(list(frame.columns), path)
    return Table(_unpacked(frame.reset_index(drop=True), path))


def _unpacked(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a table with one column a dimension where a column holds lists of numbers."""
    for name in [name for name in frame.columns if len(frame) and isinstance(frame[name].iloc[0], list | np.ndarray)]:
        lengths = {len(row) if isinstance(row, list | np.ndarray) else 0 for row in frame[name]}
        if len(lengths) > 1:
            raise CellgaugeError(f"{path}: the lists of column '{name}' differ in length ({shorten(sorted(lengths))})")
        matrix = np.asarray(frame[name].tolist())
        columns = [f"{name}{column}" for column in range(matrix.shape[1])]
        frame = pd.concat([frame.drop(columns=name), pd.DataFrame(matrix, columns=columns)], axis=1)
    return frame


# --- text -------------------------------------------------------------------------------------------------------------


def _read_text(path: Path, ending: str, text_columns: Collection[str]) -> Table:
    lines = first_lines(path)
    usual = "," if ending.startswith(".csv") else "\t"
    separator, skipped = usual, 0
    if match := re.match(r'^"?sep=(.)"?\s*$', lines[0]):
        separator, skipped, lines = match[1], 1, lines[1:]
    else:
        separator = _separator(lines, usual, path)
    header, *rows = csv.reader(io.StringIO("".join(lines)), delimiter=separator)
    names = [name.strip() for name in header]
    widths = {len(row) for row in rows}
    if widths == {len(names) + 1}:
        if all(row[-1] == "" for row in rows):
            names.append("")  # a separator at the end of each line but the first
        else:
            names.insert(0, "")  # R names no column of row names
    elif len(widths) > 1 or max(widths, default=0) > len(names):
        sizes = shorten(sorted({len(names), *widths}))
        raise CellgaugeError(f"{path}: its lines differ in their number of columns ({sizes})")
    drop_last = len(names) > 1 and names[-1] == "" and all(row[-1:] == [""] for row in rows)
    _check_header(names, path)
    _check_names(names[:-1] if drop_last else names, path)
    decimal = _decimal(rows, separator)
    text = {0, *(position for position, name in enumerate(names) if name in text_columns)}
    with _open(path) as file, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # of what would be left out
        frame = pd.read_csv(
            file,
            sep=separator,
            header=None,
            skiprows=1 + skipped,
            names=range(len(names)),
            index_col=False,
            dtype=dict.fromkeys(text, str),
            keep_default_na=False,
            na_values={position: list(_MISSING) for position in range(len(names)) if position not in text},
            decimal=decimal,
        )
    frame.columns = names
    notes = [f"columns are separated by {_sign(separator)}, not by {_sign(usual)}"] if separator != usual else []
    notes += ["numbers are read with a decimal comma"] if decimal == "," else []
    return Table(frame.iloc[:, :-1] if drop_last else frame, notes)


def first_lines(path: Path) -> list[str]:
    """Return the first lines of a text table that are not blank; raise CellgaugeError for more text than a table has."""
    _check_inflated(path)
    lines = []
    with _open(path) as file:
        while len(lines) <= _SAMPLED_LINES and (line := file.readline(_LONGEST_LINE + 1)):
            if len(line) > _LONGEST_LINE:
                raise CellgaugeError(f"{path}: line {len(lines) + 1} has more than {_LONGEST_LINE:,} characters")
            if line.strip():
                lines.append(line)
    if not lines:
        raise CellgaugeError(f"{path}: it is empty")
    if max(lines[0].count(sign) for sign in ",;\t|") > MOST_COLUMNS:
        raise CellgaugeError(f"{path}: it has more than {MOST_COLUMNS:,} columns; save it as npz, parquet or h5ad")
    return lines


def _check_inflated(path: Path) -> None:
    """Refuse packed text that is over a GB, and hundred times what is stored: numbers in text never are."""
    most = max(1 << 30, 100 * path.stat().st_size)
    if path.suffix.lower() != ".gz" or RATIO * path.stat().st_size <= most:
        return
    with gzip.open(path, "rb") as file:
        size = 0
        while block := file.read(1 << 20):
            size += len(block)
            if size > most:
                raise CellgaugeError(f"{path}: it unpacks to more than {most:,} bytes, too many for a table")


def _open(path: Path) -> Any:
    """Open text in UTF-8, or in UTF-16 where the file begins as such, unpacked."""
    packed = path.suffix.lower() == ".gz"
    with gzip.open(path, "rb") if packed else path.open("rb") as file:
        start = file.read(4)
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if start[:4] == b"PK\x03\x04":
        raise CellgaugeError(f"{path}: this is an Excel workbook; save it as CSV UTF-8")
    return gzip.open(path, "rt", encoding=encoding, newline="") if packed else path.open(encoding=encoding)


def _separator(lines: Sequence[str], usual: str, path: Path) -> str:
    """Return what separates the columns: what divides every line into as many, the usual one first."""
    most, best = 1, ""
    for candidate in dict.fromkeys((usual, ",", ";", "\t", "|", " ")):
        widths = [len(row) for row in csv.reader(io.StringIO("".join(lines)), delimiter=candidate) if row]
        header, rows = widths[0], widths[1:] or widths[:1]
        divides = header > 1 or candidate == usual
        if divides and len(set(rows)) == 1 and rows[0] - header in (0, 1) and rows[0] > most:
            most, best = rows[0], candidate
            if candidate == usual:
                break
    if best or all(usual not in line for line in lines):
        return best or usual
    raise CellgaugeError(
        f"{path}: its separator is unclear, or its lines differ in their number of columns; save it with"
        f" {_sign(usual)} between columns and a first line of names"
    )


def _check_header(names: Sequence[str], path: Path) -> None:
    """Refuse a file whose first line holds numbers: its first row would be lost."""
    rest = [name for name in names[1:] if name] or list(names)
    numbers = [name for name in rest if _is_number(name)]
    counted = [str(start + position) for start in (0, 1) for position in range(len(rest))]
    if len(numbers) < len(rest) or rest in (counted[: len(rest)], counted[len(rest) :]):
        return
    if all(name.isdigit() for name in numbers) and len(set(numbers)) == len(numbers):
        return  # numbers of genes, or dimensions chosen from more
    raise CellgaugeError(
        f"{path}: its first line holds numbers ({shorten(numbers, 3)}), not the names of columns; write a line of names above"
    )


def _check_names(names: Sequence[str], path: Path) -> None:
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        what = f"the name '{repeated}'" if repeated else "no name"
        raise CellgaugeError(f"{path}: two columns have {what}; every column needs its own name")


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


_DECIMAL_COMMA = re.compile(r"^[+-]?\d*,\d+(?:[eE][+-]?\d+)?$")


def _decimal(rows: Sequence[Sequence[str]], separator: str) -> str:
    """Return "," where numbers are written with a decimal comma and none with a point."""
    fields = [value.strip() for row in rows for value in row[1:]]
    commas = sum(bool(_DECIMAL_COMMA.match(value)) for value in fields)
    points = sum("." in value and _is_number(value) for value in fields)
    return "," if separator != "," and commas and not points else "."


def _sign(separator: str) -> str:
    return {"\t": "tabs", " ": "blanks"}.get(separator, f"'{separator}'")


# --- which columns ----------------------------------------------------------------------------------------------------


def numbers(
    frame: pd.DataFrame,
    path: Path,
    *,
    columns: Sequence[str] = (),
    known: Collection[str] = (),
    spare: Collection[str] = (),
) -> tuple[list[str], np.ndarray, list[str]]:
    """Return the columns of a table that are dimensions (or genes). ONE rule for embeddings and for predictions:

    With `columns`, those that match one of these names or patterns. Else all but `spare` and row numbers; they must be numbers
    and of one kind: named by one stem and a number (d0, d1, ...), or all without a number, or all `known` (genes). What else
    is among them is refused by name, because a table of 512 dimensions and a column of counts scores the counts.

    Args:
        frame: the table without its ids.
        columns: names or patterns; `*` and `?` stand for any characters.
        known: the names of genes, where columns are genes: other columns are then left out, with a note.
        spare: columns that have another purpose.

    Returns:
        Their names in the file's order; them, float, shape (n_rows, n_columns); and a note on what was left out.

    Raises:
        CellgaugeError: no such column, columns of several kinds, or text in a column of numbers.
    """
    names = [name for name in frame.columns if name not in spare]
    if columns:
        matches = {one: {name for name in names if name == one or fnmatchcase(name, one)} for one in columns}
        if unmatched := [one for one, matching in matches.items() if not matching]:
            raise CellgaugeError(f"{path}: no column is called '{unmatched[0]}' (found: {shorten(names, 20)})")
        matched = set().union(*matches.values())
        chosen = [name for name in names if name in matched]
    else:
        chosen = [n for n in names if n.casefold() not in _ROW_NAMES | _ID_NAMES or not _counts_rows(frame[n])]
        if any(name in known for name in chosen):
            chosen = [name for name in chosen if name in known]
        elif not known:
            _check_alike(frame, chosen, path)
    if not chosen:
        columns_of_file = shorten(list(frame.columns), 20) or "none"
        raise CellgaugeError(f"{path}: it has no columns of numbers (found: {columns_of_file})")
    others = dict.fromkeys(names)
    for name in chosen:
        del others[name]
        if not _holds_numbers(frame[name]):
            what = f"column '{name}'{' is a gene, but' if name in known else ':'} not all of it are numbers"
            comma = " written with a decimal comma: save them with a decimal point" if _is_comma(frame[name]) else ""
            raise CellgaugeError(f"{path}: {what} (such as '{_example(frame[name])}'){comma}")
    is_single = {str(frame[name].dtype) for name in chosen} <= {"float32", "float16"}
    matrix = frame[chosen].to_numpy(dtype=np.float32 if is_single else np.float64)
    left_out = shorten([name or "row names" for name in others], 10)
    return chosen, matrix, [f"not taken: {left_out}"] if others else []


def _check_alike(frame: pd.DataFrame, names: Sequence[str], path: Path) -> None:
    """Refuse columns that are not of one kind."""
    text = [name for name in names if not _holds_numbers(frame[name])]
    kinds: dict[str, list[str]] = {}
    for name in names:
        if name not in text:
            kinds.setdefault(re.sub(r"\d+$", "*", name), []).append(name)
    plain = [name for stem, (name, *_) in kinds.items() if not stem.endswith("*")]
    groups = [group for stem, group in kinds.items() if stem.endswith("*")] + ([plain] if plain else [])
    usual, *rest = sorted(groups, key=len, reverse=True) or [[]]
    others = [*text, *(name for group in rest for name in group)]
    if usual is plain:
        whole = [name for name in plain if _is_whole(frame[name])]
        lone = whole if 2 * len(whole) < len(plain) else []
        others += [name for name in plain if name.casefold() in _ABOUT_CELLS or name in lone]
    if not others:
        return
    if len(text) == len(names):
        example = _example(frame[text[0]])
        if any(_is_comma(frame[name]) for name in text):
            raise CellgaugeError(
                f"{path}: numbers are written with a decimal comma (such as '{example}'); save them with a decimal point, or"
                " with ';' between columns"
            )
        hint = "; write one column per dimension" if example[:1] == "[" else ""
        raise CellgaugeError(f"{path}: column '{text[0]}' holds text (such as '{example}'), not numbers{hint}")
    described = shorten([f"{name} ({_kind(frame[name])})" for name in others], 5)
    alike = [name for name in usual if name not in others]
    like = f"{alike[0]} to {alike[-1]}" if len(alike) > 1 else alike[0] if alike else "the others"
    stem = re.sub(r"\d+$", "", alike[0]) if alike and usual is not plain else ""
    raise CellgaugeError(
        f"{path}: {described} do not look like dimensions such as {like}; say which columns are the embedding, for example"
        f' `columns: "{stem}*"`'
    )


def _is_whole(column: pd.Series) -> bool:
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    values = values[np.isfinite(values)]
    return bool(len(values)) and bool((values == np.round(values)).all())


def _counts_rows(column: pd.Series) -> bool:
    """Return whether a column is 0, 1, 2, ... or 1, 2, 3, ...: row numbers, as pandas and R write them."""
    values = ids(column).tolist()
    return any(values == [str(start + row) for row in range(len(values))] for start in (0, 1))


def _holds_numbers(column: pd.Series) -> bool:
    kinds = pd.api.types
    others = kinds.is_bool_dtype(column) or kinds.is_complex_dtype(column)
    return kinds.is_numeric_dtype(column) and not others


def _is_comma(column: pd.Series) -> bool:
    return bool(_DECIMAL_COMMA.match(_example(column)))


def _example(column: pd.Series) -> str:
    """Return the first value of a column that is no number."""
    is_text = column.dtype == object
    unread = column[pd.to_numeric(column, errors="coerce").isna() & column.notna()] if is_text else column
    return one_line([*unread.iloc[:1], *column.iloc[:1], ""][0])[:40]


def _kind(column: pd.Series) -> str:
    if _holds_numbers(column):
        return "whole numbers" if _is_whole(column) else "numbers"
    return "text" if str(column.dtype) in ("object", "string", "str", "category") else str(column.dtype)


# --- which rows -------------------------------------------------------------------------------------------------------


def id_column(frame: pd.DataFrame, cells: Collection[str], path: Path, name: str = "") -> str | None:
    """Return the column that holds the ids of the rows; None where the table has none.

    It is the one called `name`; else the first column that holds ids of these cells; else the first column if it is text or is
    called as columns of ids are. Raise CellgaugeError where there is no column of the name.
    """
    names = list(frame.columns)
    if name:
        if name not in names:
            raise CellgaugeError(f"{path}: no column '{name}' for cell ids (found: {shorten(names)})")
        return name
    cells = set(cells)
    candidates = [n for n in names if not pd.api.types.is_float_dtype(frame[n]) or _is_whole(frame[n])]
    for name in candidates:
        if not cells.isdisjoint(ids(frame[name])):
            return name
    first = names[0] if names else None
    if first is None or first not in candidates:
        return None
    is_text = not _holds_numbers(frame[first]) and not _all_numbers(frame[first])
    counts = first.casefold() in _ID_NAMES and not _counts_rows(frame[first])
    return first if is_text or counts else None


def without_ids(frame: pd.DataFrame, column: str | None) -> pd.DataFrame:
    """Return a table without its column of ids; its first column, which is read as text, as numbers where it holds them."""
    first = frame.columns[0]
    if first != column and not _holds_numbers(frame[first]) and _all_numbers(frame[first]):
        frame = frame.assign(**{first: pd.to_numeric(frame[first])})
    return frame if column is None else frame.drop(columns=column)


def _all_numbers(column: pd.Series) -> bool:
    return bool(pd.to_numeric(column, errors="coerce").notna().all())

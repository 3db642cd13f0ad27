"""Text that a spreadsheet would run as a formula, and tables as csv that are safe to open in one.

A text that begins with =, @, +, -, a tab or the end of a line gets an apostrophe in front, as OWASP's page on CSV injection
advises; so does one that begins with such an apostrophe, so that taking it away gives exactly what was written. Numbers
stay numbers, also those that stand in a column of text.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cellgauge.core.atomic import atomic_path

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

_RUNS = re.compile(r"'*[=@+\-\t\r\n]")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z")


def quoted(value: T) -> T | str:
    """Return a text as it stands in a csv for people; what is no text stays as it is."""
    if isinstance(value, str) and _RUNS.match(value) and not _NUMBER.match(value):
        return f"'{value}"
    return value


def unquoted(value: T) -> T | str:
    """Return what `quoted` was given."""
    return value[1:] if isinstance(value, str) and value[:1] == "'" and _RUNS.match(value, 1) else value


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as csv for people."""
    texts = {name: table[name].dropna().unique() for name in table if _is_text(table[name])}
    changed = {name: table[name].map(quoted) for name, values in texts.items() if any(quoted(v) != v for v in values)}
    has_returns = any("\r" in str(value) for values in texts.values() for value in values)
    quoting = csv.QUOTE_NONNUMERIC if has_returns else csv.QUOTE_MINIMAL  # which leaves a lone \\r without quotes
    with atomic_path(path) as temporary:
        table.assign(**changed).to_csv(temporary, index=False, quoting=quoting)


def read_csv(path: str | Path, *, typed: bool = False) -> pd.DataFrame:
    """Return a table that `write_csv` wrote: all of it as text, an empty field as "", or `typed` as pandas guesses."""
    import pandas as pd

    options = {"float_precision": "round_trip"} if typed else {"dtype": str, "keep_default_na": False}
    table = pd.read_csv(path, **options)
    return table.assign(**{name: table[name].map(unquoted) for name in table if _is_text(table[name])})


def _is_text(column: pd.Series) -> bool:
    import pandas as pd

    return not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column))

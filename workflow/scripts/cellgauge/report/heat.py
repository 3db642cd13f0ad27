"""Heat tables as the macro `heat` of templates/macros.html shows them: models x columns, and notes on what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from string import ascii_lowercase
from typing import TYPE_CHECKING

from cellgauge.results.columns import Column
from cellgauge.results.entries import NO_ROW, Entry, Missing

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Cell:
    """One value as the page shows it."""

    text: str  # the number, or why there is none ("failed", "n/a")
    level: int | None = None  # the step of the color scale, None for no color
    rank: int | None = None  # the place among the ranked models of the column
    # what the note below the table says of it; the page's script makes that the cell's title too
    note: Missing | None = None
    extra: str = ""  # what stands small beside the number, such as the splits that it covers
    interval: str = ""  # the ends of the number's interval, as text
    scaled: str = ""  # the number's place between the controls, as text; "" where the page does not offer it
    is_text: bool = False  # whether it is prose, which may be long

    @classmethod
    def gap(cls, missing: Missing) -> Cell:
        """Return the cell of a score that is not there."""
        return cls(missing.label, note=missing)


@dataclass(frozen=True)
class Row:
    """One model. `mean` and `picture` sum up its cells, where these are of one metric."""

    model: Entry
    cells: Sequence[Cell]
    mean: Cell | None = None
    picture: Markup | str = ""

    @property
    def applies(self) -> bool:
        """Whether there is anything to be seen: a value, or a failure."""
        return self.mean is not None or any(cell.text != "n/a" for cell in self.cells)


@dataclass(frozen=True)
class HeatTable:
    """Models x columns."""

    caption: str  # what the table shows, as text
    columns: Sequence[Column]
    rows: Sequence[Row]  # all models; those to which nothing applies are named below the table instead (`left_out`)
    # the variant that the page's controls choose by, such as {"profile": "corrected", "metric": "ari"}
    about: Mapping[str, str]
    ends: tuple[str, str] | None = None  # the worst and the best value of the colors, where all columns share one scale
    spreads: Sequence[str] = ()  # what the "±" in the cells are
    units: Sequence[str] = ()  # what the intervals are over
    marked: bool = False  # whether the pictures mark the controls

    @property
    def visible(self) -> list[Row]:
        """The rows of the table."""
        return [row for row in self.rows if row.applies]

    @property
    def left_out(self) -> dict[str, list[str]]:
        """The titles of the models to which nothing applies, by the reason; those that have none were not asked for."""
        titles: dict[str, list[str]] = {}
        for row in self.rows:
            if not row.applies:
                reason = next((cell.note.reason for cell in row.cells if cell.note), NO_ROW.reason)
                titles.setdefault(reason, []).append(row.model.title)
        titles.pop(NO_ROW.reason, None)
        return titles

    @property
    def notes(self) -> dict[Missing, str]:
        """What columns and cells say, from the top left to the bottom right, with its letter: a to z, then aa, ab, ..."""
        parts = (*self.columns, *(cell for row in self.visible for cell in row.cells))
        notes = dict.fromkeys(part.note for part in parts if part.note)
        return {
            note: ascii_lowercase[n // 26 - 1] * (n >= 26) + ascii_lowercase[n % 26] for n, note in enumerate(notes)
        }

    @property
    def groups(self) -> list[tuple[str, str, int]]:
        """The headings above the columns: (task, title, number of columns); none where the columns share none."""
        if not any(column.group for column in self.columns):
            return []
        runs = groupby(self.columns, key=lambda column: (column.task, column.group))
        return [(task, title, len(list(run))) for (task, title), run in runs]

    @property
    def narrow(self) -> bool:
        """Whether the headings are turned by 90 degrees, for many splits."""
        return len(self.columns) > 9 and not self.groups

    @property
    def has_intervals(self) -> bool:
        """Whether any number has its interval below it."""
        return any(cell.interval for row in self.visible for cell in (*row.cells, row.mean) if cell)

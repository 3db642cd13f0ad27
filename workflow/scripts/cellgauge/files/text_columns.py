"""Columns of text at the boundary: donors, batches, labels, conditions, partitions and names of genes, of whatever type."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

MISSING_WORDS = frozenset({"nan", "na", "n/a", "#n/a", "none", "null", "nat", "<na>", "<nan>"})
"""What programs write for a missing value, in lower case."""
_RANGES = ((0, 9), (0x0E, 0x1C), (0x7F, 0x80), (0x200B, 0x2010), (0x202A, 0x202F), (0x2060, 0x206A), (0xFEFF, 0xFF00))
INVISIBLE = {code: None for start, stop in _RANGES for code in range(start, stop)}
"""Characters that are not seen, or turn the direction of others: two names that look the same are one name."""


@dataclass(frozen=True)
class TextColumn:
    """A column as text.

    Attributes:
        values: str, shape (n_rows,), "" where the value is missing.
        words: the texts that were taken for missing, such as "nan", with how often each is there.
        merged: pairs of spellings that are one name but for blanks, such as "B cell " and "B cell".
    """

    values: np.ndarray
    words: dict[str, int] = field(default_factory=dict)
    merged: list[tuple[str, str]] = field(default_factory=list)

    @property
    def missing(self) -> np.ndarray:
        """Whether a row has no value, bool, shape (n_rows,)."""
        return self.values == ""

    def notes(self, name: str) -> list[str]:
        """Return what was read in another way than it is written in the column called `name`."""
        notes = []
        if self.words:
            words = ", ".join(f"'{word}' ({count})" for word, count in sorted(self.words.items()))
            notes.append(f"column '{name}': the text {words} counts as a missing value")
        if self.merged:
            pairs = ", ".join(f"{first!r} and {second!r}" for first, second in self.merged[:3])
            more = f" and {len(self.merged) - 3} more" if len(self.merged) > 3 else ""
            notes.append(f"column '{name}': {pairs}{more} differ only in blanks and count as one name")
        return notes


def as_text(value: Any) -> str:
    """Return one value as text on one line: without outer, repeated and invisible blanks, whole numbers without ".0".

    None, NaN and pd.NA give "". Tables collapse blanks too, so that two names never look the same there.
    """
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        try:
            if value != value:  # NaN, NaT
                return ""
            if not isinstance(value, int) and hasattr(value, "is_integer") and value.is_integer():
                value = int(value)
        except (TypeError, ValueError, AttributeError):  # pd.NA has no truth; neither have arrays
            if type(value).__name__ == "NAType":
                return ""
        value = str(value)
    if value.isascii() and value.isalnum():
        return value
    return " ".join(unicodedata.normalize("NFC", value).translate(INVISIBLE).split())


def text_column(values: Any, meant: Collection[str] = (), *, words_are_missing: bool = True) -> TextColumn:
    """Return a column of any type as text.

    Args:
        values: shape (n_rows,): a pandas Series, Index or Categorical, or an array of any dtype.
        meant: words that are names here although they look like a missing value, such as a control called "None".
        words_are_missing: whether "nan", "NA", "None" and their like are missing; ids of cells are taken as they stand.
    """
    import numpy as np
    import pandas as pd

    column = pd.Series(values).reset_index(drop=True)
    try:
        codes, spellings = pd.factorize(column)
    except TypeError:  # lists and other things that cannot be hashed
        codes, spellings = pd.factorize(column.map(str))
    texts = [as_text(spelling) for spelling in spellings]
    exempt = {as_text(word) for word in meant}
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    words: dict[str, int] = {}
    first: dict[str, str] = {}
    merged: list[tuple[str, str]] = []
    for position, (spelling, text) in enumerate(zip(spellings, texts, strict=True)):
        if words_are_missing and text not in exempt and text.casefold() in MISSING_WORDS:
            words[text] = words.get(text, 0) + int(counts[position])
            texts[position] = ""
        elif text and isinstance(spelling, str) and first.setdefault(text, spelling) != spelling:
            merged.append((first[text], spelling))
    names = np.asarray([*texts, ""], dtype=object)
    return TextColumn(names[np.where(codes < 0, len(texts), codes)], words, merged)


def ids(values: Any) -> np.ndarray:
    """Return ids of cells or rows as text, str, shape (n_rows,); "" where an id is missing."""
    return text_column(values, words_are_missing=False).values


def shorten(names: Sequence[Any], most: int = 30) -> str:
    """Return names for a message, the first `most` of them."""
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")

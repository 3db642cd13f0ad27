"""Sets of splits: what a task or a model that spans splits is computed on, and what a set is called."""

import hashlib
from collections.abc import Iterable

ALL = "all"
"""The set of all splits of a dataset whose entry names no sets."""
LONGEST = 100
"""A name made of splits that is longer than this is cut: names of files have an end (on Linux 255 bytes)."""


def ordered(splits: Iterable[str]) -> tuple[str, ...]:
    """Return the splits of a set, each once, in the order in which they are computed: that of the alphabet."""
    return tuple(sorted(set(splits)))


def name_of(splits: Iterable[str]) -> str:
    """Return the name of a set to which the catalogue gives none: its splits, joined by "+".

    Names of splits and sets hold no "+", so no two sets share a name. A long name is its first split, the number of the
    others and a digest of all of them.
    """
    first, *others = ordered(splits)
    name = "+".join((first, *others))
    if len(name) <= LONGEST or not others:
        return name
    return f"{first}+{len(others)}_more_{hashlib.sha256(name.encode()).hexdigest()[:12]}"

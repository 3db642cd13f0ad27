"""What every source of bytes looks like to the code that stores them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from cellgauge.errors import CellgaugeError

# A cut connection loses at most the chunk under way, so this bounds what is served twice.
CHUNK = 64 * 1024
MEGABYTE = 1_000_000


class FetchError(CellgaugeError):
    """An object cannot be had; trying again without a change would not help."""


class TransientError(Exception):
    """A source failed in a way that may pass: a cut connection, a busy or an unreachable server."""


@dataclass(frozen=True)
class Fetched:
    """What was fetched: size in bytes and the sha256 in lower-case hexadecimal digits."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Stream:
    """An object's bytes from `start` on.

    Attributes:
        start: offset of the first byte, in bytes: the one asked for, or 0 where the source begins again.
        size: bytes of the whole object, None where the source does not tell.
        validator: stands for these very bytes (an ETag); None where a later request could not tell a changed object.
        chunks: the bytes; raises TransientError where the source breaks off.
    """

    start: int
    size: int | None
    validator: str | None
    chunks: Iterator[bytes]


Opener = Callable[[int, str | None], AbstractContextManager[Stream]]
"""Opens an object from an offset if it still has the given validator, else from its beginning."""


def megabytes(size: int) -> str:
    """Return a number of bytes as text in MB (10^6 bytes)."""
    return f"{size / MEGABYTE:.1f} MB"

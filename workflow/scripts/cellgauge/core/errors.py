"""The errors that users are expected to meet: one clear sentence each, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches


class CellgaugeError(Exception):
    """Something that the user can mend: the message says what, where, what was found and what to do."""


class ContractError(CellgaugeError):
    """A file between two stages is not what its contract says."""


def one_line(text: object) -> str:
    """Return `text` on a single line, so that it fits a log's last line or a table's cell."""
    return " ".join(str(text).split())


def did_you_mean(name: object, known: Iterable[object], otherwise: str | None = None) -> str:
    """Return the end of a sentence about an unknown name: the nearest known one.

    Where none is near it is `otherwise`, by default the list of all that are known.
    """
    names = list(map(str, known))
    if near := get_close_matches(str(name), names, 1):
        return f", did you mean '{near[0]}'?"
    return f" (known: {', '.join(names) or 'none'})" if otherwise is None else otherwise


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever a library raises on a damaged file into a CellgaugeError that begins with `what`."""
    try:
        yield
    except CellgaugeError:
        raise
    except MemoryError:
        remedy = "give the job more (mem_mb), or look whether the file is what it should be"
        raise CellgaugeError(f"{what} (it needs more memory than there is: {remedy})") from None
    except Exception as error:  # every reader has errors of its own
        raise CellgaugeError(f"{what} ({one_line(error)[:500] or type(error).__name__})") from None


def run_cli(main: Callable[[], None]) -> None:
    """Run a script's `main`; turn an expected error into its sentence on stderr and exit status 1.

    The sentence is the last line of the log, where `collect_tables` looks for the reason of a missing score.
    """
    try:
        main()
    except CellgaugeError as error:
        with suppress(BrokenPipeError):
            print(f"error: {one_line(error)}", file=sys.stderr)
        raise SystemExit(1) from None

"""The errors that users are expected to meet: one clear sentence each, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress


class CellgaugeError(Exception):
    """Something that the user can mend: the message says what, where, what was found and what to do."""


class ContractError(CellgaugeError):
    """A file between two stages is not what its contract says."""


def one_line(text: object) -> str:
    """Return `text` on a single line, so that it fits a log's last line or a table's cell."""
    return " ".join(str(text).split())


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

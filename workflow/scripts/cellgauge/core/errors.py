"""The errors that users are expected to meet: one clear sentence each, no traceback."""

import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path

from cellgauge.core.atomic import damaged_name


class CellgaugeError(Exception):
    """Something that the user can mend: the message says what, where, what was found and what to do."""


class ContractError(CellgaugeError):
    """A file between two stages is not what its contract says."""


class FetchError(CellgaugeError):
    """An object cannot be had."""


class DamagedError(ContractError):
    """A file between two stages is not what was written at `path`."""

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


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
def reading(what: str, kind: type[CellgaugeError] = CellgaugeError, remedy: str = "") -> Iterator[None]:
    """Turn whatever a library raises on a damaged file into an error that begins with `what` and ends with `remedy`."""
    try:
        yield
    except kind:
        raise
    except MemoryError:
        more = "give the job more (mem_mb), or check that it is the right file"
        raise kind(f"{what} (it needs more memory than is available: {more})") from None
    except Exception as error:  # every reader has errors of its own
        raise kind(f"{what} ({one_line(error)[:500] or type(error).__name__}){remedy}") from None


def run_cli(main: Callable[[], None]) -> None:
    """Run a script's `main`; turn an expected error into its sentence on stderr and exit status 1.

    The sentence is the last line of the log, where `collect_tables` looks for the reason of a missing score. A damaged file
    is moved aside, so that the workflow makes it again.
    """
    try:
        main()
    except Exception as error:
        sentence = str(error) if isinstance(error, CellgaugeError) else refusal(error)
        if not sentence:
            raise
        if isinstance(error, DamagedError):
            with suppress(OSError):
                error.path.replace(damaged_name(error.path))
        with suppress(BrokenPipeError):
            print(f"error: {one_line(sentence)}", file=sys.stderr)
        raise SystemExit(1) from None


MEND = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or get a larger quota",
    errno.EROFS: "mount it for writing, or choose another folder with --directory",
    errno.EACCES: "change its owner or permissions, or choose another folder with --directory",
    errno.ENOTDIR: "move away the file that is in the place of a folder",
    errno.EISDIR: "move away the folder that is in the place of a file",
    errno.EIO: "check the disk",
    errno.ESTALE: "check the network file system",
}
"""What helps where the system refuses a file, by the number of its error."""
MEND |= {errno.EPERM: MEND[errno.EACCES], errno.EEXIST: MEND[errno.ENOTDIR]}


def refusal(error: BaseException) -> str:
    """Return one sentence about an error by which the system refuses a file, "" of any other error.

    HDF5 tells file and number in its message alone, and may meet a second error when it closes the file.
    """
    cause: BaseException | None = error
    while cause is not None:
        text = one_line(cause)
        in_text = re.search(r"errno = (\d+)", text)
        number = int(in_text[1]) if in_text else getattr(cause, "errno", None)
        if number in MEND:
            name = re.search(r"filename = '([^']+)'", text)
            path = Path(name[1] if name else str(getattr(cause, "filename", None) or Path.cwd()))
            place = path.parent.parent if path.parent.suffix == ".part" else path  # the folder of a file on its way
            return f"{place}: {os.strerror(number)}; {MEND[number]} and run the same command again"
        cause = cause.__cause__ or cause.__context__
    return ""

"""Objects that lie on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cellgauge.fetch.streams import CHUNK, FetchError, Opener, Stream


def path_of(url: str) -> Path:
    """Return the path that a plain path or a file:// URL names.

    Raises:
        FetchError: the URL names another machine or a relative path.
    """
    if not url.startswith("file://"):
        return Path(url)
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise FetchError(f"{url}: a file URL needs an absolute path and no host; write file:///folder/file")
    return Path(unquote(parts.path))


def opener(url: str) -> Opener:
    """Return what opens the file at `url`; time of change and size tell a changed file."""
    path = path_of(url)

    @contextmanager
    def open_stream(offset: int, validator: str | None) -> Iterator[Stream]:
        with open_file(path, url) as file:
            status = os.fstat(file.fileno())
            current = f"{status.st_mtime_ns}-{status.st_size}"
            start = offset if validator == current else 0
            file.seek(start)
            yield Stream(start, status.st_size, current, _chunks(file, url))

    return open_stream


@contextmanager
def open_file(path: Path, url: str) -> Iterator:
    """Open the file at `path` for reading.

    Raises:
        FetchError: it is missing, is a folder, or may not be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise FetchError(f"{url}: there is no such file; correct the path") from None
    except IsADirectoryError:
        raise FetchError(f"{url}: this is a folder; name one file in it") from None
    except OSError as error:
        raise FetchError(f"{url}: the file cannot be read ({error.strerror}); mend that and run again") from None
    with file:
        yield file


def _chunks(file, url: str) -> Iterator[bytes]:
    # Errors of reading are told apart here from errors of writing, which are the output's.
    try:
        while chunk := file.read(CHUNK):
            yield chunk
    except OSError as error:
        raise FetchError(f"{url}: the file cannot be read ({error.strerror}); mend that and run again") from None

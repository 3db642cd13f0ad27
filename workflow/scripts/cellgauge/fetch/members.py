"""Files inside zip and tar archives: read by exact name, never unpacked by the archive's own paths."""

from __future__ import annotations

import difflib
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from cellgauge.fetch.local import open_file
from cellgauge.fetch.streams import CHUNK, FetchError, Opener, Stream

MEMBER = "!"
"""Stands in a URL between an archive and the name of a file inside it."""


def split_members(url: str) -> tuple[str, list[str]]:
    """Return the URL of the outermost archive (or object) and the names of the members, from outside to inside.

    Raises:
        FetchError: a member's name is empty, absolute or goes upwards.
    """
    base, *members = url.split(MEMBER)
    for member in members:
        require_plain(member, url)
    return base, members


def require_plain(member: str, url: str) -> None:
    """Refuse a member's name that no well-made archive holds.

    Raises:
        FetchError: the name is empty, absolute, goes upwards or has backslashes.
    """
    if "\\" in member or any(part in ("", ".", "..") for part in member.split("/")):
        raise FetchError(f"{url}: {member!r} is not the plain name of a file in an archive; correct it")


def opener(url: str, archive: Path, members: list[str], *, strip_top: bool = False) -> Opener:
    """Return what opens the last of `members`, each an archive inside the one before.

    The first is looked up in the file `archive`; `strip_top` leaves out the folder that all its names begin with. Such
    a stream always begins at 0: the archive is at hand, so there is nothing to resume.
    """

    @contextmanager
    def open_stream(offset: int, validator: str | None) -> Iterator[Stream]:
        with ExitStack() as stack:
            with _read_errors(url):
                file = stack.enter_context(open_file(archive, url))
                for depth, member in enumerate(members):
                    if depth:
                        file = stack.enter_context(_spooled(file, archive.parent))
                    open_member = _open_zipped if _is_zip(file) else _open_tarred
                    strip = strip_top and depth == 0
                    file, size = stack.enter_context(open_member(file, member, url, strip))
            yield Stream(0, size, None, _chunks(file, url))

    return open_stream


def _is_zip(archive: IO[bytes]) -> bool:
    # By its first bytes: zipfile.is_zipfile also takes a tar whose last member is a zip.
    magic = archive.read(4)
    archive.seek(0)
    return magic in (b"PK\x03\x04", b"PK\x05\x06")


@contextmanager
def _open_zipped(archive: IO[bytes], member: str, url: str, strip_top: bool) -> Iterator[tuple[IO[bytes], int]]:
    with zipfile.ZipFile(archive) as zipped:
        names = {_inner(info.filename, strip_top): info for info in zipped.infolist()}
        if member not in names:
            raise _absent(member, list(names), url)
        info = names[member]
        if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
            raise _not_a_file(member, url)
        with zipped.open(info) as file:
            yield file, info.file_size


@contextmanager
def _open_tarred(archive: IO[bytes], member: str, url: str, strip_top: bool) -> Iterator[tuple[IO[bytes], int]]:
    # As a stream: one pass that ends at the member, without an index of all that follows.
    with tarfile.open(fileobj=archive, mode="r|*") as tarred:
        names = []
        for info in tarred:
            name = _inner(info.name, strip_top)
            if name != member:
                names.append(name)
                continue
            if not info.isreg():
                raise _not_a_file(member, url)
            with tarred.extractfile(info) as file:
                yield file, info.size
            return
        raise _absent(member, names, url)


def _inner(name: str, strip_top: bool) -> str:
    # tar writes "./a" where it was told to pack "."
    name = name.removeprefix("./")
    return name.partition("/")[2] if strip_top else name


@contextmanager
def _spooled(file: IO[bytes], folder: Path) -> Iterator[IO[bytes]]:
    """Copy an archive out of an archive into a nameless file, since a zip is read from its end."""
    with tempfile.TemporaryFile(dir=folder) as copy:
        while block := file.read(CHUNK):
            copy.write(block)
        copy.seek(0)
        yield copy


def _chunks(file: IO[bytes], url: str) -> Iterator[bytes]:
    with _read_errors(url):
        while chunk := file.read(CHUNK):
            yield chunk


@contextmanager
def _read_errors(url: str) -> Iterator[None]:
    import lzma
    import zlib
    from gzip import BadGzipFile

    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise FetchError(
            f"{url}: the archive is damaged, or neither zip nor tar ({error}); remove it and run again"
        ) from None
    except (RuntimeError, NotImplementedError) as error:
        # What zipfile says of encrypted members and of methods of compression that it does not know.
        raise FetchError(f"{url}: the member cannot be read ({error}); use another archive") from None


def _absent(member: str, names: list[str], url: str) -> FetchError:
    near = difflib.get_close_matches(member, names, n=1)
    hint = f"did you mean {near[0]}?" if near else "correct the name"
    return FetchError(f"{url}: the archive has no member {member}; {hint}")


def _not_a_file(member: str, url: str) -> FetchError:
    return FetchError(f"{url}: the member {member} is a link or a folder, which is not taken; name a plain file")

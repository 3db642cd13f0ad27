"""Store an object: resume, verify, rename. Nothing here knows where the bytes come from."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cellgauge.fetch.locks import locked
from cellgauge.fetch.progress import Progress
from cellgauge.fetch.streams import Fetched, FetchError, Opener, Stream, TransientError, megabytes

TRIES = 6  # in a row without a byte that is new
FIRST_WAIT = 1.0  # seconds; doubled at each try
HASH_BLOCK = 1 << 20


@dataclass(frozen=True)
class Expected:
    """What an object must be; None is unknown. `source` tells the user who says so."""

    size: int | None = None
    sha256: str | None = None
    source: str = ""


class Part:
    """OUTPUT.part, with OUTPUT.part.json beside it, which tells whose bytes these are.

    Attributes:
        path: the file being written.
        size: bytes in it.
        total: bytes of the whole object, None while unknown.
        validator: stands for the object that the bytes are of, see Stream.
    """

    def __init__(self, url: str, output: Path, descriptor: int):
        self.url, self.output = url, output
        self.path = part_path(output)
        self._note = self.path.with_name(f"{self.path.name}.json")
        self._descriptor = descriptor
        self.size = 0
        self.total: int | None = None
        self.validator: str | None = None
        self._hash = hashlib.sha256()

    @property
    def fetched(self) -> Fetched:
        """Size and sha256 of the bytes so far."""
        return Fetched(self.size, self._hash.hexdigest())

    @property
    def complete(self) -> bool:
        """Whether the whole object is there."""
        return self.total is not None and self.size == self.total

    def resume(self) -> None:
        """Take up the bytes of an earlier run where they are of this URL and a changed object would be noticed."""
        length = os.fstat(self._descriptor).st_size
        note = self._read_note()
        total, validator = note.get("size"), note.get("validator")
        if not length or note.get("url") != self.url or not validator:
            return
        if total is not None and length > total:
            return
        with Progress(f"{self.output.name} (checking what is there)", total=length) as progress:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            while block := os.read(self._descriptor, HASH_BLOCK):
                self._hash.update(block)
                self.size += len(block)
                progress.update(self.size)
        self.total, self.validator = total, validator

    def begin(self, stream: Stream) -> None:
        """Empty the file, for a stream that starts at the first byte."""
        # In this order a killed process never leaves bytes beside the note of another object.
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.size, self._hash = 0, hashlib.sha256()
        self.total, self.validator = stream.size, stream.validator
        note = {"url": self.url, "validator": stream.validator, "size": stream.size}
        self._note.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")

    def append(self, chunk: bytes) -> None:
        """Write `chunk` at the end."""
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._hash.update(chunk)
        self.size += len(chunk)

    def sync(self) -> None:
        """Return when the bytes are on the disk."""
        os.fsync(self._descriptor)

    def publish(self) -> None:
        """Give the file its name."""
        self.path.replace(self.output)
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the file and its note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def discard_if_empty(self) -> None:
        """Leave no empty file behind a failure."""
        if os.fstat(self._descriptor).st_size == 0:
            self.discard()

    def _read_note(self) -> dict:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}


def part_path(output: Path) -> Path:
    """Return where the bytes of `output` are gathered."""
    return output.with_name(f"{output.name}.part")


@contextmanager
def open_part(url: str, output: Path) -> Iterator[Part]:
    """Open OUTPUT.part for this process alone.

    Raises:
        FetchError: another process is writing it (a killed workflow can leave jobs that run on), or the disk refuses.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder", str(output))
        with locked(part_path(output), wait=False) as descriptor:
            part = Part(url, output, descriptor)
            try:
                yield part
            except BaseException:
                with suppress(OSError):
                    part.discard_if_empty()
                raise
    except BlockingIOError:
        raise FetchError(
            f"{url}: another process is writing {part_path(output)}; wait until it ends, or end it"
        ) from None
    except OSError as error:
        raise disk_error(url, output, error) from None


def disk_error(url: str, path: Path, error: OSError) -> FetchError:
    """Return the sentence for a write that the system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FetchError(
            f"{url}: no space is left for {path} ({os.strerror(error.errno)}); make room and run again, "
            "what was fetched is kept"
        )
    return FetchError(f"{url}: cannot write {path} ({error.strerror or error}); mend that and run again")


def download(part: Part, open_stream: Opener, expected: Expected) -> Fetched:
    """Bring all of an object into `part` and verify it.

    A source that breaks off is asked again for the rest, with exponential waits, until TRIES in a row brought nothing.

    Raises:
        FetchError: there is no progress, no room, or the object is not as expected (then nothing is left of it).
        OSError: the disk refused a write.
    """
    part.resume()
    failures, furthest = 0, part.size
    with Progress(part.output.name, part.size, part.total) as progress:
        while not part.complete:
            try:
                _receive(part, open_stream, expected, progress)
            except TransientError as error:
                failures = 1 if part.size > furthest else failures + 1
                furthest = max(furthest, part.size)
                if failures >= TRIES:
                    raise _gave_up(part, error) from None
                wait = FIRST_WAIT * 2 ** (failures - 1)
                progress.note(f"{part.url}: {error}; trying again from {megabytes(part.size)} in {wait:g} s")
                time.sleep(wait)
    part.sync()
    verify(part, expected)
    return part.fetched


def verify(part: Part, expected: Expected) -> None:
    """Compare the finished `part` with what is known of the object.

    Raises:
        FetchError: size or sha256 differ; the part is removed.
    """
    found = part.fetched
    for name in ("size", "sha256"):
        wanted = getattr(expected, name)
        if wanted is not None and wanted != getattr(found, name):
            raise _mismatch(part, name, getattr(found, name), expected)


def _receive(part: Part, open_stream: Opener, expected: Expected, progress: Progress) -> None:
    with open_stream(part.size, part.validator if part.size else None) as stream:
        if stream.start != part.size or part.size == 0:
            part.begin(stream)
            progress.restart()
        progress.total = stream.size
        if None not in (stream.size, expected.size) and stream.size != expected.size:
            raise _mismatch(part, "size", stream.size, expected)
        _require_room(part, stream)
        for chunk in stream.chunks:
            part.append(chunk)
            if expected.size is not None and part.size > expected.size:
                raise _mismatch(part, "size", f"{part.size} or more", expected)
            progress.update(part.size)
    if stream.size is None:
        part.total = part.size
    elif part.size != stream.size:
        raise TransientError(f"the connection ended at {part.size} of {stream.size} bytes")


def _require_room(part: Part, stream: Stream) -> None:
    if stream.size is None:
        return
    need = stream.size - part.size
    free = shutil.disk_usage(part.path.parent).free
    if need > free:
        raise FetchError(
            f"{part.url}: {megabytes(need)} are needed in {part.path.parent}, where {megabytes(free)} are free; "
            "make room or choose another folder, and run again"
        )


def _mismatch(part: Part, name: str, found: object, expected: Expected) -> FetchError:
    part.discard()
    return FetchError(
        f"{part.url}: the {name} is {found}, but {expected.source} says {getattr(expected, name)}; nothing of it was "
        "kept: run again in case it was damaged on the way, and correct the expected value only if the object was "
        "changed on purpose"
    )


def _gave_up(part: Part, error: TransientError) -> FetchError:
    kept = f"; {megabytes(part.size)} are kept in {part.path}" if part.size else ""
    return FetchError(
        f"{part.url}: no progress in {TRIES} tries, the last time because {error}{kept}; check the network and the "
        "address, and run again"
    )


def hash_file(path: Path) -> Fetched:
    """Return size and sha256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file, Progress(f"{path.name} (checking)", total=path.stat().st_size) as said:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
            size += len(block)
            said.update(size)
    return Fetched(size, digest.hexdigest())

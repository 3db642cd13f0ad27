"""Files between two stages end with checksums of what they hold; what is damaged is noticed by the job that reads it.

The last line of a file is `# crc32 of each MiB: `, 8 hexadecimal digits for each MiB before it, a space, and the number of
bytes before it in 16 hexadecimal digits. HDF5 and zip pass over it. A block is checked when a byte of it is first read, so
that a job pays for what it reads alone. CRC-32 notices every flipped bit and every burst of up to 32 bits, and misses other
damage once in 2**32 cases; it does not guard against forgery.
"""

import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from cellgauge.core.atomic import atomic_path, damaged_name
from cellgauge.core.errors import ContractError, DamagedError

BLOCK = 1 << 20
MARK = b"# crc32 of each MiB: "
END = 18  # bytes of the space, the size and the end of the line


@contextmanager
def checked_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path, add the checksums of what was written there, and move it to `path`."""
    with atomic_path(path) as temporary:
        yield temporary
        add_checksums(temporary)


def add_checksums(path: Path) -> None:
    """Append to a file the line that `CheckedFile` compares it with."""
    with path.open("r+b") as file:
        sums = [zlib.crc32(block) for block in iter(partial(file.read, BLOCK), b"")]
        file.write(MARK + b"".join(b"%08x" % crc for crc in sums) + b" %016x\n" % file.tell())


class CheckedFile(io.RawIOBase):
    """A file without its last line, for reading; raises where what is read is not what was written.

    An HDF5 file that ends where it says is one made by hand: it has no checksums and is taken as it is.

    Raises:
        ContractError: there is no such file.
        DamagedError: the checksums are missing or do not fit.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            if damaged_name(self.path).exists():
                raise self._damaged("it was")
            raise ContractError(f"{path}: no such file")
        self._file = self.path.open("rb", buffering=0)
        self._at, self._size = 0, self._file.seek(0, os.SEEK_END)
        by_hand = _hdf5_end(self._read(0, 52)) == self._size
        if not by_hand:
            self._size, self._sums = self._last_line(self._size)
        self._checked = bytearray([by_hand]) * -(-self._size // BLOCK)

    def _last_line(self, end: int) -> tuple[int, bytes]:
        """Return the number of bytes before the last line and their checksums, 4 bytes each."""
        with suppress(ValueError, OSError, OverflowError):  # whatever stands where the numbers should
            size = int(self._read(end - END, END), 16)
            line = self._read(size, end - END - size)
            sums = bytes.fromhex(line.removeprefix(MARK).decode())
            if line.startswith(MARK) and len(sums) == 4 * -(-size // BLOCK):
                return size, sums
        raise self._damaged("its checksums are missing")

    def __repr__(self) -> str:  # what h5py calls the file
        return str(self.path)

    def close(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from where the file stands, as far as there are bytes; return how many."""
        view = memoryview(buffer).cast("B")[: max(self._size - self._at, 0)]
        for number in range(self._at // BLOCK, -(-(self._at + len(view)) // BLOCK)):
            if not self._checked[number]:
                start = number * BLOCK
                block = self._read(start, min(BLOCK, self._size - start))
                if zlib.crc32(block).to_bytes(4) != self._sums[4 * number : 4 * number + 4]:
                    raise self._damaged(f"bytes {start} to {start + len(block)} are not what was written")
                self._checked[number] = True
        for start in range(0, len(view), 1 << 30):  # the system reads less than 2 GiB at a time
            os.preadv(self._file.fileno(), [view[start : start + (1 << 30)]], self._at + start)
        self._at += len(view)
        return len(view)

    def _read(self, start: int, n_bytes: int) -> bytes:
        return os.pread(self._file.fileno(), n_bytes, start)

    def _damaged(self, fault: str) -> DamagedError:
        remedy = f"run the same command again to replace it (the damaged file is {damaged_name(self.path)} until then)"
        return DamagedError(f"{self.path}: this file is damaged, {fault}; {remedy}", self.path)


def _hdf5_end(start: bytes) -> int:
    """Return the number of bytes that an HDF5 file says it has, -1 of another file ("File Format Specification", II.A)."""
    if not start.startswith(b"\x89HDF\r\n\x1a\n"):
        return -1
    at = {0: 40, 1: 44}.get(start[8], 28)  # by the version of the superblock
    return int.from_bytes(start[at : at + 8], "little")


def open_checked(path: str | Path) -> io.BufferedReader:
    """Open a file that ends with its checksums."""
    return io.BufferedReader(CheckedFile(path), BLOCK)

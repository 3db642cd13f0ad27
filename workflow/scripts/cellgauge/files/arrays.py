"""Arrays that numpy saved, .npy and .npz, of anybody: never more memory than the file accounts for, never a pickle."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cellgauge.files import FREE, RATIO

if TYPE_CHECKING:
    import numpy as np


def read_npy(path: Path) -> np.ndarray:
    """Return the array in a .npy file; raise ValueError where it is none, damaged, or of Python objects."""
    with path.open("rb") as file:
        return _read(file, path.stat().st_size)


class Npz(Mapping[str, "np.ndarray"]):
    """The arrays of an .npz file by name; each is read when asked for.

    Raises:
        ValueError, zipfile.BadZipFile: the file is damaged, two arrays have one name, one holds Python objects or promises
            more than is stored.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
        self._members = {info.filename.removesuffix(".npy"): info for info in members if not info.is_dir()}
        if len(self._members) < len(members):
            raise ValueError("two of its arrays have the same name, or one has none")
        for name, info in self._members.items():
            if info.file_size > max(FREE, RATIO * info.compress_size):
                raise ValueError(f"array '{name}' promises {info.file_size:,} bytes, {info.compress_size:,} are stored")

    def __getitem__(self, name: str) -> np.ndarray:
        info = self._members[name]
        with zipfile.ZipFile(self._path) as file, file.open(info) as member:
            return _read(member, info.file_size)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def _read(file: IO[bytes], n_bytes: int) -> np.ndarray:
    from numpy.lib import format as npy

    headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in headers:
        raise ValueError(f"not numbers or text: npy format {version}")
    shape, _, dtype = headers[version](file)
    if dtype.hasobject:
        raise ValueError("it contains Python objects, which are not read; save numbers or text")
    size = prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size > n_bytes - file.tell():
        raise ValueError(f"truncated or corrupt: its shape {shape} takes {size:,} bytes of {n_bytes:,}")
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)

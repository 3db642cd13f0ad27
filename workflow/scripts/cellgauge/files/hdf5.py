"""HDF5 files of anybody, opened in one place. What would read another file, or take more memory than the file can account
for, is refused before anything of it is read (docs/adr/0038).

HDF5 lets a file name other files (external storage, external links, virtual data sets), load code (filters that are plug-ins)
and promise any size (shapes without storage, chunks that inflate without end). No writer of h5ad uses any of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from cellgauge.core.errors import CellgaugeError, one_line, reading
from cellgauge.files import FREE, RATIO

if TYPE_CHECKING:
    import anndata
GZIP, SHUFFLE, FLETCHER32, LZF = 1, 2, 3, 32000
LARGE_CHUNK = 1 << 20
"""Bytes of a compressed chunk from which on it is inflated to see where it ends: a smaller one gives 1 GB at most."""
MOST_OBJECTS, MOST_DEPTH = 20_000, 32
_walked: set[tuple[int, ...]] = set()
"""Versions of files that this process has walked through."""


@contextmanager
def open_hdf5(path: str | Path, source: Any = None, *, whole: bool = True) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Args:
        source: the open file to read instead of the one at `path`.
        whole: check all that the file holds. Without, each object is to be opened with `item_of`, which checks it.

    Raises:
        CellgaugeError: the file is missing, truncated, no HDF5, or holds something that no data set of cells needs.
    """
    path = Path(path)
    if not path.is_file():
        raise CellgaugeError(f"{path}: no such file")
    try:
        file = h5py.File(source or path, "r")
    except (OSError, RuntimeError, ValueError) as error:
        kind = path.suffix[1:] or "HDF5"
        raise CellgaugeError(f"{path}: not a readable {kind} file, truncated or corrupt ({one_line(error)})") from None
    with file:
        if whole:
            status = path.stat()
            version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if version not in _walked:  # a job opens the same file once for each column that it reads
                with reading(f"{path}: it cannot be read, truncated or corrupt"):
                    _Walk(path).group(file.id, "", 0)
                _walked.add(version)
        yield file


def read_anndata(path: str | Path) -> anndata.AnnData:
    """Return all that an h5ad file holds, read by anndata; raise CellgaugeError as `open_hdf5`, or where it cannot be read."""
    import anndata

    with open_hdf5(path), reading(f"{path}: it cannot be read, truncated or corrupt"):
        return anndata.read_h5ad(path)


def item_of(group: h5py.Group, name: str) -> h5py.Dataset | h5py.Group:
    """Return an object below a group of a file that was opened without `whole`, checked; raise KeyError where there is none."""
    walk, link = _Walk(Path(group.file.filename)), name.encode()
    item = walk.opened(group.id, link, name) if link in group.id else None
    if item is None:
        raise KeyError(name)
    return h5py.Group(item) if isinstance(item, h5py.h5g.GroupID) else h5py.Dataset(item)


class _Walk:
    """A walk through all that a file holds, along every link: an object with two names is met twice.

    So a group inside itself, or groups that multiply, exceed the number of objects or the depth.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._size, self._count = path, path.stat().st_size, 0

    def group(self, group: h5py.h5g.GroupID, where: str, depth: int) -> None:
        if depth > MOST_DEPTH:
            raise CellgaugeError(f"{self._path}: its groups are nested more than {MOST_DEPTH} deep ({where[:80]}...)")
        for name in group:
            self._count += 1
            if self._count > MOST_OBJECTS:
                raise CellgaugeError(f"{self._path}: it holds more than {MOST_OBJECTS:,} objects")
            place = f"{where}/{name.decode('utf-8', 'replace')}".removeprefix("/")
            item = self.opened(group, name, place)
            if isinstance(item, h5py.h5g.GroupID):
                self.group(item, place, depth + 1)

    def opened(self, group: h5py.h5g.GroupID, name: bytes, where: str) -> Any:
        """Return the object behind a link, checked where it is a data set; None where a link leads nowhere."""
        kind = group.links.get_info(name).type
        if kind not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT):
            raise self._refused(where, "is a link into another file")
        try:
            item = h5py.h5o.open(group, name)
        except KeyError:
            if kind == h5py.h5l.TYPE_SOFT:
                return None
            raise
        if isinstance(item, h5py.h5d.DatasetID):
            self._check(item, where)
            if h5py.h5a.exists(item, b"categories"):  # of anndata 0.7: a reference, whose object may have no name
                reference = h5py.Dataset(item).attrs["categories"]
                if isinstance(reference, h5py.Reference) and reference:
                    target = h5py.h5r.dereference(reference, item)
                    if isinstance(target, h5py.h5d.DatasetID):
                        self._check(target, f"{where}'s categories")
        return item

    def _check(self, item: h5py.h5d.DatasetID, where: str) -> None:
        plan = item.get_create_plist()
        layout = plan.get_layout()
        if layout == h5py.h5d.VIRTUAL:
            raise self._refused(where, "is a virtual data set, which is read from other files")
        if plan.get_external_count():
            raise self._refused(where, "is stored in another file")
        filters = [plan.get_filter(place)[0] for place in range(plan.get_nfilters())]
        if unknown := set(filters) - {GZIP, SHUFFLE, FLETCHER32, LZF}:
            raise self._refused(where, f"is packed with another filter than gzip and lzf (number {min(unknown)})")
        packed = [each for each in filters if each in (GZIP, LZF)]
        if len(packed) > 1 or (packed and SHUFFLE in filters[filters.index(packed[0]) :]):
            raise self._refused(where, "is packed more than once")
        width = item.get_type().get_size()
        n_bytes = prod(item.shape or ()) * width
        chunk = prod(plan.get_chunk()) * width if layout == h5py.h5d.CHUNKED else 0
        promised = max(n_bytes, chunk)
        if promised > max(FREE, self._size) and promised > max(FREE, RATIO * (stored := item.get_storage_size())):
            fault = f"promises {promised:,} bytes (shape {item.shape}), but {stored:,} are stored"
            raise self._refused(where, fault)
        if GZIP in filters and item.get_storage_size() > LARGE_CHUNK:
            self._check_chunks(item, where, chunk + 4)  # 4: of a checksum that was packed too

    def _check_chunks(self, item: h5py.h5d.DatasetID, where: str, most: int) -> None:
        """Refuse a chunk that inflates to more than it may: HDF5 would give it as much memory as it asks for."""
        large: list[Any] = []
        item.chunk_iter(lambda chunk: large.append(chunk.chunk_offset) if chunk.size > LARGE_CHUNK else None)
        for offset in large:
            _, content = item.read_direct_chunk(offset)
            if len(content) > most + (most >> 8) + 64:
                raise self._refused(where, "holds a chunk that is larger than its size")
            try:
                inflated = zlib.decompressobj().decompress(content, most + 1)
            except zlib.error:
                continue  # whoever reads it is told
            if len(inflated) > most:
                raise self._refused(where, "holds a chunk that inflates to more than its size")

    def _refused(self, where: str, why: str) -> CellgaugeError:
        remedy = "if you trust it, read it and write it again with anndata's write_h5ad (compression gzip, or none)"
        return CellgaugeError(f"{self._path}: refused, '{one_line(where)}' {why}; {remedy}")

"""Whether a file is what its name says: read before its sum is believed. Nothing of it is executed."""

import gzip
import json
import pickletools
import zipfile
from pathlib import Path

from cellgauge.core.errors import FetchError, one_line
from cellgauge.fetch.members import most_inside

TORCH = (".pt", ".torch", ".ckpt", ".pth")
TEXT = (".csv", ".tsv", ".txt", ".yaml", ".yml", ".gtf", ".fa", ".fasta")
TORCH_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""How torch.save began before it wrote zip files: a pickle of 0x1950a86a20f9469cfc6c."""


def check(url: str, path: Path, name: str, *, framed: bool) -> bool:
    """Return whether the format that the suffix of `name` stands for shows that the file at `path` is whole.

    Raise FetchError where it is of another format or damaged, and where neither the format nor the protocol (`framed`)
    would show an early end.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(b"<"):  # nothing of what is fetched here begins so
        page = "an HTML page" if b"<html" in start or b"<!doctype html" in start else "a page of markup"
        reason = f"the server sent {page} ({size} bytes), not {name}: is a login or a proxy in between?"
        raise FetchError(f"{url}: {reason} The download was removed; run again")
    try:
        whole = _read(path, size, name.lower())
    except Exception as error:  # whatever a library says of a damaged file
        fault = f"is of another format, damaged or cut short ({one_line(error) or type(error).__name__})"
        reason = f"what came as {name} ({size} bytes) {fault}; it was removed, run again"
        raise FetchError(f"{url}: {reason}") from None
    if not (framed or whole):
        reason = f"the server did not give the length of {name}, so nothing shows that it is complete"
        remedy = "give its sha256 (an entry in resources/checksums.yaml), or download it by hand and give its path"
        raise FetchError(f"{url}: {reason}; {remedy}")
    return whole


def _read(path: Path, size: int, name: str) -> bool:
    """Read a file by its name and return whether what passes must be whole; raise what comes where it is damaged."""
    with path.open("rb") as file:
        if name.endswith((".h5ad", ".h5", ".hdf5")):
            from cellgauge.files.hdf5 import open_hdf5

            with open_hdf5(path, whole=False):  # refuses a file that ends before the address in its superblock
                pass
        elif name.endswith(TORCH) and file.read(len(TORCH_MAGIC)) == TORCH_MAGIC:
            return False
        elif name.endswith((".zip", ".npz", ".whl", *TORCH)):
            with zipfile.ZipFile(path) as archive:
                promised = sum(info.file_size for info in archive.infolist())
                _require(promised <= most_inside(path), "its members claim to be larger than it can hold")
                _require(archive.testzip() is None, "a member is damaged")
        elif name.endswith((".pkl", ".pickle")):
            for _ in pickletools.genops(file):  # reads the instructions up to the last one, and follows none
                pass
            _require(not file.read(1), "it continues after its end")
        elif name.endswith(".npy"):
            import numpy as np

            np.load(path, mmap_mode="r", allow_pickle=False)
        elif name.endswith(".parquet"):
            start, _ = file.read(4), file.seek(max(size - 8, 0))
            length, end = int.from_bytes(file.read(4), "little"), file.read()
            _require(start == end == b"PAR1" and length <= size - 12, "it does not begin and end as parquet does")
        elif name.endswith(".safetensors"):
            import safetensors

            with safetensors.safe_open(path, "np"):  # refuses a header that speaks of another number of bytes
                pass
        elif name.endswith(".json"):
            return isinstance(json.load(file), (dict, list))
        else:  # text may be cut between two lines, and gzip between two members
            packed = name.endswith((".gz", ".tgz"))
            _require(size > 0 or not (packed or name.endswith(TEXT)), "it is empty")
            with gzip.open(file) if packed else file as content:
                while block := content.read(1 << 20):
                    _require(not name.endswith(TEXT) or b"\0" not in block, "it is not text")
            return False
    return True


def _require(fine: bool, fault: str) -> None:
    if not fine:
        raise ValueError(fault)

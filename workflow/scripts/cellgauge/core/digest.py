"""The digest of a file."""

import hashlib
from pathlib import Path


def digest_of(path: Path, kind: str = "sha256") -> str:
    """Return the hexadecimal digest of a file by an algorithm of hashlib."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()

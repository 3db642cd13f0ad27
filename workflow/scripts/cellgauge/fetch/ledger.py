"""Ledgers of checksums: YAML files of `URL: {size, sha256, kind}`, checked when known and recorded when new."""

import os
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cellgauge.core.atomic import atomic_path
from cellgauge.core.errors import FetchError, one_line
from cellgauge.core.yaml_files import read_yaml

SHIPPED = Path(__file__).parents[4] / "config" / "checksums.yaml"
"""What is known of objects of the catalogue: only read, and goes before the ledger of a run."""
MIRRORS = {"s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), "hf": ("HF_ENDPOINT",)}
"""The variables of the environment that name another server than the scheme's own."""
SHA256 = r"[0-9a-fA-F]{64}"
HEADER = "# What this run fetched: checked when known, recorded when new; see config/README.md.\n"


@dataclass(frozen=True)
class Entry:
    """What is known of one object; None is unknown. `kind` is that of a package's archive: wheel or sdist. `checked_by` says
    what showed that it was whole: a checksum of its source, its format, or nothing but the length that the server named.
    """

    size: int | None = None
    sha256: str | None = None
    kind: str | None = None
    checked_by: str | None = None
    source: Path | None = field(default=None, compare=False)


def read(path: Path) -> dict[str, Entry]:
    """Return every entry of a ledger by URL; an absent file has none. Raise FetchError where it is no ledger."""
    import yaml

    try:
        document = read_yaml(path) or {}
        if not isinstance(document, dict):
            raise ValueError("not a mapping of URLs")
        return {str(url): _entry(url, fields, path) for url, fields in document.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise FetchError(f"{path}: not a ledger of checksums ({one_line(error)}); correct or restore it") from None


def record(path: Path, url: str, new: Entry, *, anew: bool = False) -> None:
    """Write down an object that is new, or is to be written `anew`; safe between processes."""
    import yaml
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        entries = read(path)
        old = entries.get(url, Entry())
        if old.sha256 and not anew:
            return
        entries[url] = replace(new, kind=old.kind)
        rows = {url: {k: v for k, v in asdict(entries[url]).items() if v and k != "source"} for url in sorted(entries)}
        text = HEADER + yaml.safe_dump(rows, sort_keys=False, width=float("inf"), allow_unicode=True)
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def identity(url: str) -> str:
    """Return the name of an object in a run's ledger: a mirror's sum never becomes that of the true object."""
    variables = MIRRORS.get(url.partition("://")[0], ())
    mirror = next((os.environ[name] for name in variables if os.environ.get(name)), "")
    return f"{url} from {mirror}" if mirror else url


def _entry(url: object, fields: Any, path: Path) -> Entry:
    # A misspelt field must not pass: the object would be taken unchecked.
    if isinstance(fields, dict) and fields.keys() <= {"size", "sha256", "kind", "checked_by"}:
        size, sha256, kind, by = (fields.get(name) for name in ("size", "sha256", "kind", "checked_by"))
        fine = kind in (None, "wheel", "sdist") and by in (None, "checksum", "format", "length")
        fine &= size is None or (type(size) is int and size >= 0)
        if fine and (sha256 is None or re.fullmatch(SHA256, str(sha256))):
            return Entry(size, sha256 and sha256.lower(), kind, by, path)
    raise ValueError(f"{url}: {fields!r} is not size: bytes, sha256: 64 hexadecimal digits, kind: wheel or sdist")

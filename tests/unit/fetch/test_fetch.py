"""The download layer without a network: formats, ledgers, archives, and what a transfer leaves."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cellgauge.core.atomic import workplace
from cellgauge.core.errors import refusal
from cellgauge.fetch import BRING, FetchError, fetch, formats, ledger, members, transfer
from cellgauge.fetch.transfer import Transfer, TransientError

SCRIPTS = Path(__file__).parents[3] / "workflow" / "scripts"
DATA = bytes(range(256)) * 40  # 10,240 bytes
SHA = hashlib.sha256(DATA).hexdigest()
ENV = {**os.environ, "PYTHONPATH": str(SCRIPTS)}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def one_sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- formats -------------------------------------------------------------------------------------------------------


def hdf5() -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        opened["X"] = np.arange(500.0)
    return file.getvalue()


def zipped(name="x.csv") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, DATA)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo("a/x")
        info.size = len(DATA)
        archive.addfile(info, io.BytesIO(DATA))
    return file.getvalue()


def parquet() -> bytes:
    file = io.BytesIO()
    pd.DataFrame({"a": range(100)}).to_parquet(file)
    return file.getvalue()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(100.0))
    return file.getvalue()


WHOLE = {
    "x.h5ad": hdf5(),
    "x.h5": hdf5(),
    "x.zip": zipped(),
    "x.npz": zipped("x.npy"),
    "x.pt": zipped("archive/data.pkl"),
    "x.torch": zipped("archive/data.pkl"),
    "x.pkl": pickle.dumps({f"gene{i}": i for i in range(200)}),
    "x.npy": npy(),
    "x.parquet": parquet(),
    "x.safetensors": safetensors.numpy.save({"a": np.arange(100.0), "b": np.ones(3)}),
    "x.json": json.dumps({f"gene{i}": i for i in range(200)}).encode(),
}
"""Files whose format shows whether they are whole."""
PACKED = {"x.tar.gz": tarred(), "x.fa.gz": gzip.compress(b">gene\nACGT\n" * 500)}
"""Files whose format shows a cut, unless it is between two members."""
TEXT = {"x.csv": b"gene,human\n" * 100, "x.tsv": b"a\tb\n", "x.yaml": b"a: 1\n", "x.fa": b">a\nAC\n"}
PAGES = [b"<html>login please</html>", b"\xef\xbb\xbf \n<!DOCTYPE html><p>busy", b"<?xml version='1.0'?><Error/>"]
LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)  # how old files of torch.save begin


def check(path: Path, name: str, content: bytes, *, framed=True) -> bool:
    path.write_bytes(content)
    return formats.check("https://h/x", path, name, framed=framed)


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_of_a_format_that_shows_it_needs_no_length(tmp_path, name):
    assert check(tmp_path / "file", name, WHOLE[name], framed=False)


@pytest.mark.parametrize("name", [*TEXT, *PACKED, "x.pt", "x.bin"])
def test_what_does_not_show_that_it_is_whole_needs_a_length(tmp_path, name):
    content = (TEXT | PACKED).get(name, LEGACY + DATA)
    assert not check(tmp_path / "file", name, content)
    with pytest.raises(FetchError, match=f"did not give the length of {name}") as error:
        check(tmp_path / "file", name, content, framed=False)
    assert "give its sha256" in one_sentence(error) and "download it by hand" in one_sentence(error)


@given(st.sampled_from(sorted(WHOLE | PACKED)), st.booleans(), st.data())
def test_no_cut_of_a_file_is_believed(tmp_path_factory, name, framed, data):
    whole = (WHOLE | PACKED)[name]
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(FetchError):
        check(tmp_path_factory.mktemp("cut") / "file", name, whole[:cut], framed=framed)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", [*WHOLE, *PACKED, *TEXT, "x.bin"])
def test_a_page_is_no_object(tmp_path, name, page):
    with pytest.raises(FetchError) as error:
        check(tmp_path / "file", name, page)
    assert f"page ({len(page)} bytes), not {name}" in one_sentence(error).replace("page of markup", "page")
    assert "is a login or a proxy in between?" in one_sentence(error)


@pytest.mark.parametrize("name", [*WHOLE, *PACKED, "x.csv"])
def test_noise_and_nothing_are_no_object(tmp_path, name):
    for content in (hashlib.shake_256(b"noise").digest(5000), b"", b"\0" * 5000):
        with pytest.raises(FetchError, match="of another format, damaged or cut short"):
            check(tmp_path / "file", name, content)


def test_a_flipped_bit_in_an_archive_is_noticed(tmp_path):
    for name in ("x.zip", "x.pt", "x.tar.gz"):
        content = bytearray((WHOLE | PACKED)[name])
        content[len(content) // 2] ^= 1
        with pytest.raises(FetchError):
            check(tmp_path / "file", name, bytes(content))


def test_no_pickle_is_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    check(tmp_path / "file", "x.pkl", pickle.dumps(Payload()))
    check(tmp_path / "file", "x.pt", LEGACY + pickle.dumps(Payload()))
    with pytest.raises(FetchError):
        check(tmp_path / "file", "x.npy", npy_of_objects(Payload()))
    assert not (tmp_path / "ran").exists()


def npy_of_objects(thing: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([thing], dtype=object), allow_pickle=True)
    return file.getvalue()


# --- transfer ------------------------------------------------------------------------------------------------------


@pytest.fixture
def bring(tmp_path, monkeypatch):
    """Run a transfer by a function of ours into tmp_path/x.part/x."""
    monkeypatch.setattr(transfer, "PAUSES", (0.0, 0.0))
    (tmp_path / "place").mkdir()

    def run(work, **attributes):
        moving = Transfer("https://h/x", tmp_path / "place" / "x", **attributes)
        moving.run(lambda: work(moving), watched=True)

    return run


def test_what_breaks_off_is_tried_again_and_then_given_up(bring, capsys):
    tries = []

    def work(moving):
        tries.append(moving)
        raise TransientError(f"{moving.url}: the connection broke")

    with pytest.raises(TransientError, match="the connection broke"):
        bring(work)
    assert len(tries) == 3 and capsys.readouterr().err.count("again from the beginning") == 2


def test_what_fails_for_good_is_not_tried_again(bring):
    tries = []

    def work(moving):
        tries.append(moving)
        raise FetchError("no such object")

    with pytest.raises(FetchError, match="no such object"):
        bring(work)
    assert len(tries) == 1


def dripping(pieces: int, size: int):
    def work(moving):
        for _ in range(pieces):
            with moving.path.open("ab") as file:
                file.write(bytes(size))
            time.sleep(0.02)

    return work


def test_a_transfer_says_how_far_it_is(bring, monkeypatch, capsys):
    monkeypatch.setattr(transfer, "INTERVAL", 0.05)
    bring(dripping(20, 100_000), size=2_000_000)
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(line.startswith("x: ") and " of 2.0 (" in line and "%) MB in " in line for line in lines)


def test_a_drip_is_given_up_and_a_stream_is_not(bring, monkeypatch):
    monkeypatch.setattr(transfer, "INTERVAL", 0.02)
    monkeypatch.setattr(transfer, "WINDOW", 0.2)
    monkeypatch.setattr(transfer, "FLOOR", 1000)
    with pytest.raises(FetchError, match="less than 1000 bytes came"):
        bring(dripping(500, 1))
    bring(dripping(40, 1000))


def test_a_place_is_for_one_process_and_what_killed_ones_left_is_removed(tmp_path):
    output = tmp_path / "folder" / "x[1].h5ad"
    code = (
        "import sys, time; from pathlib import Path; from cellgauge.core.atomic import workplace\n"
        "with workplace(Path(sys.argv[1])) as place:\n"
        "    Path(place, 'x').write_text('1'); print(place, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, output], env=ENV, stdout=subprocess.PIPE, text=True)
    other = Path(process.stdout.readline().strip())
    with workplace(output) as place:
        assert place != other and (other / "x").exists()
    assert other.exists() and not place.exists()
    process.kill()
    process.wait()
    with workplace(output):
        assert not other.exists()
    assert list(output.parent.iterdir()) == []


# --- ledger --------------------------------------------------------------------------------------------------------


def test_what_is_recorded_is_read_again_in_order_and_the_kind_stays(tmp_path):
    path = tmp_path / "resources" / "sums.yaml"
    urls = ["s3://bucket/b", "s3://bucket/" + "long/" * 60 + "x.h5ad", "https://host/a?b=1#c: d&e"]
    for url in urls:
        ledger.record(path, url, ledger.Entry(5, SHA))
    assert {url: (entry.size, entry.sha256) for url, entry in ledger.read(path).items()} == dict.fromkeys(
        urls, (5, SHA)
    )
    assert list(ledger.read(path)) == sorted(urls)
    path.write_text("pypi://a==1: {kind: sdist}\n")
    ledger.record(path, "pypi://a==1", ledger.Entry(7, SHA))
    assert ledger.read(path)["pypi://a==1"] == ledger.Entry(7, SHA, "sdist")


def test_what_is_written_stays_unless_it_is_accepted_anew(tmp_path):
    path = tmp_path / "sums.yaml"
    ledger.record(path, "s3://b/k", ledger.Entry(5, SHA))
    ledger.record(path, "s3://b/k", ledger.Entry(6, "0" * 64))
    assert ledger.read(path)["s3://b/k"] == ledger.Entry(5, SHA)
    ledger.record(path, "s3://b/k", ledger.Entry(6, "0" * 64), anew=True)
    assert ledger.read(path)["s3://b/k"] == ledger.Entry(6, "0" * 64)


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "<<<<<<< HEAD\ns3://b/k: {size: 1}\n=======\n",
        "- s3://b/k",
        "s3://b/k: 12",
        "s3://b/k: {size: many}",
        "s3://b/k: {size: -1}",
        "s3://b/k: {size: true}",
        "s3://b/k: {sha256: abc}",
        "s3://b/k: {sha265: abc}",
        "pypi://a==1: {kind: egg}",
        "s3://b/k: {checked_by: faith}",
        "\udcff\udcfe",
    ],
)
def test_a_corrupt_ledger_is_one_sentence_and_is_not_overwritten(tmp_path, text):
    path = tmp_path / "sums.yaml"
    path.write_text(text, errors="surrogateescape")
    before = path.read_bytes()
    for act in (
        lambda: fetch("https://127.0.0.1/x", tmp_path / "x", ledger=path),
        lambda: ledger.record(path, "s3://b/new", ledger.Entry(1, SHA)),
    ):
        with pytest.raises(FetchError, match=r"sums\.yaml: not a ledger of checksums") as error:
            act()
        one_sentence(error)
    assert path.read_bytes() == before
    assert not (tmp_path / "x").exists()


def test_processes_that_record_at_the_same_time_lose_nothing(tmp_path):
    path, writers, each = tmp_path / "sums.yaml", 4, 12
    code = (
        "import sys, time; from pathlib import Path; from cellgauge.fetch import ledger\n"
        f"E = ledger.Entry(1, '{SHA}')\n"
        "while time.time() < float(sys.argv[3]): pass\n"
        f"for i in range({each}): ledger.record(Path(sys.argv[1]), f's3://b/{{sys.argv[2]}}-{{i}}', E)"
    )
    begin = str(time.time() + 1.5)
    processes = [
        subprocess.Popen([sys.executable, "-c", code, path, str(writer), begin], env=ENV) for writer in range(writers)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0] * writers
    assert set(ledger.read(path)) == {f"s3://b/{writer}-{i}" for writer in range(writers) for i in range(each)}


@pytest.fixture
def served(monkeypatch):
    """Let every https URL be DATA."""
    monkeypatch.setitem(BRING, "https", lambda moving, expected: moving.path.write_bytes(DATA))


def test_the_argument_goes_before_the_shipped_ledger_and_that_before_the_runs(served, tmp_path, monkeypatch):
    url, wrong = "https://h/x.bin", "0" * 64
    own, shipped = tmp_path / "own.yaml", tmp_path / "shipped.yaml"
    monkeypatch.setattr(sys.modules["cellgauge.fetch"], "SHIPPED", shipped)

    def write(path, sha256):
        path.write_text(yaml.safe_dump({url: {"sha256": sha256}}))

    write(own, wrong), write(shipped, SHA)
    assert fetch(url, tmp_path / "x", ledger=own) == SHA
    write(own, SHA), write(shipped, wrong)
    with pytest.raises(FetchError, match=r"shipped\.yaml says 0000") as error:
        fetch(url, tmp_path / "y", ledger=own)
    assert "--accept" not in one_sentence(error)
    assert fetch(url, tmp_path / "z", sha256=SHA.upper(), ledger=own) == SHA
    with pytest.raises(FetchError, match="the argument says 0000"):
        fetch(url, tmp_path / "y", sha256=wrong, ledger=own)
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize(
    ("variable", "url"),
    [("AWS_ENDPOINT_URL", "s3://b/k"), ("AWS_ENDPOINT_URL_S3", "s3://b/k!m"), ("HF_ENDPOINT", "hf://o/r@1/x")],
)
def test_a_mirror_has_entries_of_its_own(monkeypatch, variable, url):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert ledger.identity(url) == url
    monkeypatch.setenv(variable, "http://mirror")
    assert ledger.identity(url) == f"{url} from http://mirror"
    assert ledger.identity("https://h/x") == "https://h/x"


# --- where an object lies ------------------------------------------------------------------------------------------


def test_an_output_with_the_known_sum_is_kept_and_another_survives_a_failure(served, tmp_path):
    (tmp_path / "x").write_bytes(DATA)
    before = (tmp_path / "x").stat()
    assert fetch("https://h/x", tmp_path / "x", sha256=SHA) == SHA
    with pytest.raises(FetchError, match="the sha256 is"):
        fetch("https://h/x", tmp_path / "x", sha256="0" * 64)
    assert (tmp_path / "x").stat().st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_is_one_sentence_and_nothing_is_left(tmp_path, monkeypatch, code):
    def full(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setitem(BRING, "https", full)
    with pytest.raises(OSError) as error:
        fetch("https://h/x", tmp_path / "x")
    assert f"{os.strerror(code)}; make room there" in refusal(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_one_sentence(served, tmp_path):
    (tmp_path / "file").write_bytes(DATA)
    (tmp_path / "folder").mkdir()
    for output in (tmp_path / "file" / "x", tmp_path / "folder"):
        with pytest.raises(OSError) as error:
            fetch("https://h/x", output, sha256=SHA)
        assert "that is in the place of a f" in refusal(error.value)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("a/file.h5ad", "only URLs of s3, https"),
        ("file:///etc/passwd", "only URLs of s3, https"),
        ("ftp://host/x", "only URLs of s3, https"),
        ("s3://bucket", "S3 does not send it"),
        ("s3:///key", "S3 does not send it"),
        ("hf://owner/repo/x", "write hf://owner/repo@revision/file"),
        ("hf://owner/repo@main/", "write hf://owner/repo@revision/file"),
        ("hf://repo@main/x", "write hf://owner/repo@revision/file"),
        ("hf://owner/repo@/x", "write hf://owner/repo@revision/file"),
        ("https://", "use that"),
        ("https://[::1/x", "Failed to parse"),
        ("http://example.org/x", "use that"),
        ("http://127.0.0.1.example.org/x", "use that"),
        ("http://169.254.169.254/x", "use that"),
        ("https://me:secret@host/x", "user name"),
        ("pypi://came/x", "pypi://name==version/path"),
        ("pypi://came==1", "sha256 of the archive is not known"),
        ("pypi://came==1 --pre/x", "pypi://name==version/path"),
        ("pypi://came==1\n-r x/x", "pypi://name==version/path"),
        ("pypi://came==1/../x", "plain name"),
        ("pypi://came==1//etc/passwd", "plain name"),
        ("pypi://came==1/x.zip!../y", "plain name"),
        ("pypi://came==1/x.zip!/y", "plain name"),
        ("pypi://came==1/x.zip!", "plain name"),
        ("pypi://came==1/a\\b", "plain name"),
        ("s3://bucket/x.zip!a/../../y", "plain name"),
        ("pypi://came==1/x", "add to resources/checksums.yaml 'pypi://came==1: {kind: wheel, sha256: ...}'"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence_that_names_it(tmp_path, url, found):
    with pytest.raises(FetchError) as error:
        fetch(url, tmp_path / "x", archives=tmp_path / "archives")
    text = str(error.value)
    assert found in text
    assert "secret" not in text
    assert not [path for path in tmp_path.iterdir() if path.name != "archives"]


# --- archives ------------------------------------------------------------------------------------------------------


def make_zip(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, content: dict[str, bytes | tarfile.TarInfo], mode="w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in content.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(data, bytes):
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            else:
                archive.addfile(info)
    return path


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def unpack(url: str, output: Path) -> bytes:
    archive, inside = members.split(url)
    with workplace(output) as folder:
        members.extract(url, Path(archive), inside, folder / "object")
        return (folder / "object").read_bytes()


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w"])
def test_members_of_tars_are_read_by_exact_name(tmp_path, mode):
    make_tar(tmp_path / "a.tar", {"a/first": b"1", "./a/x.bin": DATA, "x.bin": b"2"}, mode)
    assert unpack(f"{tmp_path}/a.tar!a/x.bin", tmp_path / "x") == DATA
    assert unpack(f"{tmp_path}/a.tar!x.bin", tmp_path / "x") == b"2"


def test_members_of_zips_may_be_archives_themselves(tmp_path):
    inner = make_tar(tmp_path / "inner.tgz", {"deep/x.bin": DATA}).read_bytes()
    middle = make_zip(tmp_path / "middle.zip", {"inner.tgz": inner}).read_bytes()
    make_zip(tmp_path / "a.zip", {"m.zip": middle})
    assert unpack(f"{tmp_path}/a.zip!m.zip!inner.tgz!deep/x.bin", tmp_path / "x") == DATA
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "inner.tgz", "middle.zip"]


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path):
    inner = make_zip(tmp_path / "inner.zip", {"x": b"inside"}).read_bytes()
    make_tar(tmp_path / "a.tar", {"x": DATA, "z.zip": inner}, "w")
    assert unpack(f"{tmp_path}/a.tar!x", tmp_path / "out") == DATA


def test_links_folders_and_devices_are_refused(tmp_path):
    make_tar(
        tmp_path / "a.tar.gz",
        {
            "symbolic": link("symbolic", tarfile.SYMTYPE, "/etc/passwd"),
            "hard": link("hard", tarfile.LNKTYPE, "x.bin"),
            "folder": link("folder", tarfile.DIRTYPE, ""),
            "pipe": link("pipe", tarfile.FIFOTYPE, ""),
            "device": link("device", tarfile.CHRTYPE, ""),
        },
    )
    symbolic = zipfile.ZipInfo("symbolic")
    symbolic.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(symbolic, "secret")
    odd = [f"a.tar.gz!{name}" for name in ("symbolic", "hard", "folder", "pipe", "device")]
    for member in (*odd, "a.zip!symbolic"):
        with pytest.raises(FetchError, match="is not a plain file, and links are not followed"):
            unpack(f"{tmp_path}/{member}", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "a.zip"]


def test_names_that_leave_the_archive_are_refused_though_it_holds_them(tmp_path):
    make_tar(tmp_path / "a.tgz", {"../up": DATA, "/root": DATA, "a/../b": DATA})
    make_zip(tmp_path / "a.zip", {"../up": DATA, "/root": DATA, "a/../b": DATA})
    for archive in ("a.tgz", "a.zip"):
        for name in ("../up", "/root", "a/../b"):
            with pytest.raises(FetchError, match="plain name"):
                unpack(f"{tmp_path}/{archive}!{name}", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tgz", "a.zip"]


@pytest.mark.parametrize("name", ["a.zip", "a.tgz"])
def test_a_missing_member_is_one_sentence_with_the_nearest_name(tmp_path, name):
    make = make_zip if name == "a.zip" else make_tar
    make(tmp_path / name, {"data/human.h5ad": DATA})
    with pytest.raises(FetchError, match=r"no member data/humn\.h5ad, did you mean 'data/human\.h5ad'\?"):
        unpack(f"{tmp_path}/{name}!data/humn.h5ad", tmp_path / "out")


def test_damaged_archives_are_one_sentence(tmp_path):
    noise = hashlib.shake_256(b"noise").digest(50_000)
    good_zip = bytearray(make_zip(tmp_path / "g.zip", {"x": noise}).read_bytes())
    good_tar = make_tar(tmp_path / "g.tgz", {"x": noise}).read_bytes()
    (tmp_path / "text").write_bytes(b"no archive at all" * 100)
    (tmp_path / "short.tgz").write_bytes(good_tar[: len(good_tar) // 2])
    (tmp_path / "short.zip").write_bytes(good_zip[: len(good_zip) // 2])
    good_zip[2000] ^= 1
    (tmp_path / "flipped.zip").write_bytes(good_zip)
    encrypted = bytearray(make_zip(tmp_path / "e.zip", {"x": DATA}).read_bytes())
    encrypted[6] |= 1  # the flag "encrypted", in the member's header and in the directory
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "encrypted.zip").write_bytes(encrypted)
    for name in ("text", "short.tgz", "short.zip", "flipped.zip", "encrypted.zip"):
        with pytest.raises(FetchError, match="the archive cannot be read") as error:
            unpack(f"{tmp_path}/{name}!x", tmp_path / "out")
        one_sentence(error)


def test_importing_costs_no_heavy_library():
    heavy = "boto3 botocore requests urllib3 huggingface_hub filelock yaml numpy pandas h5py"
    code = f"import sys, cellgauge.fetch; print([m for m in {heavy.split()} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True).stdout == "[]\n"

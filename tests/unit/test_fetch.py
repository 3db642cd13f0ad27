"""The download layer without a network: the ledger, archives, and the transfer over sources made up here."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cellgauge.fetch import Fetched, FetchError, Ledger, fetch, progress, transfer
from cellgauge.fetch.locks import locked
from cellgauge.fetch.pypi import _pip_error
from cellgauge.fetch.streams import Stream, TransientError
from cellgauge.fetch.transfer import Expected, open_part

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
DATA = bytes(range(256)) * 40  # 10,240 bytes
SHA = hashlib.sha256(DATA).hexdigest()
ANYTHING = Expected()


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    monkeypatch.setattr(transfer, "FIRST_WAIT", 0.0)


def one_sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


class Source:
    """An object that breaks off after `cuts[i]` bytes of the i-th opening, and remembers what it was asked for."""

    def __init__(self, data: bytes = DATA, cuts=(), *, resumable=True, tells_size=True, tag="v1", chunk=1000):
        self.data, self.cuts, self.tag, self.chunk = data, list(cuts), tag, chunk
        self.resumable, self.tells_size = resumable, tells_size
        self.asked, self.served = [], 0

    @contextmanager
    def open(self, offset, validator):
        self.asked.append((offset, validator))
        start = offset if self.resumable and validator == self.tag else 0
        size = len(self.data) if self.tells_size else None
        yield Stream(start, size, self.tag if self.resumable else None, self._chunks(start))

    def _chunks(self, start):
        end = start + self.cuts.pop(0) if self.cuts else len(self.data)
        for at in range(start, min(end, len(self.data)), self.chunk):
            piece = self.data[at : min(at + self.chunk, end)]
            self.served += len(piece)
            yield piece
        if end < len(self.data):
            raise TransientError("the connection broke (a test)")


def bring(source: Source, output: Path, url="test://object", expected=ANYTHING) -> Fetched:
    with open_part(url, output) as part:
        fetched = transfer.download(part, source.open, expected)
        part.publish()
    return fetched


def leftovers(output: Path) -> list[str]:
    return sorted(path.name for path in output.parent.iterdir() if path != output)


# --- transfer ------------------------------------------------------------------------------------------------------


def test_a_whole_object_gets_its_name_and_leaves_nothing_beside_it(tmp_path):
    output = tmp_path / "new" / "x.bin"
    assert bring(Source(), output) == Fetched(len(DATA), SHA)
    assert output.read_bytes() == DATA
    assert leftovers(output) == []


def test_an_empty_object_is_an_object(tmp_path):
    assert bring(Source(b""), tmp_path / "x").size == 0
    assert (tmp_path / "x").read_bytes() == b""


def test_an_object_of_unknown_size_ends_where_it_ends(tmp_path):
    assert bring(Source(tells_size=False), tmp_path / "x") == Fetched(len(DATA), SHA)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4000), max_size=12), st.integers(1, 5000))
def test_any_cuts_give_the_same_bytes_and_nothing_is_asked_for_twice(tmp_path_factory, cuts, chunk):
    source = Source(cuts=cuts, chunk=chunk)
    output = tmp_path_factory.mktemp("cuts") / "x"
    assert bring(source, output) == Fetched(len(DATA), SHA)
    assert output.read_bytes() == DATA
    assert source.served == len(DATA)
    starts = [offset for offset, _ in source.asked]
    assert starts == sorted(set(starts))
    assert all(validator == "v1" for offset, validator in source.asked if offset)


def test_a_source_that_cannot_resume_begins_again(tmp_path):
    source = Source(cuts=[4000, 7000], resumable=False)
    assert bring(source, tmp_path / "x") == Fetched(len(DATA), SHA)
    assert source.served == 4000 + 7000 + len(DATA)
    assert (tmp_path / "x").read_bytes() == DATA


def test_without_progress_it_gives_up_after_the_bounded_tries_and_keeps_what_it_has(tmp_path):
    source = Source(cuts=[3000] + [0] * 50)
    with pytest.raises(FetchError) as error:
        bring(source, tmp_path / "x")
    assert len(source.asked) == transfer.TRIES
    assert "no progress in 6 tries" in one_sentence(error)
    assert "x.part" in one_sentence(error)
    assert (tmp_path / "x.part").read_bytes() == DATA[:3000]
    assert not (tmp_path / "x").exists()


def test_a_source_that_forever_begins_again_is_given_up_too(tmp_path):
    source = Source(cuts=[5000] * 50, resumable=False)
    with pytest.raises(FetchError, match="no progress"):
        bring(source, tmp_path / "x")
    assert len(source.asked) == transfer.TRIES


@pytest.mark.parametrize("cuts", [[4000], [4000] + [0] * 50])
def test_a_source_that_ends_early_without_a_word_is_asked_for_the_rest(tmp_path, cuts):
    class Silent(Source):
        def _chunks(self, start):
            with suppress(TransientError):
                yield from super()._chunks(start)

    source = Silent(cuts=cuts)
    if len(cuts) == 1:
        assert bring(source, tmp_path / "x") == Fetched(len(DATA), SHA)
        assert source.asked == [(0, None), (4000, "v1")]
    else:
        with pytest.raises(FetchError, match="because the connection ended at 4000 of 10240 bytes"):
            bring(source, tmp_path / "x")


def test_waits_double_and_start_again_after_progress(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(transfer, "FIRST_WAIT", 1.0)
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    bring(Source(cuts=[100, 0, 0, 0, 100]), tmp_path / "x")
    assert waits == [1, 2, 4, 8, 1]


def interrupted(source: Source, output: Path, **more) -> None:
    source.cuts = [6000] + [0] * transfer.TRIES
    with pytest.raises(FetchError):
        bring(source, output, **more)
    source.cuts, source.asked, source.served = [], [], 0


def test_the_next_run_asks_for_the_rest_alone(tmp_path):
    source = Source()
    interrupted(source, tmp_path / "x")
    assert bring(source, tmp_path / "x") == Fetched(len(DATA), SHA)
    assert source.asked == [(6000, "v1")]
    assert source.served == len(DATA) - 6000


def test_a_changed_object_is_fetched_from_its_beginning(tmp_path):
    source = Source()
    interrupted(source, tmp_path / "x")
    source.data, source.tag = DATA[::-1], "v2"
    assert bring(source, tmp_path / "x").sha256 == hashlib.sha256(DATA[::-1]).hexdigest()
    assert source.asked == [(6000, "v1")]
    assert source.served == len(DATA)


def test_the_part_of_another_url_is_not_used(tmp_path):
    source = Source()
    interrupted(source, tmp_path / "x")
    bring(source, tmp_path / "x", url="test://another")
    assert source.asked == [(0, None)]
    assert (tmp_path / "x").read_bytes() == DATA


@pytest.mark.parametrize("note", ["", "{", "[]", "null", '{"url": "test://object"}'])
def test_a_part_with_a_damaged_note_is_not_used(tmp_path, note):
    source = Source()
    interrupted(source, tmp_path / "x")
    (tmp_path / "x.part.json").write_text(note)
    bring(source, tmp_path / "x")
    assert source.asked == [(0, None)]
    assert (tmp_path / "x").read_bytes() == DATA


def test_a_part_that_is_longer_than_the_object_is_not_used(tmp_path):
    source = Source()
    interrupted(source, tmp_path / "x")
    with (tmp_path / "x.part").open("ab") as file:
        file.write(DATA)
    bring(source, tmp_path / "x")
    assert source.asked == [(0, None)]
    assert (tmp_path / "x").read_bytes() == DATA


def test_a_complete_part_is_verified_without_asking_again(tmp_path):
    source = Source()
    interrupted(source, tmp_path / "x")
    (tmp_path / "x.part").write_bytes(DATA)
    assert bring(source, tmp_path / "x", expected=Expected(sha256=SHA)) == Fetched(len(DATA), SHA)
    assert source.asked == []


def test_a_damaged_part_is_caught_by_the_sum_and_removed(tmp_path):
    source = Source()
    interrupted(source, tmp_path / "x")
    (tmp_path / "x.part").write_bytes(b"?" * 6000)
    with pytest.raises(FetchError, match="the sha256 is"):
        bring(source, tmp_path / "x", expected=Expected(sha256=SHA, source="a ledger"))
    assert list(tmp_path.iterdir()) == []
    assert bring(source, tmp_path / "x", expected=Expected(sha256=SHA)).sha256 == SHA


def test_a_wrong_sum_names_both_sums_and_the_remedy_and_leaves_nothing(tmp_path):
    with pytest.raises(FetchError) as error:
        bring(Source(), tmp_path / "x", expected=Expected(sha256="0" * 64, source="sums.yaml"))
    for part in ("test://object", SHA, "0" * 64, "sums.yaml", "run again"):
        assert part in one_sentence(error)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_size_is_refused_before_a_byte_is_fetched(tmp_path):
    source = Source()
    with pytest.raises(FetchError, match=r"the size is 10240, but sums\.yaml says 7"):
        bring(source, tmp_path / "x", expected=Expected(size=7, source="sums.yaml"))
    assert source.served == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [7, 20_000])
def test_a_wrong_size_that_the_source_does_not_tell_is_refused_too(tmp_path, size):
    source = Source(tells_size=False)
    with pytest.raises(FetchError, match="the size is"):
        bring(source, tmp_path / "x", expected=Expected(size=size, source="sums.yaml"))
    assert source.served <= max(size, 1000) and list(tmp_path.iterdir()) == []


def test_an_existing_output_survives_a_failure(tmp_path):
    (tmp_path / "x").write_bytes(b"the old one")
    with pytest.raises(FetchError):
        bring(Source(), tmp_path / "x", expected=Expected(sha256="0" * 64))
    assert (tmp_path / "x").read_bytes() == b"the old one"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_is_one_sentence_and_the_next_run_goes_on(tmp_path, monkeypatch, code):
    write, written = os.write, []

    def full(descriptor, data):
        if sum(written) >= 4000:
            raise OSError(code, os.strerror(code))
        written.append(write(descriptor, data[:700]))  # the system may take less than it is given
        return written[-1]

    source = Source()
    with monkeypatch.context() as patch, pytest.raises(FetchError) as error:
        patch.setattr(os, "write", full)
        bring(source, tmp_path / "x")
    assert "no space is left" in one_sentence(error) and "test://object" in one_sentence(error)
    kept = (tmp_path / "x.part").read_bytes()
    assert kept == DATA[: len(kept)] and len(kept) >= 4000
    source.asked = []
    bring(source, tmp_path / "x")
    assert source.asked == [(len(kept), "v1")]
    assert (tmp_path / "x").read_bytes() == DATA


def test_too_little_room_is_noticed_before_a_byte_is_fetched(tmp_path, monkeypatch):
    # Without the check under test this would fill the disk for real.
    monkeypatch.setattr(transfer.Part, "append", lambda part, chunk: pytest.fail("a byte was written"))
    huge = tmp_path / "huge"
    with huge.open("wb") as file:  # sparse: it takes no room itself
        file.truncate(os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize + (1 << 32))
    with pytest.raises(FetchError) as error:
        fetch(str(huge), tmp_path / "x")
    assert "are needed in" in one_sentence(error) and "make room" in one_sentence(error)
    assert leftovers(huge) == []


def test_an_output_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="cannot write"):
        bring(Source(), tmp_path / "file" / "x")
    with pytest.raises(FetchError, match="it is a folder"):
        bring(Source(), tmp_path)


def test_two_processes_never_write_the_same_part(tmp_path):
    with locked(tmp_path / "x.part"), pytest.raises(FetchError, match="another process is writing"):
        bring(Source(), tmp_path / "x")


def test_a_lock_on_a_file_that_was_replaced_is_taken_again(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import sys; from pathlib import Path; from cellgauge.fetch.locks import locked\n"
        "with locked(Path(sys.argv[1]), notice='waiting') as fd:\n"
        "    import os; print(os.path.samestat(os.fstat(fd), os.stat(sys.argv[1])))"
    )
    with locked(path):
        waiter = subprocess.Popen(
            [sys.executable, "-c", code, path],
            env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert waiter.stderr.readline() == "waiting\n"
        (tmp_path / "new").write_text("")
        (tmp_path / "new").replace(path)
    assert waiter.communicate(timeout=30)[0] == "True\n"


# --- progress ------------------------------------------------------------------------------------------------------


def test_a_long_transfer_says_percent_speed_and_time_left(tmp_path, monkeypatch, capsys):
    clock = [0.0]

    class Slow(Source):
        def _chunks(self, start):
            for piece in super()._chunks(start):
                clock[0] += 2
                yield piece

    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    bring(Slow(bytes(4_000_000), chunk=400_000), tmp_path / "big.h5ad")
    assert capsys.readouterr().err.splitlines() == [
        "big.h5ad: 30% of 4.0 MB, 0.2 MB/s, 14 s left",
        "big.h5ad: 60% of 4.0 MB, 0.2 MB/s, 8 s left",
        "big.h5ad: 90% of 4.0 MB, 0.2 MB/s, 2 s left",
        "big.h5ad: 100% of 4.0 MB, 0.2 MB/s, 0 s left",
    ]


def test_a_short_transfer_says_nothing(tmp_path, capsys):
    bring(Source(), tmp_path / "x")
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_one_line_that_is_rewritten(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(sys, "stderr", terminal)
    bring(Source(cuts=[5000]), tmp_path / "x")
    *states, end = terminal.getvalue().split("\n")
    assert end == "" and len(states) == 2  # one line for the cut, one for the progress
    assert states[0].split("\r\033[K")[-1].startswith("test://object: the connection broke")
    assert states[1].split("\r\033[K")[-1].startswith("x: 100% of 0.0 MB")


# --- ledger --------------------------------------------------------------------------------------------------------


def test_what_is_recorded_is_found_again_in_readable_yaml(tmp_path):
    path = tmp_path / "config" / "sums.yaml"
    long = "s3://bucket/" + "long/" * 60 + "x.h5ad"
    for url in ("s3://bucket/b", long, "https://host/a?b=1#c: d"):
        Ledger(path).record(url, Fetched(len(DATA), SHA))
    text = path.read_text()
    assert text.startswith("# ")
    body = [line for line in text.splitlines() if not line.startswith("#")]
    assert body == [
        "'https://host/a?b=1#c: d':",
        f"  size: {len(DATA)}",
        f"  sha256: {SHA}",
        "s3://bucket/b:",
        f"  size: {len(DATA)}",
        f"  sha256: {SHA}",
        f"{long}:",
        f"  size: {len(DATA)}",
        f"  sha256: {SHA}",
    ]
    assert set(yaml.safe_load(text)) == {"s3://bucket/b", long, "https://host/a?b=1#c: d"}


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), st.integers(0), max_size=4))
def test_any_url_is_found_again(tmp_path_factory, sizes):
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "sums.yaml")
    for url, size in sizes.items():
        ledger.record(url, Fetched(size, SHA))
    assert {url: entry.size for url, entry in ledger.entries().items()} == sizes


def test_the_header_the_kind_and_what_is_known_stay(tmp_path):
    path = tmp_path / "sums.yaml"
    path.write_text(f"# mine\n#  indented\n\npypi://a==1: {{kind: sdist, sha256: {SHA}}}\ns3://b/k: {{size: 5}}")
    path.chmod(0o640)
    ledger = Ledger(path)
    ledger.record("s3://b/new", Fetched(1, SHA))
    ledger.record("s3://b/k", Fetched(6, SHA))
    ledger.record("pypi://a==1", Fetched(7, SHA))
    assert path.read_text().startswith("# mine\n#  indented\n\npypi://a==1:\n")
    assert (ledger.get("pypi://a==1").size, ledger.get("pypi://a==1").kind) == (7, "sdist")
    assert (ledger.get("s3://b/k").size, ledger.get("s3://b/k").sha256) == (5, SHA)
    assert path.stat().st_mode & 0o777 == 0o640
    assert leftovers(path) == []


def test_a_header_alone_without_a_last_line_end_is_kept(tmp_path):
    path = tmp_path / "sums.yaml"
    path.write_text("# mine")
    Ledger(path).record("s3://b/k", Fetched(6, SHA))
    assert path.read_text().startswith("# mine\ns3://b/k:\n")


def test_a_ledger_behind_a_symbolic_link_is_written_where_it_lies(tmp_path):
    (tmp_path / "real.yaml").write_text("")
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    Ledger(tmp_path / "link.yaml").record("s3://b/k", Fetched(6, SHA))
    assert (tmp_path / "link.yaml").is_symlink()
    assert "s3://b/k" in (tmp_path / "real.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: [", "not valid YAML"),
        ("<<<<<<< HEAD\ns3://b/k: {size: 1}\n=======\n", "YAML"),
        ("- s3://b/k", "holds a list"),
        ("s3://b/k: 12", "not a mapping"),
        ("s3://b/k: {size: many}", "'many'"),
        ("s3://b/k: {size: -1}", "-1"),
        ("s3://b/k: {size: true}", "True"),
        ("s3://b/k: {sha256: abc}", "64 hexadecimal digits"),
        ("s3://b/k: {sha265: abc}", "'sha265'"),
        ("pypi://a==1: {kind: egg}", "'egg'"),
    ],
)
def test_a_corrupt_ledger_is_one_sentence_and_is_not_overwritten(tmp_path, text, found):
    path = tmp_path / "sums.yaml"
    path.write_text(text)
    (tmp_path / "source").write_bytes(DATA)
    for act in (
        lambda: fetch(str(tmp_path / "source"), tmp_path / "x", ledger=path),
        lambda: Ledger(path).record("s3://b/new", Fetched(1, SHA)),
    ):
        with pytest.raises(FetchError) as error:
            act()
        assert found in one_sentence(error) and "sums.yaml" in one_sentence(error)
    assert path.read_text() == text
    assert not (tmp_path / "x").exists()


def test_a_ledger_that_is_not_text_is_one_sentence(tmp_path):
    (tmp_path / "sums.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FetchError, match="cannot be read"):
        Ledger(tmp_path / "sums.yaml").entries()


def test_processes_that_record_at_the_same_time_lose_nothing(tmp_path):
    path, writers, each = tmp_path / "sums.yaml", 6, 12
    code = (
        "import sys, time; from cellgauge.fetch import Ledger, Fetched\n"
        "while time.time() < float(sys.argv[3]): pass\n"
        f"for i in range({each}): Ledger(sys.argv[1]).record(f's3://b/{{sys.argv[2]}}-{{i}}', Fetched(i, '{SHA}'))"
    )
    env = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    begin = str(time.time() + 1.5)
    processes = [
        subprocess.Popen([sys.executable, "-c", code, path, str(writer), begin], env=env) for writer in range(writers)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0] * writers
    expected = {f"s3://b/{writer}-{i}": i for writer in range(writers) for i in range(each)}
    assert {url: entry.size for url, entry in Ledger(path).entries().items()} == expected


def test_the_argument_goes_before_known_ledgers_and_those_before_the_ledger(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(DATA)
    url, wrong = str(source), "0" * 64
    own, known = tmp_path / "own.yaml", tmp_path / "known.yaml"

    def write(path, sha256):
        path.write_text(yaml.safe_dump({url: {"sha256": sha256}}))

    write(own, wrong), write(known, SHA)
    assert fetch(url, tmp_path / "x", ledger=own, known=[known]).sha256 == SHA
    write(own, SHA), write(known, wrong)
    with pytest.raises(FetchError, match=r"known\.yaml says 0000"):
        fetch(url, tmp_path / "y", ledger=own, known=[known])
    assert fetch(url, tmp_path / "z", sha256=SHA.upper(), ledger=own, known=[known]).sha256 == SHA
    with pytest.raises(FetchError, match="the argument says 0000"):
        fetch(url, tmp_path / "y", sha256=wrong, ledger=own)
    with pytest.raises(FetchError, match="the argument says 3"):
        fetch(url, tmp_path / "y", size=3)
    assert not (tmp_path / "y").exists()


def test_a_known_ledger_must_exist(tmp_path):
    with pytest.raises(FetchError, match=r"absent\.yaml: there is no such ledger"):
        fetch("https://127.0.0.1/x", tmp_path / "x", known=[tmp_path / "absent.yaml"])


# --- where an object lies ------------------------------------------------------------------------------------------


def test_a_local_file_is_copied_verified_and_not_recorded(tmp_path):
    source, ledger = tmp_path / "a b.bin", tmp_path / "sums.yaml"
    source.write_bytes(DATA)
    for number, url in enumerate((str(source), source.as_uri())):
        output = tmp_path / f"out{number}"
        assert fetch(url, output, ledger=ledger, sha256=SHA, size=len(DATA)) == Fetched(len(DATA), SHA)
        assert output.read_bytes() == DATA
    assert source.read_bytes() == DATA
    assert not ledger.exists()


def test_an_output_with_the_known_sum_is_kept(tmp_path):
    (tmp_path / "x").write_bytes(DATA)
    before = (tmp_path / "x").stat()
    assert fetch(str(tmp_path / "absent"), tmp_path / "x", sha256=SHA) == Fetched(len(DATA), SHA)
    assert (tmp_path / "x").stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(FetchError, match="no such file"):
        fetch(str(tmp_path / "absent"), tmp_path / "x", sha256="0" * 64)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("absent/file.h5ad", "there is no such file"),
        ("/", "this is a folder"),
        ("file://host/x", "no host"),
        ("ftp://host/x", "ftp:// is not supported"),
        ("gs://bucket/x", "gs:// is not supported"),
        ("s3://bucket", "s3://bucket/key"),
        ("s3://bucket/folder/", "s3://bucket/key"),
        ("hf://owner/repo/x", "write hf://owner/repo@revision/file"),
        ("hf://owner/repo@main/", "write hf://owner/repo@revision/file"),
        ("hf://repo@main/x", "write hf://owner/repo@revision/file"),
        ("hf://owner/repo@/x", "write hf://owner/repo@revision/file"),
        ("https://", "names no host"),
        ("https://[::1/x", "this is not a URL"),
        ("http://example.org/x", "use https"),
        ("http://127.0.0.1.example.org/x", "use https"),
        ("https://me:secret@host/x", "user name"),
        ("pypi://came/x", "pypi://name==version/path"),
        ("pypi://came==1", "pypi://name==version/path"),
        ("pypi://came==1 --pre/x", "pypi://name==version/path"),
        ("pypi://came==1\n-r x/x", "pypi://name==version/path"),
        ("pypi://came==1/../x", "plain name"),
        ("pypi://came==1//etc/passwd", "plain name"),
        ("pypi://came==1/x.zip!../y", "plain name"),
        ("pypi://came==1/x.zip!/y", "plain name"),
        ("pypi://came==1/x.zip!", "plain name"),
        ("pypi://came==1/a\\b", "plain name"),
        ("s3://bucket/x.zip!a/../../y", "plain name"),
        ("pypi://came==1/x", "sha256 of the archive is not known"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence_that_names_it(tmp_path, url, found):
    with pytest.raises(FetchError) as error:
        fetch(url, tmp_path / "x", archives=tmp_path / "archives")
    text = str(error.value)
    assert found in text
    assert "secret" not in text
    assert not (tmp_path / "x").exists() and not (tmp_path / "x.part").exists()


def test_a_package_without_a_sum_is_told_how_to_add_it(tmp_path):
    with pytest.raises(FetchError) as error:
        fetch("pypi://came==0.1.13/x", tmp_path / "x", ledger=tmp_path / "sums.yaml", archives=tmp_path)
    assert "sums.yaml the entry pypi://came==0.1.13: {kind: wheel, sha256: ...}" in one_sentence(error)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("/venv/bin/python: No module named pip\n", "has no pip"),
        ("ERROR: No matching distribution found for a==1\n", "no such wheel, or cannot be reached"),
        ("WARNING: x\nERROR: Could not install packages due to an OSError: [Errno 28] No space\n", "Errno 28"),
        ("", "no reason given"),
    ],
)
def test_what_pip_says_becomes_one_sentence(said, found):
    text = str(_pip_error("a==1", "wheel", said))
    assert found in text and "pypi://a==1" in text and "\n" not in text


# --- archives ------------------------------------------------------------------------------------------------------


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, members: dict[str, bytes | tarfile.TarInfo], mode="w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
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


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w"])
def test_members_of_tars_are_read_by_exact_name(tmp_path, mode):
    make_tar(tmp_path / "a.tar", {"a/first": b"1", "./a/x.bin": DATA, "x.bin": b"2"}, mode)
    assert fetch(f"{tmp_path}/a.tar!a/x.bin", tmp_path / "x").sha256 == SHA
    assert fetch(f"{tmp_path}/a.tar!x.bin", tmp_path / "x").size == 1


def test_members_of_zips_may_be_archives_themselves(tmp_path):
    inner = make_tar(tmp_path / "inner.tgz", {"deep/x.bin": DATA}).read_bytes()
    middle = make_zip(tmp_path / "middle.zip", {"inner.tgz": inner}).read_bytes()
    make_zip(tmp_path / "a.zip", {"m.zip": middle})
    assert fetch(f"{tmp_path}/a.zip!m.zip!inner.tgz!deep/x.bin", tmp_path / "x", sha256=SHA).sha256 == SHA
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "inner.tgz", "middle.zip", "x"]


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path):
    inner = make_zip(tmp_path / "inner.zip", {"x": b"inside"}).read_bytes()
    make_tar(tmp_path / "a.tar", {"x": DATA, "z.zip": inner}, "w")
    assert fetch(f"{tmp_path}/a.tar!x", tmp_path / "out").sha256 == SHA


def test_links_folders_and_devices_are_refused(tmp_path):
    (tmp_path / "secret").write_text("secret")
    make_tar(
        tmp_path / "a.tar.gz",
        {
            "symbolic": link("symbolic", tarfile.SYMTYPE, "/etc/passwd"),
            "hard": link("hard", tarfile.LNKTYPE, "x.bin"),
            "folder": link("folder", tarfile.DIRTYPE, ""),
            "pipe": link("pipe", tarfile.FIFOTYPE, ""),
        },
    )
    symbolic = zipfile.ZipInfo("symbolic")
    symbolic.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(symbolic, "secret")
        archive.mkdir("folder") if hasattr(archive, "mkdir") else archive.writestr("folder/", "")
    for member in ("a.tar.gz!symbolic", "a.tar.gz!hard", "a.tar.gz!folder", "a.tar.gz!pipe", "a.zip!symbolic"):
        with pytest.raises(FetchError, match="is a link or a folder, which is not taken"):
            fetch(f"{tmp_path}/{member}", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.part").exists()


def test_names_that_leave_the_archive_are_refused_though_it_holds_them(tmp_path):
    make_tar(tmp_path / "a.tgz", {"../up": DATA, "/root": DATA, "a/../b": DATA})
    make_zip(tmp_path / "a.zip", {"../up": DATA, "/root": DATA, "a/../b": DATA})
    for archive in ("a.tgz", "a.zip"):
        for name in ("../up", "/root", "a/../b"):
            with pytest.raises(FetchError, match="plain name"):
                fetch(f"{tmp_path}/{archive}!{name}", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tgz", "a.zip"]


@pytest.mark.parametrize("name", ["a.zip", "a.tgz"])
def test_a_missing_member_is_one_sentence_with_the_nearest_name(tmp_path, name):
    make = make_zip if name == "a.zip" else make_tar
    make(tmp_path / name, {"data/human.h5ad": DATA})
    with pytest.raises(FetchError, match=r"no member data/humn\.h5ad; did you mean data/human\.h5ad\?"):
        fetch(f"{tmp_path}/{name}!data/humn.h5ad", tmp_path / "out")


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
        with pytest.raises(FetchError) as error:
            fetch(f"{tmp_path}/{name}!x", tmp_path / "out")
        assert "damaged" in one_sentence(error) or "encrypted" in one_sentence(error), name
    assert not (tmp_path / "out").exists()


def test_importing_costs_no_heavy_library():
    heavy = "boto3 botocore requests urllib3 yaml numpy pandas"
    code = f"import sys, cellgauge.fetch; print([m for m in {heavy.split()} if m in sys.modules])"
    env = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout == "[]\n"


def test_the_note_beside_a_part_says_whose_bytes_these_are(tmp_path):
    interrupted(Source(), tmp_path / "x")
    note = json.loads((tmp_path / "x.part.json").read_text())
    assert note == {"url": "test://object", "validator": "v1", "size": len(DATA)}


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:9"])
def test_a_file_of_the_hub_is_asked_for_at_its_revision(tmp_path, endpoint):
    code = (
        "from cellgauge.fetch import https; https.opener = print\n"
        "from cellgauge.fetch import hub; hub.opener('hf://genbio-ai/AIDO.Cell-3M@v1.0/a b/c.json'.replace(' ', '_'))"
    )
    env = {**os.environ, "PYTHONPATH": str(SCRIPTS)} | ({"HF_ENDPOINT": endpoint} if endpoint else {})
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert said == f"{endpoint or 'https://huggingface.co'}/genbio-ai/AIDO.Cell-3M/resolve/v1.0/a_b/c.json\n"

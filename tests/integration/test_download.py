"""The download layer against real servers on loopback, pip, and killed processes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import shlex
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import Answer, ObjectServer, closed_port, etag, write_certificate

from cellgauge.fetch import FetchError, fetch, ledger, sources, transfer

SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "download_object.py"
DATA = hashlib.shake_256(b"an object").digest(300_000)
SHA = hashlib.sha256(DATA).hexdigest()
OTHER = hashlib.shake_256(b"another object").digest(250_000)
OTHER_SHA = hashlib.sha256(OTHER).hexdigest()
PAGE = b"<html>login please</html>"


def h5ad(seed: int) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        opened["X"] = np.random.default_rng(seed).random(2000)
    return file.getvalue()


H5AD, H5AD_2 = h5ad(1), h5ad(2)
TABLE = b"human,mouse\n" * 3000


@pytest.fixture(autouse=True)
def short_waits(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(transfer, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(sources, "BACKOFF", 0.0)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def one_sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def download(*arguments, cwd: Path, **env) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=120)


def files_of(folder: Path) -> list[str]:
    """Return the files below a folder, without the locks that stay."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(map(str, paths))


@pytest.fixture
def server():
    with ObjectServer() as server:
        server.objects["/x.h5ad"] = H5AD
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def cutter():
    with ObjectServer() as server:
        yield server
        server.shutdown()


# --- whatever a server does, the object is whole or not there -----------------------------------------------------------

OBJECTS = {
    "x.h5ad": (H5AD, H5AD_2),
    "x.csv": (TABLE, TABLE[::-1]),
    "x.fa.gz": (gzip.compress(TABLE), gzip.compress(OTHER)),
}
FAULTS = st.builds(
    Answer,
    status=st.sampled_from([200, 200, 200, 503, 404]),
    framing=st.sampled_from(["length", "chunked", "none"]),
    cut=st.none() | st.integers(0, len(TABLE)),
    length_off=st.sampled_from([0, 0, 0, 1, 5000]),
)


@pytest.mark.reliability(
    fault="download: early end, wrong length, object changed under one ETag",
    provoked="a server that cuts, misstates the length, drops the framing or changes the object, at random",
    outcome="the whole object, or one sentence and nothing kept",
    tries=120,
)
@settings(max_examples=120)
@given(st.sampled_from(sorted(OBJECTS)), st.lists(st.tuples(st.booleans(), FAULTS), min_size=1, max_size=4))
def test_a_fetched_object_is_one_that_the_server_had_or_nothing_is_kept(cutter, tmp_path_factory, name, answers):
    """Cut anywhere, however its end is told, and changed between tries under one ETag."""
    folder, both = tmp_path_factory.mktemp("faults"), OBJECTS[name]
    said = []
    for changed, fault in answers:
        body = PAGE if fault.status != 200 else both[changed]
        said.append(Answer(**{**vars(fault), "body": body, "headers": {"ETag": '"the same"'}}))
    cutter.objects[f"/{name}"] = said
    sums = folder / "sums.yaml"
    try:
        fetch(cutter.url(f"/{name}"), folder / "out" / name, ledger=sums)
    except FetchError as error:
        assert "\n" not in str(error)
        assert files_of(folder) == []
        return
    content = (folder / "out" / name).read_bytes()
    assert content in both
    assert ledger.read(sums)[cutter.url(f"/{name}")].sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", OBJECTS)
def test_a_length_that_is_too_short_is_noticed_where_the_format_shows_it(server, tmp_path, name):
    body = OBJECTS[name][0]
    server.objects[f"/{name}"] = [Answer(body[:-1000])]
    if name == "x.csv":  # a table that ends after another line is a table
        fetch(server.url(f"/{name}"), tmp_path / name)
        return
    with pytest.raises(FetchError, match="damaged or cut short"):
        fetch(server.url(f"/{name}"), tmp_path / name)
    assert files_of(tmp_path) == []


@pytest.mark.reliability(
    fault="download: text or gzip that the server itself cuts",
    provoked="a length that is too short, with and without an ETag that is the md5 of what came",
    outcome="taken, for nothing can be known; the ledger says that the length alone speaks for it, and a warning does, once",
    tries=1,
)
@pytest.mark.parametrize("name", ["x.csv", "x.fa.gz"])
def test_what_shows_that_an_object_is_whole_is_recorded(server, tmp_path, capsys, name):
    body = TABLE[:-1200] if name == "x.csv" else gzip.compress(TABLE)
    url, sums = server.url(f"/{name}"), tmp_path / "resources/checksums.yaml"
    server.objects[f"/{name}"] = [Answer(body, headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})]
    fetch(url, tmp_path / name)
    assert ledger.read(sums)[url].checked_by == "checksum"
    sums.unlink()
    for tag in (hashlib.md5(TABLE + b"x").hexdigest(), f"{hashlib.md5(body).hexdigest()}-2", ""):
        server.objects[f"/{name}"] = [Answer(body, headers={"ETag": f'"{tag}"'})]
        (tmp_path / name).unlink()
        fetch(url, tmp_path / name)
        assert ledger.read(sums)[url].checked_by == "length"
    assert capsys.readouterr().err.count("only the length given by the server shows that it is complete") == 1


def test_text_without_a_length_is_taken_by_its_sum_alone(server, tmp_path):
    server.objects["/x.csv"] = [Answer(TABLE, framing="none")]
    url, sha256 = server.url("/x.csv"), hashlib.sha256(TABLE).hexdigest()
    with pytest.raises(FetchError, match=r"did not give the length of x\.csv.*give its sha256"):
        fetch(url, tmp_path / "x.csv")
    (tmp_path / "resources").mkdir()
    (tmp_path / "resources" / "checksums.yaml").write_text(yaml.safe_dump({url: {"sha256": sha256}}))
    assert fetch(url, tmp_path / "x.csv") == sha256
    server.objects["/x.csv"] = [Answer(TABLE[:-12], framing="none")]
    (tmp_path / "x.csv").unlink()
    with pytest.raises(FetchError, match="the sha256 is"):
        fetch(url, tmp_path / "x.csv")


@pytest.mark.reliability(
    fault="download: login page",
    provoked="a server that answers 200 text/html first",
    outcome="one sentence, nothing recorded; the same command then fetches the object",
    tries=1,
)
def test_after_a_login_page_the_same_command_fetches_the_object(server, tmp_path):
    url = server.url("/x.h5ad")
    server.objects["/x.h5ad"] = [Answer(PAGE, headers={"Content-Type": "text/html"}), Answer(H5AD)]
    failed = download(url, "data/x.h5ad", cwd=tmp_path)
    assert failed.returncode == 1
    assert "the server sent an HTML page (25 bytes), not x.h5ad: is a login or a proxy in between?" in failed.stderr
    assert files_of(tmp_path) == []
    done = download(url, "data/x.h5ad", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / "data/x.h5ad").read_bytes() == H5AD
    assert files_of(tmp_path) == ["data/x.h5ad", "resources/checksums.yaml"]
    known = yaml.safe_load((tmp_path / "resources/checksums.yaml").read_text())
    sha256 = hashlib.sha256(H5AD).hexdigest()
    assert known == {url: {"size": len(H5AD), "sha256": sha256, "checked_by": "format"}}


def test_an_object_that_changed_is_refused_until_the_command_that_accepts_it_is_run(server, tmp_path):
    url = server.url("/x.h5ad?a=b&c=d")
    assert download(url, "x y.h5ad", cwd=tmp_path).returncode == 0
    (tmp_path / "x y.h5ad").unlink()
    server.objects["/x.h5ad"] = H5AD_2
    failed = download(url, "x y.h5ad", cwd=tmp_path)
    assert failed.returncode == 1 and files_of(tmp_path) == ["resources/checksums.yaml"]
    command = shlex.split(failed.stderr.splitlines()[-1].partition("if the object was changed on purpose: ")[2])
    assert command[-1] == "--accept"
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "x y.h5ad").read_bytes() == H5AD_2
    (tmp_path / "x y.h5ad").unlink()
    assert download(url, "x y.h5ad", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["/absent"], "the server answered 404"),
        (["/x.h5ad", "--sha256", "0" * 64], "the argument says 0000"),
        (["/x.h5ad", "--sha256", "abc"], "not 64 hexadecimal digits"),
        (["/x.h5ad", "--checksums", "corrupt.yaml"], "corrupt.yaml: not a ledger"),
    ],
)
def test_the_script_ends_with_one_sentence_and_leaves_nothing(server, tmp_path, arguments, found):
    (tmp_path / "corrupt.yaml").write_text("[")
    path, *options = arguments
    failed = download(server.url(path), "data/x.h5ad", *options, cwd=tmp_path)
    assert failed.returncode == 1
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("error: ") and found in last
    assert "Traceback" not in failed.stderr
    assert files_of(tmp_path) == ["corrupt.yaml"]


@pytest.mark.reliability(
    fault="download: the job is killed",
    provoked="kill -9 in the middle of an object",
    outcome="the same command fetches it and removes what was left",
    tries=1,
)
def test_what_a_killed_process_left_is_removed_by_the_next(server, tmp_path):
    go_on = threading.Event()
    server.objects["/x.h5ad"] = [Answer(H5AD, drip=lambda: go_on.wait(60)), Answer(H5AD)]
    process = subprocess.Popen([sys.executable, str(SCRIPT), server.url("/x.h5ad"), "x.h5ad"], cwd=tmp_path)
    while not server.requests:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    go_on.set()
    assert list(tmp_path.glob(".x.h5ad.*.part")) and not (tmp_path / "x.h5ad").exists()
    done = download(server.url("/x.h5ad"), "x.h5ad", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path) == ["resources/checksums.yaml", "x.h5ad"]


# --- https --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 410, 403, 401, 416])
def test_a_final_refusal_is_not_tried_again(server, tmp_path, status):
    server.objects["/x.h5ad"] = [Answer(PAGE, status=status)]
    with pytest.raises(
        FetchError, match=f"the server answered {status} and is not asked again; .*only public files"
    ) as error:
        fetch(server.url("/x.h5ad"), tmp_path / "x.h5ad")
    assert server.url("/x.h5ad") in one_sentence(error)
    assert len(server.requests) == 1 and files_of(tmp_path) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again_and_not_for_ever(server, tmp_path, status):
    server.objects["/x.h5ad"] = [Answer(status=status), Answer(status=status), Answer(H5AD)]
    fetch(server.url("/x.h5ad"), tmp_path / "x.h5ad")
    assert len(server.requests) == 3
    server.objects["/y.h5ad"] = [Answer(status=status)]
    with pytest.raises(FetchError, match=f"the server answered {status} after 5 requests"):
        fetch(server.url("/y.h5ad"), tmp_path / "y.h5ad")
    assert len(server.requests) == 3 + sources.TRIES


@pytest.mark.reliability(
    fault="download: busy server",
    provoked="503 with Retry-After, of 7 s and of a day",
    outcome="it is asked again after that time, and after 120 s at most",
    tries=1,
)
@pytest.mark.parametrize(("asked", "waited"), [("7", 7), ("100000", sources.RETRY_AFTER_MAX)])
def test_a_server_is_left_alone_as_long_as_it_asks_within_bounds(server, tmp_path, monkeypatch, asked, waited):
    waits = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", waits.append)
    server.objects["/x.h5ad"] = [Answer(status=503, headers={"Retry-After": asked}), Answer(H5AD)]
    fetch(server.url("/x.h5ad"), tmp_path / "x.h5ad")
    assert waits == [waited]


@pytest.mark.reliability(
    fault="download: slow drip",
    provoked="a server that sends less than the floor of speed",
    outcome="one sentence, nothing kept",
    tries=1,
)
def test_a_drip_is_given_up(server, tmp_path, monkeypatch):
    for name, value in (("INTERVAL", 0.05), ("WINDOW", 0.3), ("FLOOR", 100_000)):
        monkeypatch.setattr(transfer, name, value)
    server.objects["/x.bin"] = [Answer(DATA, drip=lambda: time.sleep(0.25))]
    with pytest.raises(FetchError, match="less than 100000 bytes came"):
        fetch(server.url("/x.bin"), tmp_path / "x.bin")
    assert files_of(tmp_path) == []


def test_an_unreachable_host_is_one_sentence(tmp_path):
    url = f"https://127.0.0.1:{closed_port()}/x"
    with pytest.raises(FetchError, match=r"the server does not send it .*Connection refused.* check network") as error:
        fetch(url, tmp_path / "x")
    assert url in one_sentence(error)


def test_a_proxy_sees_nothing_of_loopback(server, tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    fetch(server.url("/x.h5ad"), tmp_path / "x.h5ad")


def test_members_of_a_remote_archive_cost_one_download(server, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a/x.bin", DATA)
        archive.writestr("y.bin", OTHER)
    server.objects["/all.zip"] = packed.getvalue()
    for member, data in (("a/x.bin", DATA), ("y.bin", OTHER)):
        fetch(server.url(f"/all.zip?download=1!{member}"), tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == data
    assert len(server.requests) == 1
    recorded = ledger.read(tmp_path / "resources/checksums.yaml")
    assert set(recorded) == {server.url(f"/all.zip?download=1{end}") for end in ("", "!a/x.bin", "!y.bin")}


def test_an_archive_that_is_cut_short_is_not_kept(server, tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("first.bin")
        info.size = len(DATA)
        archive.addfile(info, io.BytesIO(DATA))
    server.objects["/all.tar.gz"] = [Answer(packed.getvalue()[:-4], framing="none")]
    with pytest.raises(FetchError, match=r"all\.tar\.gz .*damaged or cut short"):
        fetch(server.url("/all.tar.gz!first.bin"), tmp_path / "out.bin")
    assert files_of(tmp_path) == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    return write_certificate(tmp_path_factory.mktemp("certificate") / "server.pem")


@pytest.fixture
def secure(certificate):
    with ObjectServer(certificate) as server:
        server.objects["/x.h5ad"] = H5AD
        yield server
        server.shutdown()


@pytest.fixture
def trusted(secure, certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    return secure


def redirect(target: str) -> list[Answer]:
    return [Answer(status=302, headers={"Location": target})]


def test_an_untrusted_certificate_is_one_sentence_and_not_tried_again(secure, tmp_path):
    with pytest.raises(FetchError, match="certificate verify failed") as error:
        fetch(secure.url("/x.h5ad"), tmp_path / "x.h5ad")
    one_sentence(error)
    assert secure.requests == []


def test_redirects_are_followed_within_https(trusted, tmp_path):
    trusted.objects |= {"/a": redirect("/b?c=d"), "/b": redirect(trusted.url("/x.h5ad"))}
    fetch(trusted.url("/a"), tmp_path / "x.h5ad")
    assert [path for path, _ in trusted.requests] == ["/a", "/b?c=d", "/x.h5ad"]


def test_a_redirect_to_http_is_refused_even_on_loopback(trusted, server, tmp_path):
    trusted.objects["/a"] = redirect(server.url("/x.h5ad"))
    with pytest.raises(FetchError, match="No connection adapters") as error:
        fetch(trusted.url("/a"), tmp_path / "x.h5ad")
    assert trusted.url("/a") in one_sentence(error)
    assert server.requests == [] and files_of(tmp_path) == []


@pytest.mark.parametrize(
    "target",
    [
        "http://example.org/x",
        "http://169.254.169.254/x",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "s3://b/k",
        "https://me:secret@127.0.0.1/x",
    ],
)
def test_a_redirect_to_what_is_not_safe_is_refused(server, tmp_path, target):
    server.objects["/a"] = redirect(target)
    with pytest.raises(FetchError, match=r"use that|No connection adapters|user name") as error:
        fetch(server.url("/a"), tmp_path / "x")
    assert "secret" not in one_sentence(error) and files_of(tmp_path) == []


def test_a_circle_of_redirects_is_refused(server, tmp_path):
    server.objects |= {"/a": redirect("/b"), "/b": redirect("/a")}
    with pytest.raises(FetchError, match="Exceeded 8 redirects"):
        fetch(server.url("/a"), tmp_path / "x")
    assert len(server.requests) < 12


def test_no_credentials_of_the_user_are_sent(trusted, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    trusted.objects["/a"] = redirect("/x.h5ad")
    fetch(trusted.url("/a"), tmp_path / "x.h5ad")
    assert trusted.asked("Authorization") == [None, None]


# --- the hub ------------------------------------------------------------------------------------------------------------


def test_a_file_of_the_hub_is_fetched_at_its_revision_without_a_token(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url(""))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server.objects["/genbio-ai/AIDO.Cell-3M/resolve/v1.0/a/c.bin"] = [Answer(DATA, headers=etag(DATA))]
    assert fetch("hf://genbio-ai/AIDO.Cell-3M@v1.0/a/c.bin", tmp_path / "c.bin") == SHA
    assert set(server.asked("Authorization")) == {None}
    assert files_of(tmp_path) == ["c.bin", "resources/checksums.yaml"]
    name = f"hf://genbio-ai/AIDO.Cell-3M@v1.0/a/c.bin from {server.url('')}"
    assert ledger.read(tmp_path / "resources/checksums.yaml") == {
        name: ledger.Entry(len(DATA), SHA, checked_by="checksum")
    }


@settings(max_examples=15)
@given(cut=st.integers(0, len(DATA) - 1), changed=st.booleans())
def test_a_file_of_the_hub_is_the_one_that_the_hub_names_or_none(cutter, tmp_path_factory, cut, changed):
    """Cut once, then the rest comes from the same or another object under one name."""
    folder, path = tmp_path_factory.mktemp("hub"), "/o/r/resolve/1/c.bin"
    second = Answer(OTHER[: len(DATA)].ljust(len(DATA)) if changed else DATA, headers=etag(DATA))
    cutter.objects[path] = [Answer(DATA, headers=etag(DATA), cut=cut), second]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", cutter.url(""))
        patch.setattr("time.sleep", lambda seconds: None)
        try:
            assert fetch("hf://o/r@1/c.bin", folder / "c.bin", ledger=folder / "sums.yaml") == SHA
        except FetchError:
            assert files_of(folder) == []


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (Answer(status=404), "404"),
        (Answer(PAGE), "hub does not send it"),
        (Answer(OTHER, headers=etag(DATA)), "its bytes"),
    ],
)
def test_what_the_hub_does_not_have_is_one_sentence(server, tmp_path, monkeypatch, answer, found):
    monkeypatch.setenv("HF_ENDPOINT", server.url(""))
    server.objects["/o/r/resolve/1/c.bin"] = [answer]
    with pytest.raises(FetchError, match=found) as error:
        fetch("hf://o/r@1/c.bin", tmp_path / "c.bin")
    assert "hf://o/r@1/c.bin" in one_sentence(error) and files_of(tmp_path) == []


# --- S3 -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moto():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture(scope="module")
def bucket(moto):
    """A bucket of public objects and one that is not."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url="http://{}:{}".format(*moto),
        region_name="us-west-2",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket="atlas", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})

    def put(key: str, data: bytes, acl="public-read"):
        client.put_object(Bucket="atlas", Key=key, Body=data, ACL=acl)

    return put


@pytest.fixture
def atlas(moto, bucket, monkeypatch):
    bucket("v1/x+y z.bin", DATA)
    bucket("private.bin", DATA, acl="private")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*moto))


URL = "s3://atlas/v1/x+y z.bin"


def test_an_s3_object_is_fetched_by_exact_key_without_an_identity(server, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("AWS_PROFILE", "a-profile-that-is-not-there")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url(""))
    server.objects["/atlas/v1/x%2By%20z.bin"] = DATA
    assert fetch(URL, tmp_path / "x.bin") == SHA
    ((path, headers),) = server.requests  # one request: nothing is listed and nothing asked beforehand
    assert path == "/atlas/v1/x%2By%20z.bin"
    assert "Authorization" not in headers and "secret" not in str(headers)
    assert headers["x-amz-checksum-mode"] == "ENABLED"


def test_a_mirrors_sum_is_not_that_of_the_true_object(atlas, tmp_path, monkeypatch):
    assert fetch(URL, tmp_path / "x.bin") == SHA
    recorded = ledger.read(tmp_path / "resources/checksums.yaml")
    assert list(recorded) == [f"{URL} from {os.environ['AWS_ENDPOINT_URL']}"]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert ledger.identity(URL) not in recorded


def test_credential_files_are_not_opened(atlas, tmp_path):
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    for name in (".aws/credentials", ".aws/config", ".netrc"):
        (home / name).write_text("")
    watch = (
        "import os, sys\n"
        "def hook(event, args):\n"
        "    if event == 'open' and str(args[0]).startswith(sys.argv[-1]): os.write(2, f'OPENED {args[0]}'.encode())\n"
        "sys.addaudithook(hook)\n"
        "from cellgauge.fetch import fetch\n"
        "fetch(sys.argv[1], sys.argv[2])\n"
        "open(sys.argv[-1] + '/.netrc')\n"  # the watch does watch
    )
    done = subprocess.run(
        [sys.executable, "-c", watch, URL, "x.bin", str(home)],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(home), "PYTHONPATH": str(SCRIPT.parent)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, f"OPENED {home}/.netrc")
    assert (tmp_path / "x.bin").read_bytes() == DATA


S3_FAULTS = st.builds(
    Answer,
    framing=st.sampled_from(["length", "length", "none"]),
    cut=st.none() | st.integers(0, len(DATA)),
    length_off=st.sampled_from([0, 0, 3]),
)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.booleans(), S3_FAULTS), min_size=1, max_size=4))
def test_an_s3_object_is_one_that_the_server_had_or_nothing_is_kept(cutter, tmp_path_factory, answers):
    """Cut anywhere, and changed between tries under one ETag."""
    folder = tmp_path_factory.mktemp("s3")
    cutter.objects["/b/x.h5ad"] = [
        Answer(**{**vars(fault), "body": H5AD_2 if changed else H5AD, "headers": {"ETag": '"the same"'}})
        for changed, fault in answers
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", cutter.url(""))
        try:
            fetch("s3://b/x.h5ad", folder / "x.h5ad", ledger=folder / "sums.yaml")
        except FetchError:
            assert files_of(folder) == []
            return
    assert (folder / "x.h5ad").read_bytes() in (H5AD, H5AD_2)


@pytest.mark.parametrize(("kind", "checked_by"), [({}, "checksum"), ({"x-amz-checksum-type": "COMPOSITE"}, "length")])
def test_an_s3_checksum_speaks_for_an_object_unless_it_is_of_parts(server, tmp_path, monkeypatch, kind, checked_by):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url(""))
    sums = {"x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(TABLE).digest()).decode(), **kind}
    server.objects["/b/x.csv"] = [Answer(TABLE, headers=sums)]
    fetch("s3://b/x.csv", tmp_path / "x.csv")
    (entry,) = ledger.read(tmp_path / "resources/checksums.yaml").values()
    assert entry.checked_by == checked_by


def test_an_s3_object_that_is_damaged_on_the_way_is_noticed_by_its_checksum(server, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url(""))
    sums = {"x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(DATA).digest()).decode()}
    server.objects["/b/x.bin"] = [Answer(DATA[:-1] + b"?", headers=sums), Answer(DATA, headers=sums)]
    assert fetch("s3://b/x.bin", tmp_path / "x.bin") == SHA
    server.objects["/b/y.bin"] = [Answer(OTHER, headers=sums)]
    with pytest.raises(FetchError, match="checksum"):
        fetch("s3://b/y.bin", tmp_path / "y.bin")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("s3://atlas/absent", "NoSuchKey"),
        ("s3://no-such-bucket/x", "NoSuchBucket"),
        ("s3://atlas/private.bin", r"(403|AccessDenied)"),
        ("s3://Not A Bucket/x", "Invalid bucket name"),
        ("s3://atlas/v1/", "NoSuchKey"),
    ],
)
def test_an_s3_object_that_cannot_be_had_is_one_sentence(atlas, tmp_path, url, found):
    with pytest.raises(FetchError, match=found) as error:
        fetch(url, tmp_path / "x")
    assert url in one_sentence(error) and files_of(tmp_path) == []


def test_an_s3_server_that_cannot_be_reached_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "TRIES", 1)
    server = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    with pytest.raises(FetchError, match=f"Could not connect to the endpoint URL: .{server}"):
        fetch(URL, tmp_path / "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not an address")
    with pytest.raises(FetchError, match="Invalid endpoint"):
        fetch(URL, tmp_path / "x")


# --- packages -----------------------------------------------------------------------------------------------------------

WHEEL_METADATA = "Metadata-Version: 2.1\nName: tinycells\nVersion: 1.2\nRequires-Python: >=99\n"
BACKEND = """
import os
from pathlib import Path

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    with open(os.environ["RUNS_OF_THE_BACKEND"], "a") as file:
        file.write("ran\\n")
    info = Path(folder) / "tinycells-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: tinycells\\nVersion: 1.2\\n")
    return info.name

def build_wheel(*args, **kwargs):
    raise SystemExit("nobody asked for a wheel")
"""


def digest_line(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def make_wheel(folder: Path, members: dict[str, bytes]) -> Path:
    info = "tinycells-1.2.dist-info"
    wheel = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    members = {**members, f"{info}/METADATA": WHEEL_METADATA.encode(), f"{info}/WHEEL": wheel}
    record = "".join(digest_line(name, data) for name, data in members.items()) + f"{info}/RECORD,,\n"
    path = folder / "tinycells-1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**members, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(name, data)
    return path


def make_sdist(folder: Path, members: dict[str, bytes]) -> Path:
    project = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    metadata = b"Metadata-Version: 2.1\nName: tinycells\nVersion: 1.2\n"
    members = {**members, "pyproject.toml": project, "backend.py": BACKEND.encode(), "PKG-INFO": metadata}
    path = folder / "tinycells-1.2.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(f"tinycells-1.2/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("tinycells-1.2/link")
        link.type, link.linkname = tarfile.SYMTYPE, "PKG-INFO"
        archive.addfile(link)
    return path


class Index:
    """A folder of packages as pip's only source, and a ledger that knows their sums."""

    def __init__(self, folder: Path):
        self.packages, self.ledger = folder / "packages", folder / "sums.yaml"
        self.archives, self.runs = folder / "archives", folder / "runs"
        self.packages.mkdir()

    def trust(self, archive: Path, kind: str, sha256: str | None = None) -> None:
        sha256 = sha256 or hashlib.sha256(archive.read_bytes()).hexdigest()
        self.ledger.write_text(yaml.safe_dump({"pypi://tinycells==1.2": {"kind": kind, "sha256": sha256}}))

    def fetch(self, member: str, output: Path) -> str:
        return fetch(f"pypi://tinycells==1.2/{member}", output, ledger=self.ledger, archives=self.archives)


@pytest.fixture
def index(tmp_path, monkeypatch):
    index = Index(tmp_path)
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index.packages))
    monkeypatch.setenv("RUNS_OF_THE_BACKEND", str(index.runs))
    return index


def test_members_of_a_wheel_cost_one_download(index, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("human.h5ad", DATA)
    wheel = make_wheel(index.packages, {"tinycells/data.zip": packed.getvalue(), "tinycells/m.h5ad": OTHER})
    index.trust(wheel, "wheel")
    assert index.fetch("tinycells/data.zip!human.h5ad", tmp_path / "human") == SHA
    wheel.unlink()  # from now on pip would find nothing
    index.fetch("tinycells/m.h5ad", tmp_path / "mouse")
    assert (tmp_path / "human").read_bytes() == DATA
    assert (tmp_path / "mouse").read_bytes() == OTHER
    entries = ledger.read(index.ledger)
    assert entries["pypi://tinycells==1.2"].kind == "wheel"
    assert entries["pypi://tinycells==1.2/tinycells/data.zip!human.h5ad"].sha256 == SHA
    assert sorted(path.name for path in index.archives.iterdir()) == ["tinycells-1.2.whl", "tinycells-1.2.whl.lock"]


def test_a_damaged_archive_is_fetched_again(index, tmp_path):
    index.trust(make_wheel(index.packages, {"x": DATA}), "wheel")
    index.archives.mkdir()
    (index.archives / "tinycells-1.2.whl").write_bytes(b"damaged")
    (index.archives / ".tinycells-1.2.whl.abc.part").mkdir()
    (index.archives / ".tinycells-1.2.whl.abc.part" / "left").write_text("by a killed run")
    assert index.fetch("x", tmp_path / "x") == SHA
    assert not (index.archives / ".tinycells-1.2.whl.abc.part").exists()


def test_an_sdist_is_read_without_its_top_folder(index, tmp_path):
    index.trust(make_sdist(index.packages, {"test/data/x.h5ad": DATA}), "sdist")
    assert index.fetch("test/data/x.h5ad", tmp_path / "x") == SHA
    with pytest.raises(FetchError, match="the archive has no member"):
        index.fetch("tinycells-1.2/test/data/x.h5ad", tmp_path / "y")
    with pytest.raises(FetchError, match="not a plain file"):
        index.fetch("link", tmp_path / "y")
    assert not (tmp_path / "y").exists()
    assert index.runs.read_text() == "ran\n"  # pip asks a trusted sdist for its metadata, once


def test_processes_that_want_one_archive_fetch_it_once(index, tmp_path):
    index.trust(make_sdist(index.packages, {f"{i}.bin": DATA[i:] for i in range(4)}), "sdist")
    command = [sys.executable, str(SCRIPT), "--checksums", str(index.ledger)]
    processes = [
        subprocess.Popen([*command, f"pypi://tinycells==1.2/{i}.bin", f"out/{i}"], cwd=tmp_path) for i in range(4)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    assert [(tmp_path / "out" / str(i)).read_bytes() == DATA[i:] for i in range(4)] == [True] * 4
    assert index.runs.read_text() == "ran\n"
    assert len(ledger.read(index.ledger)) == 5


def test_an_archive_with_another_sum_is_refused_before_anything_of_it_runs(index, tmp_path):
    archive = make_sdist(index.packages, {"x": DATA})
    index.trust(archive, "sdist", sha256="0" * 64)
    with pytest.raises(FetchError) as error:
        index.fetch("x", tmp_path / "x")
    text = one_sentence(error)
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in text and "0" * 64 in text
    assert not index.runs.exists()
    assert not (tmp_path / "x").exists()
    assert [path.name for path in index.archives.iterdir()] == ["tinycells-1.2.tar.gz.lock"]


def test_an_archive_without_a_known_sum_is_refused_before_pip_is_asked(index, tmp_path):
    make_sdist(index.packages, {"x": DATA})
    with pytest.raises(FetchError, match=r"sha256 of the archive is not known"):
        index.fetch("x", tmp_path / "x")
    assert not index.runs.exists() and files_of(index.archives) == []


def test_a_package_that_the_index_lacks_is_one_sentence(index, tmp_path):
    index.trust(make_sdist(index.packages, {"x": DATA}), "wheel")  # there is an sdist and no wheel
    with pytest.raises(FetchError) as error:
        index.fetch("x", tmp_path / "x")
    assert "pip cannot fetch the wheel" in one_sentence(error) and "No matching distribution" in one_sentence(error)
    assert not index.runs.exists()


def test_pip_in_the_working_directory_is_not_run(index, tmp_path, monkeypatch):
    (tmp_path / "pip.py").write_text("raise SystemExit('not pip')")
    monkeypatch.chdir(tmp_path)
    index.trust(make_wheel(index.packages, {"x": DATA}), "wheel")
    assert index.fetch("x", tmp_path / "x") == SHA


@pytest.mark.network
def test_a_real_wheel_of_the_package_index(tmp_path):
    url = "pypi://came==0.1.13/came/sample_data.zip!raw-Baron_human.h5ad"
    done = download(url, "human.h5ad", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sha256 = "c0fca7f46d5ae82d8b5753ed5ce246cded66e2e870face389bd11084aab17700"
    assert hashlib.sha256((tmp_path / "human.h5ad").read_bytes()).hexdigest() == sha256
    assert files_of(tmp_path) == ["human.h5ad", "resources/archives/came-0.1.13.whl"]  # its sums are shipped

"""The download layer against real servers on loopback, pip, and killed processes."""

from __future__ import annotations

import base64
import datetime
import hashlib
import io
import ipaddress
import os
import re
import socket
import socketserver
import ssl
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from cellgauge.fetch import Fetched, FetchError, Ledger, fetch, s3, transfer
from cellgauge.fetch.streams import CHUNK, TransientError

SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "download_object.py"
DATA = hashlib.shake_256(b"an object").digest(3_000_000)
SHA = hashlib.sha256(DATA).hexdigest()
OTHER = hashlib.shake_256(b"another object").digest(2_500_000)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(transfer, "FIRST_WAIT", 0.01)


def one_sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def download(*arguments, cwd: Path, **env) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=120)


# --- a server of objects, with the faults of real ones ----------------------------------------------------------------


class ObjectServer(ThreadingHTTPServer):
    """Serves `objects` with strong ETags and ranges, and does what it is told to do wrong.

    `cuts`: the next answers end after that many bytes. `hold_after`: answers stop there until `go_on` is set.
    `requests` and `served` tell what was asked for and how many bytes went out.
    """

    daemon_threads = True

    def __init__(self, certificate: Path | None = None):
        super().__init__(("127.0.0.1", 0), ObjectHandler)
        self.objects: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.statuses: dict[str, list[int]] = {}
        self.cuts: list[int] = []
        self.hold_after: int | None = None
        self.go_on = threading.Event()
        self.ranges, self.tags, self.checks_if_range, self.lengths = True, "strong", True, True
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.served = 0
        self.scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def url(self, path: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}{path}"

    def asked(self, header: str) -> list[str | None]:
        return [headers.get(header) for _, headers in self.requests]

    def handle_error(self, request, client_address):
        pass  # a client that was killed, or that trusts no such certificate


class ObjectHandler(BaseHTTPRequestHandler):
    server: ObjectServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, path = self.server, urlsplit(self.path).path
        server.requests.append((self.path, dict(self.headers)))
        if path in server.redirects:
            return self.answer(302, {"Location": server.redirects[path]})
        status = server.statuses[path].pop(0) if server.statuses.get(path) else 200
        if status != 200 or path not in server.objects:
            return self.answer(404 if status == 200 else status, {})
        data = server.objects[path]
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        headers = {"strong": {"ETag": tag}, "weak": {"ETag": f"W/{tag}"}, "none": {}}[server.tags]
        start = self.start(data, tag)
        if start is None:
            return self.answer(416, {"Content-Range": f"bytes */{len(data)}"})
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if server.lengths:
            headers["Content-Length"] = str(len(data) - start)
        self.answer(206 if start else 200, headers, data[start:])

    def start(self, data: bytes, tag: str) -> int | None:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not found or not self.server.ranges:
            return 0
        if self.server.checks_if_range and self.headers.get("If-Range") != tag:
            return 0
        return int(found[1]) if int(found[1]) < len(data) else None

    def answer(self, status: int, headers: dict[str, str], body: bytes = b""):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        server, end = self.server, len(body)
        if body and server.cuts:
            end = server.cuts.pop(0)
        for at in range(0, end, 10_000):
            if server.hold_after is not None and at >= server.hold_after and not server.go_on.is_set():
                server.go_on.wait(60)
            piece = body[at : min(at + 10_000, end)]
            self.wfile.write(piece)
            server.served += len(piece)


@pytest.fixture
def server():
    with ObjectServer() as server:
        server.objects["/x.h5ad"] = DATA
        yield server
        server.go_on.set()
        server.shutdown()


def test_a_script_call_fetches_verifies_and_records(server, tmp_path):
    url = server.url("/x.h5ad?version=2")
    done = download(url, "data/x.h5ad", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / "data/x.h5ad").read_bytes() == DATA
    text = (tmp_path / "config/checksums.yaml").read_text()
    assert yaml.safe_load(text) == {url: {"size": len(DATA), "sha256": SHA}}
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["x.h5ad"]


def test_another_call_with_the_ledger_as_known_checks_and_records_nothing(server, tmp_path):
    known = tmp_path / "known.yaml"
    known.write_text(yaml.safe_dump({server.url("/x.h5ad"): {"sha256": SHA, "size": len(DATA)}}))
    assert download(server.url("/x.h5ad"), "x", "--checksums-known", known, cwd=tmp_path).returncode == 0
    assert not (tmp_path / "config").exists()
    server.objects["/x.h5ad"] = DATA[:-1] + b"?"
    (tmp_path / "x").unlink()
    failed = download(server.url("/x.h5ad"), "x", "--checksums-known", known, cwd=tmp_path)
    assert failed.returncode == 1
    assert "the sha256 is" in failed.stderr and str(known) in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["/absent"], "no such object (404)"),
        (["/x.h5ad", "--sha256", "0" * 64], "the argument says 0000"),
        (["/x.h5ad", "--size", "7"], "the size is 3000000, but the argument says 7"),
        (["/x.h5ad", "--sha256", "abc"], "not 64 hexadecimal digits"),
        (["/x.h5ad", "--checksums", "corrupt.yaml"], "corrupt.yaml: the ledger of checksums"),
    ],
)
def test_the_script_ends_with_one_sentence_and_leaves_nothing(server, tmp_path, arguments, found):
    (tmp_path / "corrupt.yaml").write_text("[")
    path, *options = arguments
    failed = download(server.url(path), "data/x", *options, cwd=tmp_path)
    assert failed.returncode == 1
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("error: ") and found in last
    assert "Traceback" not in failed.stderr
    assert not list(tmp_path.glob("data/*"))
    assert not (tmp_path / "config").exists()


def test_cut_connections_are_resumed_and_little_is_served_twice(server, tmp_path):
    server.cuts = [1_000_000, 700_000, 5, 300_001]
    assert fetch(server.url("/x.h5ad"), tmp_path / "x") == Fetched(len(DATA), SHA)
    assert (tmp_path / "x").read_bytes() == DATA
    assert len(server.requests) == 5
    assert len(DATA) <= server.served <= len(DATA) + 4 * CHUNK
    starts = [int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) for asked in server.asked("Range")[1:]]
    assert starts == sorted(starts) and starts[0] > 1_000_000 - CHUNK
    assert set(server.asked("If-Range")[1:]) == {f'"{hashlib.md5(DATA).hexdigest()}"'}


def kill_midway(server: ObjectServer, url: str, output: Path, **env) -> int:
    """Start a download, kill it once a third is on the disk, and return the size of what it left."""
    part = output.with_name(output.name + ".part")
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), url, str(output)], cwd=output.parent, env={**os.environ, **env}
    )
    deadline = time.monotonic() + 60
    while not part.exists() or part.stat().st_size < 900_000:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -9
    server.go_on.set()
    return part.stat().st_size


def test_after_a_killed_process_only_the_rest_is_fetched(server, tmp_path):
    server.hold_after = 1_000_000
    kept = kill_midway(server, server.url("/x.h5ad"), tmp_path / "x")
    assert 900_000 <= kept <= 1_000_000
    assert not (tmp_path / "x").exists()
    done = download(server.url("/x.h5ad"), "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert server.asked("Range") == [None, f"bytes={kept}-"]
    assert (tmp_path / "x").read_bytes() == DATA
    assert not (tmp_path / "x.part").exists() and not (tmp_path / "x.part.json").exists()


def test_an_object_that_changed_after_a_killed_process_is_fetched_whole(server, tmp_path):
    server.hold_after = 1_000_000
    kill_midway(server, server.url("/x.h5ad"), tmp_path / "x")
    server.objects["/x.h5ad"] = OTHER
    assert fetch(server.url("/x.h5ad"), tmp_path / "x").sha256 == hashlib.sha256(OTHER).hexdigest()
    assert len(server.requests) == 2  # the condition lets the server send it whole at once
    assert (tmp_path / "x").read_bytes() == OTHER


def test_an_object_that_changes_during_the_download_is_never_mixed(server, tmp_path):
    class Changing(list):
        def pop(self, index=-1):
            server.objects["/x.h5ad"] = OTHER
            return super().pop(index)

    server.cuts = Changing([1_500_000])
    assert fetch(server.url("/x.h5ad"), tmp_path / "x").sha256 == hashlib.sha256(OTHER).hexdigest()


@pytest.mark.parametrize("changed", [OTHER, OTHER[:100_000], DATA[::-1]])
def test_a_server_that_knows_no_condition_does_not_mix_objects_either(server, tmp_path, changed, monkeypatch):
    monkeypatch.setattr(transfer, "TRIES", 1)
    server.checks_if_range = False
    server.cuts = [1_500_000]
    with pytest.raises(FetchError, match="no progress"):
        fetch(server.url("/x.h5ad"), tmp_path / "x")
    server.objects["/x.h5ad"] = changed
    assert fetch(server.url("/x.h5ad"), tmp_path / "x").sha256 == hashlib.sha256(changed).hexdigest()
    assert server.asked("Range")[1].startswith("bytes=") and server.asked("Range")[2] is None


@pytest.mark.parametrize("lack", [{"ranges": False}, {"tags": "weak"}, {"tags": "none"}])
def test_servers_that_cannot_resume_are_asked_for_everything_again(server, tmp_path, lack):
    vars(server).update(lack)
    server.cuts = [1_500_000]
    assert fetch(server.url("/x.h5ad"), tmp_path / "x") == Fetched(len(DATA), SHA)
    assert server.served == len(DATA) + 1_500_000
    assert (tmp_path / "x").read_bytes() == DATA
    assert server.asked("Range")[0] is None
    assert (server.asked("Range")[1] is None) == ("tags" in lack)  # nothing there that a range could be tied to


def test_an_answer_without_a_length_is_taken_to_its_end(server, tmp_path):
    server.lengths = False
    assert fetch(server.url("/x.h5ad"), tmp_path / "x") == Fetched(len(DATA), SHA)


@pytest.mark.parametrize(
    ("status", "found"), [(404, "no such object"), (410, "no such object"), (403, "refuses access")]
)
def test_a_final_refusal_is_not_tried_again(server, tmp_path, status, found):
    server.statuses["/x.h5ad"] = [status] * 9
    with pytest.raises(FetchError) as error:
        fetch(server.url("/x.h5ad"), tmp_path / "x", ledger=tmp_path / "sums.yaml")
    assert found in one_sentence(error) and server.url("/x.h5ad") in one_sentence(error)
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_tried_again(server, tmp_path, status):
    server.statuses["/x.h5ad"] = [status, status]
    assert fetch(server.url("/x.h5ad"), tmp_path / "x").sha256 == SHA
    assert len(server.requests) == 3


def test_a_server_that_stays_busy_is_one_sentence(server, tmp_path):
    server.statuses["/x.h5ad"] = [503] * 99
    with pytest.raises(FetchError, match="no progress in 6 tries, the last time because the server answered 503"):
        fetch(server.url("/x.h5ad"), tmp_path / "x")
    assert len(server.requests) == transfer.TRIES
    assert list(tmp_path.iterdir()) == []


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_an_unreachable_host_is_one_sentence(tmp_path):
    url = f"https://127.0.0.1:{closed_port()}/x"
    with pytest.raises(FetchError) as error:
        fetch(url, tmp_path / "x")
    text = one_sentence(error)
    assert url in text and "cannot be reached (Connection refused)" in text and "check the network" in text


def test_a_proxy_sees_nothing_of_loopback(server, tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert fetch(server.url("/x.h5ad"), tmp_path / "x").sha256 == SHA


def test_members_of_a_remote_archive_cost_one_download(server, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a/x.bin", DATA)
        archive.writestr("y.bin", OTHER)
    server.objects["/all.zip"] = packed.getvalue()
    ledger, archives = tmp_path / "sums.yaml", tmp_path / "archives"
    for member, data in (("a/x.bin", DATA), ("y.bin", OTHER)):
        fetch(server.url(f"/all.zip!{member}"), tmp_path / "out", ledger=ledger, archives=archives)
        assert (tmp_path / "out").read_bytes() == data
    assert len(server.requests) == 1
    assert set(Ledger(ledger).entries()) == {server.url(f"/all.zip{end}") for end in ("", "!a/x.bin", "!y.bin")}


# --- https ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A key and a certificate for 127.0.0.1 that signs itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cellgauge test")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("certificate") / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def secure(certificate):
    with ObjectServer(certificate) as server:
        server.objects["/x.h5ad"] = DATA
        yield server
        server.shutdown()


@pytest.fixture
def trusted(secure, certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    return secure


def test_https_is_fetched_and_resumed(trusted, tmp_path):
    trusted.cuts = [1_000_000]
    assert fetch(trusted.url("/x.h5ad"), tmp_path / "x") == Fetched(len(DATA), SHA)
    assert (tmp_path / "x").read_bytes() == DATA
    assert trusted.served <= len(DATA) + CHUNK


def test_an_untrusted_certificate_is_one_sentence_and_not_tried_again(secure, tmp_path, capsys):
    with pytest.raises(FetchError) as error:
        fetch(secure.url("/x.h5ad"), tmp_path / "x")
    assert "certificate cannot be verified" in one_sentence(error) and "REQUESTS_CA_BUNDLE" in one_sentence(error)
    assert "trying again" not in capsys.readouterr().err
    assert secure.requests == []


def test_a_server_that_speaks_no_tls_is_one_sentence(server, tmp_path):
    with pytest.raises(
        FetchError, match="no progress in 6 tries, the last time because the encrypted connection failed"
    ):
        fetch(server.url("/x.h5ad").replace("http:", "https:"), tmp_path / "x")


def test_redirects_are_followed_within_https(trusted, tmp_path):
    trusted.redirects = {"/a": "/b?c=d", "/b": trusted.url("/x.h5ad")}
    assert fetch(trusted.url("/a"), tmp_path / "x").sha256 == SHA
    assert [path for path, _ in trusted.requests] == ["/a", "/b?c=d", "/x.h5ad"]


def test_a_resumed_download_asks_for_the_rest_behind_the_redirect(trusted, tmp_path):
    trusted.redirects = {"/a": "/x.h5ad"}
    trusted.cuts = [1_000_000]
    assert fetch(trusted.url("/a"), tmp_path / "x").sha256 == SHA
    assert trusted.served <= len(DATA) + CHUNK


def test_a_redirect_to_http_is_refused_even_on_loopback(trusted, server, tmp_path):
    trusted.redirects = {"/a": server.url("/x.h5ad")}
    with pytest.raises(FetchError) as error:
        fetch(trusted.url("/a"), tmp_path / "x")
    assert "which is not https" in one_sentence(error) and trusted.url("/a") in one_sentence(error)
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["http://example.org/x", "file:///etc/passwd", "ftp://127.0.0.1/x", "s3://b/k"])
def test_a_redirect_to_another_scheme_is_refused(server, tmp_path, target):
    server.redirects = {"/a": target}
    with pytest.raises(FetchError, match=r"use https|names no host"):
        fetch(server.url("/a"), tmp_path / "x")


def test_a_circle_of_redirects_is_refused(server, tmp_path):
    server.redirects = {"/a": "/b", "/b": "/a"}
    with pytest.raises(FetchError, match="redirects more than"):
        fetch(server.url("/a"), tmp_path / "x")
    assert len(server.requests) < 12


def test_no_credentials_of_the_user_are_sent(trusted, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    trusted.redirects = {"/a": "/x.h5ad"}
    fetch(trusted.url("/a"), tmp_path / "x")
    assert trusted.asked("Authorization") == [None, None]


# --- S3 ---------------------------------------------------------------------------------------------------------------


class Wire(socketserver.ThreadingTCPServer):
    """Passes connections on to `upstream` and keeps what clients said.

    `cuts`: the next connections with an answer longer than that end after so many bytes. `hold_after`: answers stop there
    until `go_on` is set.
    """

    daemon_threads, allow_reuse_address = True, True

    def __init__(self, upstream: tuple[str, int]):
        super().__init__(("127.0.0.1", 0), WireHandler)
        self.upstream = upstream
        self.cuts: list[int] = []
        self.hold_after: int | None = None
        self.go_on = threading.Event()
        self.said: list[bytes] = []
        self.served = 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def ranges(self) -> list[str | None]:
        found = [re.search(rb"(?im)^range: *(.*?)\r", said) for said in self.said]
        return [match[1].decode() if match else None for match in found]

    def handle_error(self, request, client_address):
        pass  # a client that was killed


class WireHandler(socketserver.BaseRequestHandler):
    server: Wire

    def handle(self):
        wire = self.server
        with socket.create_connection(wire.upstream) as upstream:
            threading.Thread(target=self.ask, args=(upstream,), daemon=True).start()
            left = wire.cuts.pop(0) if wire.cuts else None
            passed = 0
            while block := upstream.recv(16_384):
                if left is not None:
                    block, left = block[:left], left - len(block)
                if wire.hold_after is not None and passed >= wire.hold_after and not wire.go_on.is_set():
                    wire.go_on.wait(60)
                self.request.sendall(block)
                passed += len(block)
                wire.served += len(block)
                if left is not None and left <= 0:
                    return

    def ask(self, upstream):
        try:
            while block := self.request.recv(16_384):
                self.server.said.append(block)
                upstream.sendall(block)
        except OSError:
            pass


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
def wire(moto, bucket, monkeypatch):
    bucket("v1/x+y z.h5ad", DATA)
    bucket("private.h5ad", DATA, acl="private")
    with Wire(moto) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        yield wire
        wire.go_on.set()
        wire.shutdown()


URL = "s3://atlas/v1/x+y z.h5ad"


def test_an_s3_object_is_fetched_by_exact_key_without_an_identity(wire, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("AWS_PROFILE", "a-profile-that-is-not-there")
    assert fetch(URL, tmp_path / "x", ledger=tmp_path / "sums.yaml") == Fetched(len(DATA), SHA)
    assert (tmp_path / "x").read_bytes() == DATA
    assert yaml.safe_load((tmp_path / "sums.yaml").read_text()) == {URL: {"size": len(DATA), "sha256": SHA}}
    (said,) = wire.said  # one request: nothing is listed and nothing asked beforehand
    assert said.startswith(b"GET /atlas/v1/x%2By%20z.h5ad HTTP/1.1\r\n")
    assert b"authorization" not in said.lower() and b"secret" not in said


def test_credential_files_are_not_opened(wire, tmp_path):
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
        [sys.executable, "-c", watch, URL, "x", str(home)],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(home), "PYTHONPATH": str(SCRIPT.parent)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, f"OPENED {home}/.netrc")
    assert (tmp_path / "x").read_bytes() == DATA


def test_tries_are_counted_once_for_s3_too(wire, tmp_path):
    wire.cuts = [0] * 50
    with pytest.raises(FetchError, match="no progress in 6 tries"):
        fetch(URL, tmp_path / "x")
    assert len(wire.said) == transfer.TRIES


def test_cut_s3_connections_are_resumed_and_little_is_served_twice(wire, tmp_path):
    wire.cuts = [1_000_000, 900_000]
    assert fetch(URL, tmp_path / "x") == Fetched(len(DATA), SHA)
    assert (tmp_path / "x").read_bytes() == DATA
    first, *rest = wire.ranges()
    starts = [int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) for asked in rest]
    assert first is None and len(starts) == 2
    assert 1_000_000 - CHUNK - 2_000 < starts[0] < starts[1]
    assert wire.served <= len(DATA) + 2 * CHUNK + 3 * 2_000  # the heads of three answers


def test_after_a_killed_process_only_the_rest_of_an_s3_object_is_fetched(wire, tmp_path):
    wire.hold_after = 1_000_000
    kept = kill_midway(wire, URL, tmp_path / "x")
    done = download(URL, "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert wire.ranges() == [None, f"bytes={kept}-"]
    assert (tmp_path / "x").read_bytes() == DATA


@pytest.mark.parametrize("changed", [OTHER, OTHER[:100_000], DATA[::-1]])
def test_an_s3_object_that_changed_between_runs_is_fetched_whole(wire, bucket, tmp_path, monkeypatch, changed):
    monkeypatch.setattr(transfer, "TRIES", 1)
    wire.cuts = [1_000_000]
    with pytest.raises(FetchError, match=r"no progress .* MB are kept in .*x\.part"):
        fetch(URL, tmp_path / "x")
    bucket("v1/x+y z.h5ad", changed)
    assert fetch(URL, tmp_path / "x").sha256 == hashlib.sha256(changed).hexdigest()
    assert (tmp_path / "x").read_bytes() == changed


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("s3://atlas/absent", "there is no such bucket or object (404"),
        ("s3://no-such-bucket/x", "there is no such bucket or object (404"),
        ("s3://atlas/private.h5ad", "access is refused (403"),
        ("s3://Not A Bucket/x", "write s3://bucket/key"),
    ],
)
def test_an_s3_object_that_cannot_be_had_is_one_sentence_and_asked_for_once(wire, tmp_path, url, found):
    with pytest.raises(FetchError) as error:
        fetch(url, tmp_path / "x", ledger=tmp_path / "sums.yaml")
    assert found in one_sentence(error) and url in one_sentence(error)
    assert len(wire.said) <= 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "error", "found"),
    [
        (503, TransientError, "503 SlowDown"),
        (429, TransientError, "429 SlowDown"),
        (400, FetchError, "400 SlowDown"),
        (301, FetchError, "301 SlowDown"),
    ],
)
def test_other_answers_of_s3_are_sorted_into_what_may_pass_and_what_will_not(status, error, found):
    from botocore.exceptions import ClientError

    answer = {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(error, match=found), s3._errors("s3://b/k"):
        raise ClientError(answer, "GetObject")


def test_an_s3_object_with_a_wrong_sum_is_removed(wire, tmp_path):
    (tmp_path / "sums.yaml").write_text(yaml.safe_dump({URL: {"sha256": "0" * 64}}))
    with pytest.raises(FetchError, match="the sha256 is"):
        fetch(URL, tmp_path / "x", ledger=tmp_path / "sums.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["sums.yaml"]
    assert Ledger(tmp_path / "sums.yaml").get(URL).sha256 == "0" * 64


def test_an_s3_server_that_cannot_be_reached_is_one_sentence(tmp_path, monkeypatch):
    server = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    with pytest.raises(FetchError, match=f"no progress in 6 tries, the last time because {server} cannot be reached"):
        fetch(URL, tmp_path / "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not an address")
    with pytest.raises(FetchError, match="cannot be requested"):
        fetch(URL, tmp_path / "x")


def test_a_member_of_an_archive_in_s3(wire, bucket, tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("weights/model.pt")
        info.size = len(DATA)
        archive.addfile(info, io.BytesIO(DATA))
    bucket("weights.tar.gz", packed.getvalue())
    assert fetch("s3://atlas/weights.tar.gz!weights/model.pt", tmp_path / "x", archives=tmp_path).sha256 == SHA


# --- packages ---------------------------------------------------------------------------------------------------------

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

    def trust(self, archive: Path, kind: str, sha256: str | None = None):
        sha256 = sha256 or hashlib.sha256(archive.read_bytes()).hexdigest()
        self.ledger.write_text(yaml.safe_dump({"pypi://tinycells==1.2": {"kind": kind, "sha256": sha256}}))

    def fetch(self, member: str, output: Path, **more) -> Fetched:
        return fetch(f"pypi://tinycells==1.2/{member}", output, ledger=self.ledger, archives=self.archives, **more)


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
    assert index.fetch("tinycells/data.zip!human.h5ad", tmp_path / "human") == Fetched(len(DATA), SHA)
    wheel.unlink()  # from now on pip would find nothing
    index.fetch("tinycells/m.h5ad", tmp_path / "mouse")
    assert (tmp_path / "human").read_bytes() == DATA
    assert (tmp_path / "mouse").read_bytes() == OTHER
    entries = Ledger(index.ledger).entries()
    assert entries["pypi://tinycells==1.2"].kind == "wheel"
    assert entries["pypi://tinycells==1.2/tinycells/data.zip!human.h5ad"].sha256 == SHA
    assert sorted(path.name for path in index.archives.iterdir()) == ["tinycells-1.2.whl", "tinycells-1.2.whl.lock"]


def test_a_damaged_archive_is_fetched_again(index, tmp_path):
    index.trust(make_wheel(index.packages, {"x": DATA}), "wheel")
    index.archives.mkdir()
    (index.archives / "tinycells-1.2.whl").write_bytes(b"damaged")
    (index.archives / "tinycells-1.2.whl.tmp").mkdir()
    (index.archives / "tinycells-1.2.whl.tmp" / "left").write_text("by a killed run")
    assert index.fetch("x", tmp_path / "x").sha256 == SHA
    assert not (index.archives / "tinycells-1.2.whl.tmp").exists()


def test_an_sdist_is_read_without_its_top_folder(index, tmp_path):
    index.trust(make_sdist(index.packages, {"test/data/x.h5ad": DATA}), "sdist")
    assert index.fetch("test/data/x.h5ad", tmp_path / "x").sha256 == SHA
    with pytest.raises(FetchError, match="the archive has no member"):
        index.fetch("tinycells-1.2/test/data/x.h5ad", tmp_path / "y")
    with pytest.raises(FetchError, match="is a link"):
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
    assert len(Ledger(index.ledger).entries()) == 5


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
    with pytest.raises(FetchError, match=r"sha256 of the archive is not known.*sums\.yaml"):
        index.fetch("x", tmp_path / "x")
    assert not index.runs.exists() and not index.archives.exists()


def test_a_package_that_the_index_lacks_is_one_sentence(index, tmp_path):
    index.trust(make_sdist(index.packages, {"x": DATA}), "wheel")  # there is an sdist and no wheel
    with pytest.raises(FetchError) as error:
        index.fetch("x", tmp_path / "x")
    assert "no such wheel, or cannot be reached" in one_sentence(error)
    assert not index.runs.exists()


def test_pip_in_the_working_directory_is_not_run(index, tmp_path, monkeypatch):
    (tmp_path / "pip.py").write_text("raise SystemExit('not pip')")
    monkeypatch.chdir(tmp_path)
    index.trust(make_wheel(index.packages, {"x": DATA}), "wheel")
    assert index.fetch("x", tmp_path / "x").sha256 == SHA


@pytest.mark.network
def test_a_real_wheel_of_the_package_index(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "checksums.yaml").write_text(
        "pypi://came==0.1.13:\n"
        "  kind: wheel\n"
        "  sha256: 7fdb1a65006ca668e0cab51576a09bf540f074346e5f120ec654cd4f91627f7d\n"
    )
    url = "pypi://came==0.1.13/came/sample_data.zip!raw-Baron_human.h5ad"
    sha256 = "c0fca7f46d5ae82d8b5753ed5ce246cded66e2e870face389bd11084aab17700"
    done = download(url, "human.h5ad", "--sha256", sha256, "--size", "33163434", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "human.h5ad").open("rb") as file:
        assert file.read(8) == b"\x89HDF\r\n\x1a\n"
    assert Ledger(tmp_path / "config" / "checksums.yaml").get(url).sha256 == sha256

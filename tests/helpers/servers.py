"""Servers on loopback that do what real ones do wrong."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import logging
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class Answer:
    """What is said to one GET.

    `framing`: how the end of the body is told: "length", "chunked" or "none". `cut`: bytes of the body that come before the
    connection ends. `length_off` is added to the Content-Length.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    framing: str = "length"
    cut: int | None = None
    length_off: int = 0
    drip: Callable[[], None] | None = None


class ObjectServer(ThreadingHTTPServer):
    """Serves `objects`, path -> bytes or the answers to give one after the other, the last for ever."""

    daemon_threads = True

    def __init__(self, certificate: Path | None = None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes | list[Answer]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
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
        pass  # a client that ended, or that trusts no such certificate


class _Handler(BaseHTTPRequestHandler):
    server: ObjectServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body: bool):
        self.server.requests.append((self.path, dict(self.headers)))
        answers = self.server.objects.get(urlsplit(self.path).path, [Answer(status=404)])
        if isinstance(answers, bytes):
            answers = [Answer(answers)]
        answer = answers.pop(0) if len(answers) > 1 and body else answers[0]
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.framing == "length":
            self.send_header("Content-Length", str(len(answer.body) + answer.length_off))
        elif answer.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        whole = answer.cut is None and answer.framing != "none" and not answer.length_off
        self.close_connection = not whole
        self.end_headers()
        sent = answer.body[: answer.cut]
        for at in range(0, len(sent), 20_000) if body else ():
            if answer.drip:
                answer.drip()
            piece = sent[at : at + 20_000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if answer.framing == "chunked" else piece)
        if body and answer.framing == "chunked" and answer.cut is None:
            self.wfile.write(b"0\r\n\r\n")


def etag(content: bytes) -> dict[str, str]:
    """Return the headers by which a hub names a large file's sum."""
    return {"X-Repo-Commit": "0" * 40, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}


def closed_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Tunnel(ThreadingHTTPServer):
    """An https proxy that knows `hosts` alone, each by the port on loopback that answers for it."""

    daemon_threads = True

    def __init__(self, hosts: Mapping[str, int]):
        super().__init__(("127.0.0.1", 0), _TunnelHandler)
        self.hosts = hosts
        self.refused: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


class _TunnelHandler(BaseHTTPRequestHandler):
    server: Tunnel

    def log_message(self, *_):
        pass

    def do_CONNECT(self):
        host = self.path.rpartition(":")[0]
        if host not in self.server.hosts:
            self.server.refused.append(self.path)
            self.send_error(403)
            return
        with socket.create_connection(("127.0.0.1", self.server.hosts[host])) as upstream:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: upstream, upstream: self.connection}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    if not (data := end.recv(1 << 16)):
                        return
                    ends[end].sendall(data)


@dataclass
class S3Server:
    """moto's S3 on loopback, open to unsigned readers."""

    url: str

    def put(self, bucket: str, key: str, content: bytes) -> None:
        client = self._client()
        if bucket not in [entry["Name"] for entry in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
        client.put_object(Bucket=bucket, Key=key, Body=content, ACL="public-read")

    def keys(self, bucket: str) -> list[str]:
        pages = self._client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def get(self, bucket: str, key: str) -> bytes:
        return self._client().get_object(Bucket=bucket, Key=key)["Body"].read()

    def _client(self):
        import boto3

        credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-west-2"}
        return boto3.client("s3", endpoint_url=self.url, **credentials)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Yield an S3 server of our own."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield S3Server(f"http://{host}:{port}")
    finally:
        server.stop()


def write_certificate(path: Path, names: Sequence[str] = ("127.0.0.1",)) -> Path:
    """Write a key and a certificate for hosts or addresses that signs itself, as one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cellgauge test")])
    now = datetime.datetime.now(datetime.UTC)
    hosts = [
        x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdecimal() else x509.DNSName(name) for name in names
    ]
    signed = (
        x509.CertificateBuilder(issuer, issuer, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(hosts), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*secret) + signed.public_bytes(serialization.Encoding.PEM))
    return path

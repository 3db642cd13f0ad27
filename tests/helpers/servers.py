"""Servers on loopback that do what real ones do wrong."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import Callable
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

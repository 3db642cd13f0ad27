"""Objects behind https."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urljoin, urlsplit

from cellgauge.errors import one_line
from cellgauge.fetch.streams import CHUNK, FetchError, Opener, Stream, TransientError

TIMEOUT = (10, 60)  # seconds to connect, and between two packets
MAX_REDIRECTS = 8
TRANSIENT_STATUS = frozenset((408, 425, 429))


def opener(url: str) -> Opener:
    """Return what opens `url` by a GET that is ranged where a part is already there.

    Raises:
        FetchError: the URL is not https (http is for loopback alone), names no host, or carries a password.
    """
    _require_secure(url)
    if "@" in urlsplit(url).netloc:
        host = urlsplit(url).hostname
        raise FetchError(f"https://...@{host}: a URL with a user name is not taken; only public objects are fetched")

    @contextmanager
    def open_stream(offset: int, validator: str | None) -> Iterator[Stream]:
        with _session() as session:
            response = _get(session, url, offset, validator)
            try:
                start, size = _extent(response)
                yield Stream(start, size, _validator(response), _chunks(response))
            finally:
                response.close()

    return open_stream


def _session():
    import requests

    session = requests.Session()
    # A session with an auth of its own does not look into .netrc; this one adds nothing.
    session.auth = lambda request: request
    # The bytes as they are stored, so that offsets and sums mean the same to everybody.
    session.headers["Accept-Encoding"] = "identity"
    return session


def _get(session, url: str, offset: int, validator: str | None):
    """Ask for the rest of the object, and for all of it where the server cannot give just that rest."""
    if offset and validator:
        response = _follow(session, url, {"Range": f"bytes={offset}-", "If-Range": validator})
        # If-Range should make a server send a changed object whole; not every server knows it.
        same = response.status_code == 206 and _validator(response) == validator
        if response.status_code == 200 or (same and _extent(response)[0] == offset):
            return response
        response.close()
        if response.status_code not in (206, 416):
            _refuse(url, response)
    response = _follow(session, url, {})
    if response.status_code != 200:
        response.close()
        _refuse(url, response)
    return response


def _follow(session, url: str, headers: dict[str, str]):
    """GET `url` and what it redirects to; each hop is checked, which requests would not do."""
    target = url
    for _ in range(MAX_REDIRECTS):
        response = _request(session, target, headers)
        if not response.is_redirect:
            return response
        response.close()
        origin, target = target, urljoin(target, response.headers["location"])
        if urlsplit(origin).scheme == "https" and urlsplit(target).scheme != "https":
            raise FetchError(f"{url}: the server redirects to {target}, which is not https; use another address")
        _require_secure(target)
    raise FetchError(f"{url}: the server redirects more than {MAX_REDIRECTS} times; use another address")


def _request(session, url: str, headers: dict[str, str]):
    import requests

    # What goes unencrypted stays on this machine, so past any proxy.
    session.trust_env = urlsplit(url).scheme != "http"
    try:
        return session.get(url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False)
    except requests.exceptions.SSLError as error:
        if "certificate verify failed" not in str(error).lower():
            raise TransientError(f"the encrypted connection failed ({_cause(error)})") from None
        raise FetchError(
            f"{url}: the server's certificate cannot be verified ({_cause(error)}); correct the address, or name your "
            "certificates in REQUESTS_CA_BUNDLE"
        ) from None
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        raise TransientError(f"{urlsplit(url).netloc} cannot be reached ({_cause(error)})") from None
    except (requests.exceptions.RequestException, ValueError) as error:
        raise FetchError(f"{url}: this cannot be requested ({one_line(error)}); correct the address") from None


def _cause(error: BaseException) -> str:
    """Return what the system said: the exceptions around it repeat the address and the pool of connections."""
    link: BaseException | None = error
    while link is not None:
        if text := getattr(link, "strerror", None):
            return text
        link = link.__cause__ or link.__context__
    return type(error).__name__


def _refuse(url: str, response) -> None:
    status, reason = response.status_code, response.reason
    if status in TRANSIENT_STATUS or status >= 500:
        raise TransientError(f"the server answered {status} {reason}")
    if status in (404, 410):
        raise FetchError(f"{url}: the server has no such object ({status}); correct the address")
    if status in (401, 403):
        raise FetchError(
            f"{url}: the server refuses access ({status}); only public objects are fetched, so correct the address or "
            "fetch the object by hand and give its path"
        )
    raise FetchError(f"{url}: the server answered {status} {reason}; correct the address")


def _extent(response) -> tuple[int, int | None]:
    """Return (offset of the first byte, size of the whole object or None)."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not found:
        raise TransientError("the server sent a part without saying which")
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _validator(response) -> str | None:
    """Return the strong ETag, else the date of the last change; a weak ETag does not promise the same bytes."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _chunks(response) -> Iterator[bytes]:
    import urllib3

    try:
        yield from response.raw.stream(CHUNK, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise TransientError(f"the connection broke ({type(error).__name__})") from None


def _require_secure(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise FetchError(f"{url}: this is not a URL ({error}); correct it") from None
    if not host:
        raise FetchError(f"{url}: the URL names no host; correct it")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise FetchError(f"{url}: {parts.scheme} is not taken, since anyone on the way could change it; use https")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

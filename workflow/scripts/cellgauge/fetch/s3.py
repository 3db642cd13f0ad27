"""Public objects in S3, read without an identity and by exact key."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager

from cellgauge.errors import one_line
from cellgauge.fetch.streams import CHUNK, FetchError, Opener, Stream, TransientError

REGION = "us-west-2"
TIMEOUTS = {"connect_timeout": 10, "read_timeout": 60}  # seconds
# Codes of answers that say "not this part of this object": it has changed.
CHANGED = frozenset((412, 416))
TRANSIENT_STATUS = frozenset((408, 429))


def opener(url: str) -> Opener:
    """Return what opens `s3://bucket/key`; the environment's AWS_ENDPOINT_URL names another server than Amazon's.

    Raises:
        FetchError: the URL does not name one object.
    """
    found = re.fullmatch(r"s3://([A-Za-z0-9._-]+)/(.*[^/])", url, re.DOTALL)
    if not found:
        raise FetchError(f"{url}: this does not name one object of a bucket; write s3://bucket/key")
    bucket, key = found.groups()

    @contextmanager
    def open_stream(offset: int, validator: str | None) -> Iterator[Stream]:
        with _errors(url):
            client = _client()
        with closing(client):
            with _errors(url):
                response, start = _get(client, bucket, key, offset, validator)
            size = start + response["ContentLength"]
            with closing(response["Body"]) as body:
                yield Stream(start, size, response.get("ETag"), _chunks(body, url))

    return open_stream


def _client():
    import boto3
    import botocore
    import botocore.session
    from botocore.config import Config

    # Neither profiles nor keys are looked at, in files or in the environment.
    core = botocore.session.Session(
        session_vars={
            "profile": (None, [], None, None),
            "config_file": (None, [], os.devnull, None),
            "credentials_file": (None, [], os.devnull, None),
        }
    )
    config = Config(
        signature_version=botocore.UNSIGNED,
        # Tries are counted in one place, by the transfer, which knows whether there was progress.
        retries={"total_max_attempts": 1},
        # Checks whole answers alone, and complains when all of the bytes are stored; the sums are the transfer's.
        response_checksum_validation="when_required",
        **TIMEOUTS,
    )
    return boto3.Session(botocore_session=core).client("s3", region_name=REGION, config=config)


def _get(client, bucket: str, key: str, offset: int, validator: str | None):
    from botocore.exceptions import ClientError

    if offset and validator:
        try:
            rest = client.get_object(Bucket=bucket, Key=key, Range=f"bytes={offset}-", IfMatch=validator)
            # Not every server that speaks S3 knows the condition and the range.
            if rest.get("ETag") == validator and "ContentRange" in rest:
                return rest, offset
            rest["Body"].close()
        except ClientError as error:
            if _status(error) not in CHANGED:
                raise
    return client.get_object(Bucket=bucket, Key=key), 0


def _chunks(body, url: str) -> Iterator[bytes]:
    with _errors(url):
        yield from body.iter_chunks(CHUNK)


@contextmanager
def _errors(url: str) -> Iterator[None]:
    """Turn boto's exceptions into what may pass and what will not."""
    import urllib3
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        _refuse(url, error)
    except exceptions.SSLError as error:
        if "certificate verify failed" not in str(error).lower():
            raise TransientError("the encrypted connection failed") from None
        raise FetchError(
            f"{url}: the server's certificate cannot be verified; name your certificates in AWS_CA_BUNDLE"
        ) from None
    except (exceptions.HTTPClientError, exceptions.IncompleteReadError) as error:
        raise TransientError(f"the connection broke ({type(error).__name__})") from None
    except exceptions.ConnectionError:
        server = os.environ.get("AWS_ENDPOINT_URL", "Amazon S3")
        raise TransientError(f"{server} cannot be reached") from None
    except urllib3.exceptions.HTTPError as error:
        raise TransientError(f"the connection broke ({type(error).__name__})") from None
    except (exceptions.BotoCoreError, ValueError) as error:
        raise FetchError(f"{url}: this cannot be requested ({one_line(error)}); correct the address") from None


def _status(error) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _refuse(url: str, error) -> None:
    status, code = _status(error), error.response.get("Error", {}).get("Code", "")
    if status in TRANSIENT_STATUS or status >= 500:
        raise TransientError(f"the server answered {status} {code}") from None
    if status == 404:
        raise FetchError(f"{url}: there is no such bucket or object (404 {code}); correct the address") from None
    if status in (401, 403):
        raise FetchError(
            f"{url}: access is refused ({status} {code}), since the object is not public or, in a bucket that may not "
            "be listed, does not exist; correct the address"
        ) from None
    raise FetchError(f"{url}: the server answered {status} {code}; correct the address") from None

"""Files of repositories on the Hugging Face Hub, at a revision that is named."""

from __future__ import annotations

import re

from cellgauge.fetch import https
from cellgauge.fetch.streams import FetchError, Opener


def opener(url: str) -> Opener:
    """Return what opens `hf://owner/repo@revision/path/in/repo`; the environment's HF_ENDPOINT names another server.

    A revision is a commit, or a tag or branch: what these last name can change, and is then noticed by its sum.

    Raises:
        FetchError: the URL does not name one file at a revision.
    """
    found = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)@([\w.-]+)/(\S*[^/\s])", url)
    if not found:
        raise FetchError(f"{url}: this does not name one file at a revision; write hf://owner/repo@revision/file")
    from huggingface_hub import hf_hub_url

    repository, revision, path = found.groups()
    return https.opener(hf_hub_url(repository, path, revision=revision))

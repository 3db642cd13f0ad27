"""One object on its way: a folder of its own, and the watch over how far and how fast it comes."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from cellgauge.core.errors import FetchError

INTERVAL = 10.0  # seconds between two lines on how far a transfer is
WINDOW, FLOOR = 300.0, 300_000  # seconds in which at least so many bytes come; six times the seconds for the first byte
PAUSES = (1.0, 5.0, 25.0)  # seconds before what broke off is tried again, from its beginning


class TransientError(FetchError):
    """An object broke off on its way; the next try may succeed."""


@dataclass
class Transfer:
    """An object on its way into the file `path`, whose folder is its own; `size` is in bytes, where the source says it.

    `framed` tells whether the protocol would show an early end, `etag` what the server calls the object, and `checked` that
    its bytes were compared with a checksum of the source.
    """

    url: str
    path: Path
    size: int | None = None
    framed: bool = True
    etag: str = ""
    checked: bool = False

    def run(self, bring: Callable[[], None], *, watched: bool) -> None:
        """Call `bring`, again where it breaks off, and say on stderr how far it is; end what is `watched` and too slow."""
        for pause in (*PAUSES, None):
            done: Future[None] = Future()
            # A daemon: no library lets a stalled read be ended from outside, and the process must not wait for it.
            Thread(target=_settle, args=(done, bring), daemon=True).start()
            try:
                return self._watch(done, watched)
            except TransientError as error:
                if pause is None:
                    raise
                print(f"{error}: again from the beginning in {pause:g} s", file=sys.stderr, flush=True)
                time.sleep(pause)

    def _watch(self, done: Future[None], watched: bool) -> None:
        began = since = time.monotonic()
        before = size = 0
        while not wait([done], INTERVAL).done:
            now, files = time.monotonic(), self.path.parent.rglob("*")
            with suppress(OSError):  # of a file that a library removed in between
                size = sum(file.stat().st_size for file in files if file.is_file())
            share = f" of {self.size / 1e6:.1f} ({size / self.size:.0%})" if self.size else ""
            so_far = f"{size / 1e6:.1f}{share} MB in {now - began:.0f} s"
            print(f"{self.url.rpartition('/')[2]}: {so_far}", file=sys.stderr, flush=True)
            late = now - since >= WINDOW * (1 if size else 6)
            if watched and late and 0 <= size - before < FLOOR:
                raise FetchError(f"{self.url}: less than {FLOOR} bytes came in {now - since:.0f} s; run again later")
            if late or size < before:  # less than before: it began anew
                since, before = now, size
        done.result()


def _settle(done: Future[None], bring: Callable[[], None]) -> None:
    try:
        done.set_result(bring())
    except BaseException as error:
        done.set_exception(error)

"""How far a long transfer has come, said on stderr."""

from __future__ import annotations

import sys
import time

from cellgauge.fetch.streams import MEGABYTE, megabytes

TERMINAL_INTERVAL = 0.2  # seconds between two states of the line on a terminal
LOG_INTERVAL = 5.0  # seconds between two lines of a log


class Progress:
    """Percent, MB, MB/s and the time left, on one line that is rewritten on a terminal and line by line in a log."""

    def __init__(self, label: str, done: int = 0, total: int | None = None):
        self.label, self.total = label, total
        self._stream = sys.stderr
        self._terminal = self._stream.isatty()
        self._interval = TERMINAL_INTERVAL if self._terminal else LOG_INTERVAL
        self._began = self._said = time.monotonic()
        self._before = done  # what an earlier run left does not count for the speed
        self._done = done
        self._spoke = False

    def update(self, done: int) -> None:
        """Note that `done` bytes are there, and say so where the last word is old enough."""
        self._done = done
        if time.monotonic() - self._said >= self._interval:
            self._say()

    def restart(self) -> None:
        """Note that the transfer begins again at the first byte."""
        self._done = self._before = 0
        self._began = time.monotonic()

    def note(self, text: str) -> None:
        """Say something beside the progress, on a line of its own."""
        print(f"\r\033[K{text}" if self._terminal else text, file=self._stream, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *failure: object) -> None:
        # Nothing is said of a transfer that was over before the first line was due.
        if self._spoke:
            self._say()
            if self._terminal:
                print(file=self._stream, flush=True)

    def _say(self) -> None:
        self._said, self._spoke = time.monotonic(), True
        text = f"{self.label}: {self._state()}"
        if self._terminal:
            print(f"\r\033[K{text}", end="", file=self._stream, flush=True)
        else:
            print(text, file=self._stream, flush=True)

    def _state(self) -> str:
        seconds = max(self._said - self._began, 1e-9)
        speed = (self._done - self._before) / seconds
        rate = f"{speed / MEGABYTE:.1f} MB/s"
        if not self.total:
            return f"{megabytes(self._done)}, {rate}"
        left = f"{(self.total - self._done) / speed:.0f} s left" if speed > 0 else "stalled"
        return f"{self._done / self.total:.0%} of {megabytes(self.total)}, {rate}, {left}"

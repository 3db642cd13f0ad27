"""A headless Chromium for tests, driven through its own pipe (the DevTools protocol): no package beside the browser.

python tests/helpers/browser.py results/report.html#overview docs/report.png --width 1280
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT = 60.0
"""Seconds to wait for an answer of the browser, which may start on a busy machine."""


def chromium() -> str | None:
    """Return the path of a Chromium, None when there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page in a browser of its own, with a fresh profile. Use it as a context manager.

    Attributes:
        errors: what the page's console was told as error or warning, and exceptions that nothing caught.
        requests: the addresses that the page asked for.
    """

    def __init__(self, width: int = 1280, height: int = 900, *, dark: bool = False, javascript: bool = True) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._numbers = iter(range(1, 1_000_000))
        self._loaded = False
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._process, self._to, self._from = self._start(Path(self._profile.name))
        self._waiting = b""
        try:
            (target,) = [t for t in self._call("Target.getTargets", session=None)["targetInfos"] if t["type"] == "page"]
            options = {"targetId": target["targetId"], "flatten": True}
            self._session = self._call("Target.attachToTarget", options, session=None)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self._call(f"{domain}.enable")
            self.resize(width, height)
            self.emulate(dark=dark)
            self._call("Emulation.setScriptExecutionDisabled", {"value": not javascript})
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # --- what a test does --------------------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Open an address and wait until the page has loaded."""
        self._loaded = False
        self._call("Page.navigate", {"url": "about:blank"})
        self._wait_for_load()
        self.errors.clear()
        self.requests.clear()
        self._loaded = False
        self._call("Page.navigate", {"url": url})
        self._wait_for_load()

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page; raise RuntimeError when it throws."""
        options = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self._call("Runtime.evaluate", options)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def save_to(self, folder: str | Path) -> None:
        """Let what the page downloads be written into `folder`."""
        options = {"behavior": "allow", "downloadPath": str(folder)}
        self._call("Browser.setDownloadBehavior", options, session=None)

    def press(self, key: str) -> None:
        """Press and release a key, such as Tab or Enter."""
        text = {"text": "\r"} if key == "Enter" else {}
        code = {"Tab": 9, "Enter": 13}[key]
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self._call("Input.dispatchKeyEvent", {"type": "keyDown", **common, **text})
        self._call("Input.dispatchKeyEvent", {"type": "keyUp", **common})

    def resize(self, width: int, height: int) -> None:
        """Give the page a size in pixels; below 500 it is a phone's."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self._call("Emulation.setDeviceMetricsOverride", metrics)

    def screenshot(self, path: str | Path, *, whole: bool = False) -> None:
        """Write what is seen, or the whole page, as PNG."""
        answer = self._call("Page.captureScreenshot", {"captureBeyondViewport": whole} | (self._all() if whole else {}))
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(base64.b64decode(answer["data"]))

    def emulate(self, *, dark: bool = False, printed: bool = False) -> None:
        """Show the page in light or in dark mode, on a screen or as it would be printed."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", {"media": "print" if printed else "screen", "features": [scheme]})

    def snapshot(self) -> list[float]:
        """Return the heights (pixels) of the tables as laid out, without running a script in the page; 0 if not shown."""
        options = {"computedStyles": [], "includeDOMRects": True}
        taken = self._call("DOMSnapshot.captureSnapshot", options)
        names, document = taken["strings"], taken["documents"][0]
        tables = [n for n, name in enumerate(document["nodes"]["nodeName"]) if names[name] == "TABLE"]
        layout = document["layout"]
        heights = {node: bounds[3] for node, bounds in zip(layout["nodeIndex"], layout["bounds"], strict=True)}
        return [heights.get(node, 0) for node in tables]

    # --- the pipe ----------------------------------------------------------------------------------------------------

    def _start(self, profile: Path) -> tuple[subprocess.Popen, int, int]:
        found = chromium()
        if found is None:
            raise FileNotFoundError(f"none of {', '.join(NAMES)} is on PATH; on Debian: apt-get install chromium")
        read_here, write_there = os.pipe()
        read_there, write_here = os.pipe()
        arguments = ["--headless", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--disable-gpu"]
        arguments += [
            "--no-first-run",
            "--disable-background-networking",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")  # Chromium refuses to sandbox what root runs
        # the browser reads commands from descriptor 3 and answers on 4; a shell puts the pipes there
        plumbing = f'exec "$@" 3<&{read_there} 4>&{write_there}'
        process = subprocess.Popen(
            ["/bin/bash", "-c", plumbing, "chromium", found, *arguments, "about:blank"],
            pass_fds=(read_there, write_there),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read_there)
        os.close(write_there)
        os.set_blocking(read_here, False)
        return process, write_here, read_here

    def _call(
        self, method: str, options: Mapping[str, Any] | None = None, session: str | None = "own"
    ) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": dict(options or {})}
        if session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + TIMEOUT
        while b"\0" not in self._waiting:
            try:
                more = os.read(self._from, 1 << 20)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise TimeoutError(f"Chromium said nothing for {TIMEOUT:.0f} s") from None
                time.sleep(0.005)
                continue
            if not more:
                raise RuntimeError("Chromium ended")
            self._waiting += more
        message, _, self._waiting = self._waiting.partition(b"\0")
        answer = json.loads(message)
        self._note(answer.get("method", ""), answer.get("params", {}))
        return answer

    def _note(self, event: str, said: Mapping[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(said["exceptionDetails"]))
        elif event == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.errors.append(said["entry"]["text"])
        elif event == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(said["args"]))

    def _wait_for_load(self) -> None:
        while not self._loaded:
            self._receive()

    def _all(self) -> dict[str, Any]:
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {**{key: size[key] for key in ("x", "y", "width", "height")}, "scale": 1}}

    def close(self) -> None:
        """End the browser."""
        for descriptor in (self._to, self._from):
            os.close(descriptor)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()


def main() -> None:
    cli = argparse.ArgumentParser(description="Take a picture of a page.")
    cli.add_argument("page", help="an HTML file, with #page?... where wanted")
    cli.add_argument("output", metavar="PNG")
    cli.add_argument("--width", type=int, default=1280)
    cli.add_argument("--height", type=int, help="only so much of it (default: the whole page)")
    cli.add_argument("--dark", action="store_true")
    args = cli.parse_args()
    path, _, anchor = args.page.partition("#")
    with Browser(args.width, args.height or 900, dark=args.dark) as browser:
        browser.open(f"{Path(path).resolve().as_uri()}#{anchor}")
        browser.screenshot(args.output, whole=not args.height)


if __name__ == "__main__":
    main()

"""A headless Chromium, driven over its debugging pipe; nothing but the program itself is needed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
MISSING = (
    "no Chromium: install Debian's chromium-headless-shell, or name a program in the environment "
    "variable CHROMIUM"
)


def program() -> str:
    """The browser.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        raise FileNotFoundError(MISSING)
    return found


class Page:
    """One tab; collects what goes to its console."""

    def __init__(self, read: int, write: int):
        self._read, self._write = read, write
        self._buffer, self._number = b"", 0
        self.session: str | None = None
        self.problems: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def wait(self, event: str) -> None:
        """Wait for an event."""
        while self._next().get("method") != event:
            pass

    def run(self, script: str) -> Any:
        """The value of an expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def click(self, x: float, y: float) -> None:
        """Press and release the pointer."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            got = os.read(self._read, 1 << 16)
            if not got:
                raise RuntimeError("the browser has ended")
            self._buffer += got
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        name = message.get("method")
        if name in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.problems.append(json.dumps(message["params"]))
        if name == "Runtime.consoleAPICalled" and message["params"]["type"] in ("error", "assert"):
            self.problems.append(json.dumps(message["params"]))
        return message


@contextlib.contextmanager
def opened(page: Path, width: int, height: int, theme: str) -> Iterator[Page]:
    """A file in a window of this size and theme, ``light`` or ``dark``."""
    to_browser, write = os.pipe()
    read, from_browser = os.pipe()

    def arrange() -> None:  # the protocol's descriptors are 3 and 4
        low, high = os.dup(to_browser), os.dup(from_browser)
        os.dup2(low, 3)
        os.dup2(high, 4)

    words = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-pipe",
        "about:blank",
    ]
    process = subprocess.Popen(
        [program(), *words],
        preexec_fn=arrange,
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        tab = Page(read, write)
        target = tab.call("Target.createTarget", url="about:blank")["targetId"]
        tab.session = tab.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            tab.call(f"{domain}.enable")
        tab.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        feature = {"name": "prefers-color-scheme", "value": theme}
        tab.call("Emulation.setEmulatedMedia", features=[feature])
        tab.call("Page.navigate", url=page.resolve().as_uri())
        tab.wait("Page.loadEventFired")
        yield tab
    finally:
        process.terminate()
        process.wait(20)
        os.close(read)
        os.close(write)

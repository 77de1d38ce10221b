"""Drives a real headless Chromium over its debugging pipe, with the standard library alone."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
]


def binary() -> str | None:
    """Return where Chromium is, if it is here."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One page of one browser. `events` holds what the browser told, in order."""

    def __init__(self, *, allow_script: bool = True, deadline_s: float = 60.0) -> None:
        self._profile = tempfile.mkdtemp(prefix="report-test-")
        self._deadline_s = deadline_s
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        # The browser reads its orders from descriptor 3 and answers on 4.
        script = 'exec 3<&"$0" 4>&"$1"; shift; exec "$@"'
        command = ["bash", "-c", script, str(to_browser), str(from_browser), binary() or ""]
        self._process = subprocess.Popen(
            [*command, *FLAGS, f"--user-data-dir={self._profile}"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._last = 0
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", {"url": "about:blank"}, session=False)
        attached = self.ask(
            "Target.attachToTarget",
            {"targetId": target["targetId"], "flatten": True},
            session=False,
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        if not allow_script:
            self.ask("Emulation.setScriptExecutionDisabled", {"value": True})

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The whole group, which this class started: children outlive the browser's own process,
        # and would write into the profile while it is removed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._out)
        os.close(self._in)
        time.sleep(0.2)
        shutil.rmtree(self._profile, ignore_errors=True)

    def ask(
        self, method: str, parameters: dict[str, Any] | None = None, *, session: bool = True
    ) -> dict[str, Any]:
        """Send one order and return its answer."""
        self._last += 1
        order: dict[str, Any] = {"id": self._last, "method": method, "params": parameters or {}}
        if session:
            order["sessionId"] = self._session
        os.write(self._out, json.dumps(order).encode() + b"\0")
        ends = time.monotonic() + self._deadline_s
        while True:
            told = self._next(ends)
            if told.get("id") == self._last:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['error']}")
                return told["result"]

    def _next(self, ends: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, ends - time.monotonic()))
            if not ready:
                raise TimeoutError("chromium did not answer")
            piece = os.read(self._in, 1 << 16)
            if not piece:
                raise RuntimeError("chromium ended")
            self._buffer += piece
        line, self._buffer = self._buffer.split(b"\0", 1)
        told: dict[str, Any] = json.loads(line)
        if "method" in told:
            self.events.append(told)
            if told["method"] == "Page.javascriptDialogOpening":
                # Not waited for: a page that is stuck in a dialog answers nothing else.
                self._last += 1
                order = {
                    "id": self._last + 1_000_000,
                    "method": "Page.handleJavaScriptDialog",
                    "params": {"accept": False},
                    "sessionId": told.get("sessionId"),
                }
                self._last -= 1
                os.write(self._out, json.dumps(order).encode() + b"\0")
        return told

    def open(self, path: Path, *, fragment: str = "") -> None:
        """Load a file and wait until it and what it started came to rest."""
        self.ask("Page.navigate", {"url": "about:blank"})  # a new fragment alone loads nothing
        self.settle(0.1)
        self.events.clear()
        self.ask("Page.navigate", {"url": path.as_uri() + fragment})
        ends = time.monotonic() + self._deadline_s
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self._next(ends)
        self.settle()

    def settle(self, seconds: float = 0.2) -> None:
        """Take in events until `seconds` passed without one."""
        while True:
            if b"\0" not in self._buffer:
                ready, _, _ = select.select([self._in], [], [], seconds)
                if not ready:
                    return
            self._next(time.monotonic() + self._deadline_s)

    def run(self, script: str) -> Any:
        """Return the value of a script run in the page, outside its policy."""
        answer = self.ask(
            "Runtime.evaluate",
            {"expression": script, "returnByValue": True, "awaitPromise": True},
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until `script` gives something true, and fail where it never does."""
        ends = time.monotonic() + self._deadline_s
        while not self.run(script):
            if time.monotonic() > ends:
                raise TimeoutError(f"never came true: {script}")
            self.settle(0.05)

    def press(self, key: str) -> None:
        """Press one key."""
        text = {"Enter": "\r"}.get(key, key)
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent",
                {"type": kind, "key": key, "text": text if kind == "keyDown" else ""},
            )

    def look(self, *, width: int, dark: bool = False, media: str = "") -> None:
        """Set the width of the window, the colour scheme and the medium."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        self.ask(
            "Emulation.setEmulatedMedia",
            {
                "media": media,
                "features": [
                    {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
                ],
            },
        )

    def picture(self, *, top: float, width: float, height: float, scale: float = 1) -> bytes:
        """Return a stretch of the page as PNG."""
        answer = self.ask(
            "Page.captureScreenshot",
            {
                "captureBeyondViewport": True,
                "clip": {"x": 0, "y": top, "width": width, "height": height, "scale": scale},
            },
        )
        return base64.b64decode(answer["data"])

    def told(self, method: str) -> list[dict[str, Any]]:
        """Return what the browser told by `method` since the page was opened."""
        return [e["params"] for e in self.events if e["method"] == method]

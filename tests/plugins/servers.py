"""Real servers of this machine for a test's while: llama.cpp's, and `transformers serve`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

START_UP_S = 90.0
SCRIPT = Path(__file__).with_name("llama_server.py")
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def llama_server(model: Path, log: Path) -> Iterator[str]:
    """Serve a GGUF file; yield the address without `/v1`."""

    def address() -> str | None:
        found = re.search(r"listening at (http://[\d.:]+)\n", log.read_text(errors="replace"))
        return found[1] if found else None

    with _running([sys.executable, str(SCRIPT), str(model)], log, address) as url:
        yield url


@contextmanager
def transformers_server(folder: Path, log: Path) -> Iterator[str]:
    """Serve a model's folder under its name; yield the address without `/v1`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("transformers")), "serve", folder.name,
        "--host", "127.0.0.1", "--port", str(port), "--device", "cpu",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with _running(command, log, lambda: url, folder=folder.parent) as served:
        yield served


@contextmanager
def _running(
    command: list[str], log: Path, address: Callable[[], str | None], *, folder: Path | None = None
) -> Iterator[str]:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | offline, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        until = time.monotonic() + START_UP_S
        while time.monotonic() < until and process.poll() is None:
            url = address()
            if url is not None and _is_up(f"{url}/health"):
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"{command[1]} did not start:\n{log.read_text()[-3000:]}")
        yield url
    finally:
        process.kill()  # it has nothing to save
        process.wait()


def _is_up(url: str) -> bool:
    try:
        with _DIRECT.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False

"""One subject of the bench: a whole process, timed from outside. Knows no subject."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLIGHT = 32
SECONDS = 0.02


@dataclass(slots=True)
class Subject:
    """One command and its measurements: whole seconds, CPU seconds, and what it printed."""

    name: str
    command: Sequence[str]
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[], None] | None = None
    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)
    inner: list[float] = field(default_factory=list)
    peak: int = 0
    served: int = 0
    failed: str = ""

    @property
    def best(self) -> float:
        return min(self.walls)


class Server:
    """The chat server, in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "server.py"), "0", str(SECONDS)], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> dict[str, int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats") as answer:
            found: dict[str, int] = json.load(answer)
        return found

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


def measure(subject: Subject, server: Server) -> None:
    """Run `subject` once more, unless it failed before."""
    if subject.failed:
        return
    if subject.before:
        subject.before()
    server.stats()
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", **subject.env}
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    try:
        done = subprocess.run(
            subject.command,
            cwd=subject.folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    except subprocess.TimeoutExpired:
        subject.failed = "did not end within 600 s"
        return
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        subject.failed = (done.stdout + done.stderr).strip()[-600:]
        return
    subject.walls.append(wall)
    subject.cpus.append(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime)
    stats = server.stats()
    subject.peak, subject.served = max(subject.peak, stats["peak"]), stats["served"]
    last = done.stdout.strip().rsplit("\n", 1)[-1]
    if last.replace(".", "", 1).isdigit():
        subject.inner.append(float(last))

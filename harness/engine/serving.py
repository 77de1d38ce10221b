"""Starts an existing server of an artifact on this machine, and waits until it answers.

Knows nothing of servers but the commands that plugins give. Whatever happens to this process, the
server ends with it (`keeper`).
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from harness.engine.listening import listens
from harness.engine.project import Project
from harness.errors import BackendError, UsageError
from harness.ports.artifacts import ServeJob, ServerCommand, ServerMaker
from harness.ports.manager import Plugins
from harness.records import Artifact
from harness.store.artifacts import verify

KEEPER = Path(__file__).with_name("keeper.py")
START_UP_S = 300.0
LOOK_S = 0.1
SHOWN = 1500
"""Characters of a server's log that an error shows."""
HOST = "127.0.0.1"
_FIRST_PORT, _PORTS = 20_000, 20_000
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that answers. `url` is the base URL with the kind of server at its end."""

    runtime: str
    model: str
    url: str
    pid: int
    log: Path
    notes: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def is_running(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def wait(self) -> None:
        """Return when it ended by itself."""
        self.process.wait()

    @property
    def peak_bytes(self) -> int | None:
        """The most memory that it had so far; None where the system does not tell."""
        return peak_bytes(self.pid)


def runtime_for(artifact: Artifact, project: Project) -> str:
    """Return the runtime that reads what `artifact` holds: llama.cpp for a GGUF file."""
    is_gguf = (project.home / artifact.folder / "gguf").is_dir()
    return "llama.cpp" if is_gguf else "transformers"


def needs_merging(artifact: Artifact, project: Project, *, runtime: str) -> bool:
    """Return whether `runtime` reads no adapters, and `artifact` is one."""
    is_adapter = (project.home / artifact.folder / "adapter").is_dir()
    return runtime == "transformers" and is_adapter


@contextmanager
def serving(
    artifact: Artifact,
    *,
    runtime: str,
    project: Project,
    plugins: Plugins,
    port: int = 0,
    context: int | None = None,
    slots: int = 1,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """Serve `artifact` while the context lasts. `port` 0 is one that this artifact always gets,
    where it is free: so replies are found again.

    Raises UsageError where the runtime is not here or cannot read it, BackendError where the server
    does not start.
    """
    maker: ServerMaker = plugins.owner("harness_servers", runtime)
    folder = verify(artifact, base=project.home)
    if folder is None:
        raise UsageError(f"artifact {artifact.name!r} is hosted: it is served already")
    job = ServeJob(
        name=re.sub(r"[^\w.-]", "-", artifact.name),
        folder=folder.resolve(),
        base=artifact.base.partition(":")[2],
        port=_port(artifact, port),
        context=context,
        slots=slots,
    )
    command = maker(job)
    with tempfile.TemporaryDirectory(prefix="harness-serve-") as place:
        for name, target in command.links.items():
            (Path(place) / name).symlink_to(target, target_is_directory=target.is_dir())
        log = project.home / "servers" / f"{artifact.digest[:16]}-{runtime}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with (
            log.open("wb") as out,
            _kept(command, place, out=out, environment=environment) as process,
        ):
            assert process.stdout is not None
            pid = int(process.stdout.readline() or b"0")
            served = Served(
                runtime=runtime,
                model=command.model,
                url=f"http://{HOST}:{job.port}/v1#{command.preset}",
                pid=pid,
                log=log,
                notes=command.notes,
                process=process,
            )
            _wait_until_up(served, port=job.port, health=command.health)
            yield served


@contextmanager
def _kept(
    command: ServerCommand, place: str, *, out: IO[bytes], environment: Mapping[str, str] | None
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(KEEPER), *command.argv],
        cwd=place,
        env={**os.environ, **command.environment, **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=out,
        start_new_session=True,  # Ctrl-C is for us: the server ends when we say so
    )
    try:
        yield process
    finally:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()  # the keeper's signal
        process.wait()


def _wait_until_up(served: Served, *, port: int, health: str) -> None:
    """Return when the server answers, and no other that took its port since it was seen free."""
    until = time.monotonic() + START_UP_S
    other = ""
    while served.is_running and time.monotonic() < until:
        if _is_up(f"http://{HOST}:{port}{health}"):
            is_ours = listens(served.pid, port)
            if is_ours is not False and served.is_running:
                return
            other = f" (another process listens at port {port})"
        time.sleep(LOOK_S)
    said = served.log.read_text(encoding="utf-8", errors="replace").strip()[-SHOWN:]
    how = f"did not answer within {START_UP_S:g} s" if served.is_running else "ended at once"
    raise BackendError(
        f"{served.runtime}'s server {how}{other}. Its log, {served.log}, ends:\n{said}"
    )


def _is_up(url: str) -> bool:
    try:
        with closing(_direct.open(url, timeout=2)) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):  # not yet: refused, or busy with loading (503)
        return False


def _port(artifact: Artifact, wanted: int) -> int:
    """Return a port that is free now. Raises UsageError where the wanted one is taken."""
    usual = _FIRST_PORT + int(artifact.digest[:8], 16) % _PORTS
    for port in [wanted] if wanted else [usual, 0]:
        with socket.socket() as free:
            if os.name == "posix":  # a port that was just let go is free; elsewhere it means more
                free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                free.bind((HOST, port))
            except OSError:
                continue
            return int(free.getsockname()[1])
    raise UsageError(f"port {wanted} of {HOST} is taken: name another, or leave --port out")


def peak_bytes(pid: int | str) -> int | None:
    """Return the most memory that a process had, of Linux; None where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, flags=re.M)
    return int(found[1]) * 1024 if found else None

"""A server ends with whoever started it; one that does not start says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from harness.engine.project import Project
from harness.engine.serving import KEEPER, serving
from harness.errors import BackendError, UsageError
from harness.ports.artifacts import ServeJob, ServerCommand
from harness.ports.hookspecs import hookimpl
from harness.ports.manager import Plugins
from harness.records import Artifact
from harness.store.artifacts import adopt

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
OWNER = """
import subprocess, sys
keeper = subprocess.Popen(
    [sys.executable, "-I", "-S", sys.argv[1], sys.executable, "-c", sys.argv[2]],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
)
print(keeper.stdout.readline().decode().strip(), flush=True)
keeper.wait()
"""


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # one that nobody waited for yet is gone all the same
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_owner_leaves_no_server_behind() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(KEEPER), SLEEPER],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert is_there(pid)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    until = time.monotonic() + 10
    while is_there(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_there(pid)


WORKERS = """
import signal, subprocess, sys, time
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); "
worker = subprocess.Popen([sys.executable, "-c", child + "time.sleep(60)"], stdout=subprocess.PIPE)
worker.stdout.readline()
print(worker.pid, file=sys.stderr, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_worker_that_will_not_end_is_ended_with_its_server() -> None:
    keeper = subprocess.Popen(
        [sys.executable, "-I", "-S", str(KEEPER), sys.executable, "-c", WORKERS],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert keeper.stdin is not None
    assert keeper.stderr is not None
    worker = int(keeper.stderr.readline())
    try:
        keeper.stdin.close()
        keeper.wait(timeout=10)
        until = time.monotonic() + 5
        while is_there(worker) and time.monotonic() < until:
            time.sleep(0.02)
        assert not is_there(worker)
    finally:
        keeper.stderr.close()
        if is_there(worker):
            os.kill(worker, signal.SIGKILL)


LATE = """
import http.server, sys, time
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = 204 if time.monotonic() < ready else 200
        print(status, file=sys.stderr, flush=True)
        self.send_response(status)
        self.end_headers()
    def log_message(self, *args):
        pass
ready = time.monotonic() + 0.6
while time.monotonic() < ready and "late" in sys.argv:
    time.sleep(0.05)
with http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health) as server:
    server.serve_forever()
"""


class Here(BaseHTTPRequestHandler):
    """Somebody else's server, which says that it is well."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


class Servers:
    """`web`: a real HTTP server of the standard library; `broken`: one that ends with a reason;
    `soon`: one that answers 204 at first; `robbed`: one whose port is taken before it is up.
    """

    def __init__(self) -> None:
        self.open = ExitStack()

    @hookimpl
    def harness_servers(self) -> dict[str, object]:
        def web(job: ServeJob) -> ServerCommand:
            argv = (sys.executable, "-m", "http.server", str(job.port), "--bind", "127.0.0.1")
            links = {"health": job.folder / "weights.safetensors"}
            return ServerCommand(argv=argv, model=job.name, preset="vllm", links=links)

        def broken(job: ServeJob) -> ServerCommand:
            argv = (sys.executable, "-c", "raise SystemExit('no such kernel')")
            return ServerCommand(argv=argv, model=job.name, preset="vllm")

        def soon(job: ServeJob) -> ServerCommand:
            argv = (sys.executable, "-c", LATE, str(job.port))
            return ServerCommand(argv=argv, model=job.name, preset="vllm")

        def robbed(job: ServeJob) -> ServerCommand:
            other = self.open.enter_context(ThreadingHTTPServer(("127.0.0.1", job.port), Here))
            Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            self.open.callback(other.shutdown)
            argv = (sys.executable, "-c", LATE, str(job.port), "late")
            return ServerCommand(argv=argv, model=job.name, preset="vllm")

        return {"web": web, "broken": broken, "soon": soon, "robbed": robbed}


@pytest.fixture
def plugins() -> Iterator[Plugins]:
    found, servers = Plugins().load(), Servers()
    found.register(servers, name="mine")
    with servers.open:
        yield found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(root=tmp_path, tasks=tmp_path / "evals", store=tmp_path / ".harness/harness.db")


@pytest.fixture
def artifact(project: Project, tmp_path: Path) -> Artifact:
    (tmp_path / "made").mkdir()
    (tmp_path / "made/weights.safetensors").write_bytes(b"some")
    digest, place = adopt(tmp_path / "made", project.home / "artifacts")
    return Artifact(
        digest=digest, name="my model", task="t", tuner="x", base="local:x", base_digest="",
        template_digest="", prompt="", prompt_digest="", data_digest="", rows=0, recipe={}, seed=0,
        folder=place.relative_to(project.home).as_posix(),
    )  # fmt: skip


def test_a_server_is_waited_for_gets_the_same_address_again_and_ends(
    project: Project, plugins: Plugins, artifact: Artifact
) -> None:
    seen = []
    for _ in range(2):
        with serving(artifact, runtime="web", project=project, plugins=plugins) as served:
            assert is_there(served.pid)
            assert served.peak_bytes is None or served.peak_bytes > 1_000_000
            seen.append((served.url, served.model))
            with (
                pytest.raises(UsageError, match="is taken"),
                serving(
                    artifact,
                    runtime="web",
                    project=project,
                    plugins=plugins,
                    port=int(served.url.rsplit(":", 1)[1].split("/")[0]),
                ),
            ):
                pass
        assert not is_there(served.pid)
    assert seen[0] == seen[1]
    assert seen[0][0].startswith("http://127.0.0.1:")
    assert seen[0][0].endswith("/v1#vllm")
    assert seen[0][1] == "my-model"


def test_a_server_that_ends_at_once_is_an_error_with_the_end_of_its_log(
    project: Project, plugins: Plugins, artifact: Artifact
) -> None:
    with (
        pytest.raises(BackendError, match=r"(?s)broken's server ended at once.*no such kernel"),
        serving(artifact, runtime="broken", project=project, plugins=plugins),
    ):
        pass


def test_a_server_that_is_not_ready_is_asked_now_and_then(
    project: Project, plugins: Plugins, artifact: Artifact
) -> None:
    with serving(artifact, runtime="soon", project=project, plugins=plugins) as served:
        answered = served.log.read_text().split()
    assert answered[-1] == "200"
    assert 2 <= len(answered) < 12


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells who listens")
def test_another_server_at_the_port_is_not_taken_for_ours(
    project: Project, plugins: Plugins, artifact: Artifact
) -> None:
    with (
        pytest.raises(BackendError, match=r"(?s)another process listens at port.*in use"),
        serving(artifact, runtime="robbed", project=project, plugins=plugins),
    ):
        pass

"""A server ends with whoever started it; one that does not start says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.engine.project import Project
from harness.engine.serving import KEEPER, serving
from harness.errors import BackendError, UsageError
from harness.ports.hookspecs import hookimpl
from harness.ports.manager import Plugins
from harness.ports.protocols import ServeJob, ServerCommand
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


class Servers:
    """`web`: a real HTTP server of the standard library; `broken`: one that ends with a reason."""

    @hookimpl
    def harness_servers(self) -> dict[str, object]:
        def web(job: ServeJob) -> ServerCommand:
            argv = (sys.executable, "-m", "http.server", str(job.port), "--bind", "127.0.0.1")
            links = {"health": job.folder / "weights.safetensors"}
            return ServerCommand(argv=argv, model=job.name, preset="vllm", links=links)

        def broken(job: ServeJob) -> ServerCommand:
            argv = (sys.executable, "-c", "raise SystemExit('no such kernel')")
            return ServerCommand(argv=argv, model=job.name, preset="vllm")

        return {"web": web, "broken": broken}


@pytest.fixture
def plugins() -> Plugins:
    found = Plugins().load()
    found.register(Servers(), name="mine")
    return found


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

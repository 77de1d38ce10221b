"""A `python:` application that blocks beside a model that is asked over HTTP, as a user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.engine.pulse import CURE
from harness.store.store import Store
from tests.bench.projects import make_task
from tests.plugins.loopback import Answer, Loopback, Seen, completion

APP = """
import pathlib
import time

async def never(text):
    pathlib.Path("there").touch()
    time.sleep(1000)

async def sometimes(text):
    if text.endswith("3"):
        comes_back_never()
    return text.split()[-1]

def comes_back_never():
    while True:
        time.sleep(100)

sometimes.is_external = False
"""
CASES = 8
LINES = {"never": "7", "sometimes": "11 (line 16)"}
QUICK_S, LONG_S = 1.5, 600.0


class App:
    """A project whose candidates are a prompt for a served model, and for the application."""

    def __init__(self, root: Path, server: Loopback) -> None:
        self.root = make_task(root, total=CASES)
        self._task = root / "evals" / "words"
        self._server = server
        (self._task / "app.py").write_text(APP)
        self._settings = (self._task / "task.toml").read_text()

    def begin(self, function: str, *, timeout_s: float) -> subprocess.Popen[str]:
        limit = f'[backends."python:app:{function}"]\ntimeout_s = {timeout_s}\n'
        (self._task / "task.toml").write_text(self._settings + limit)
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
        command = [sys.executable, "-m", "harness", "eval", "words", "--json"]
        command += ["--candidate", "plain", "--base-url", self._server.base_url]
        command += ["--candidate", f"plain@python:app:{function}"]
        return subprocess.Popen(
            command,
            cwd=self.root,
            env={**plain, "OPENAI_API_KEY": "x", "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def stored(self) -> int:
        with Store.open(self.root / ".harness/harness.db", read_only=True) as opened:
            return int(opened._connection.execute("SELECT count(*) FROM replies").fetchone()[0])


@pytest.fixture
def app(tmp_path: Path, server: Loopback) -> App:
    def answer(seen: Seen) -> Answer:
        return Answer(body=completion(seen.body["messages"][-1]["content"].split()[-1]))

    server.answer = answer
    return App(tmp_path, server)


def faults(run: dict[str, Any]) -> list[dict[str, Any]]:
    return [trial["fault"] for trial in run["run"]["trials"] if trial.get("fault")]


@pytest.mark.parametrize(("function", "lost", "code"), [("sometimes", 1, 1), ("never", CASES, 4)])
def test_what_blocks_fails_in_time_and_what_the_server_says_is_kept(
    app: App, function: str, lost: int, code: int
) -> None:
    process = app.begin(function, timeout_s=QUICK_S)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, out + err
    assert "Traceback" not in out + err
    assert app.stored == 2 * CASES - lost
    message = (
        f"no reply within {QUICK_S:g} s: its `async def` blocks at evals/words/app.py:"
        f"{LINES[function]}; {CURE}"
    )
    assert message in out + err
    if code == 1:
        served, ours = json.loads(out)["runs"]
        assert (len(faults(served)), len(faults(ours))) == (0, lost)


def test_one_ctrl_c_ends_it_at_once(app: App) -> None:
    process = app.begin("never", timeout_s=LONG_S)
    limit = time.monotonic() + 60
    while not (app.root / "there").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.01)
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert process.returncode == 130, out + err
    assert "interrupted; what was recorded is kept, and the same command goes on" in err
    assert "Traceback" not in out + err
    assert "unhandled" not in out + err

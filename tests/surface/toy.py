"""A small project with a task and a backend of its own, run as a user would: in a subprocess."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path

LONGEST_S = 120.0
TASK = """
about = "Add two numbers."
model = "adder:small"
cases = "cases.jsonl"
target = 0.9
target_reason = "A sum is right or wrong."
primary = "right"
"""
PLAIN = "+++\nfamily = 'zero-shot'\n+++\n@user\n{{ a }} + {{ b }} =\n"
SHOTS = """+++
family = 'few-shot'
shots = 2
+++
@system
Add.
@examples
@user
{{ a }} + {{ b }} =
"""
EVALS = """
import pytest

def test_number(case, reply):
    assert reply.text.isdigit(), "not a number"

def test_right(case, reply):
    assert reply.text == case.reference

def test_close(case, reply, score):
    score(0.5 if reply.text.isdigit() else 0)

def test_mean_length(trials, score):
    score(sum(len(t.reply.text) for t in trials) / len(trials) / 10)
"""
# Every sum is right but, without a system prompt, those where a is a multiple of three. The
# environment says how it should misbehave; SENT logs what was asked.
BACKEND = """
import asyncio, os, re
import harness

class Adder:
    concurrency = 8
    def __init__(self, config):
        self.model = config.model
        self.identity = {"version": "1"}
    async def answer(self, request):
        with open(os.environ["SENT"], "a") as log:
            log.write(request.messages[-1].content + "\\n")
        mode = os.environ.get("MODE", "")
        await asyncio.sleep(float(os.environ.get("PAUSE", "0.001")))
        if mode == "down":
            raise harness.BackendError("connection refused", is_retryable=True)
        a, b = map(int, re.findall(r"\\d+", request.messages[-1].content))
        if mode == "stranger" and a == 4:
            raise KeyError("boom")
        if mode == "overflow" and a == 4:
            raise harness.BackendError("context overflow", is_systemic=True)
        text = "what?" if len(request.messages) == 1 and a % 3 == 0 else str(a + b)
        return harness.Reply(text=text, input_tokens=5, output_tokens=1, latency_s=0.02)

@harness.hookimpl
def harness_backends():
    return {"adder": Adder}
"""


def sums(splits: Iterable[str]) -> list[dict[str, object]]:
    """Return a case for each split, each its own source."""
    return [
        {
            "id": f"c{i}",
            "split": split,
            "cluster": f"k{i}",
            "inputs": {"a": i, "b": 2 * i},
            "reference": str(3 * i),
        }
        for i, split in enumerate(splits)
    ]


class Toy:
    """The project in `root`; `sent` holds the requests that reached the backend."""

    def __init__(self, root: Path, *, dev: int = 12) -> None:
        self.root = root
        self.task = root / "evals" / "toy"
        self.sent_log = root / "sent.log"
        site = root / "site"
        info = site / "adder-1.0.dist-info"
        for folder in (self.task / "prompts", info):
            folder.mkdir(parents=True)
        (root / "pyproject.toml").write_text("[tool.harness]\ntasks = 'evals'\n")
        (self.task / "task.toml").write_text(TASK)
        (self.task / "prompts/plain.md").write_text(PLAIN)
        (self.task / "prompts/shots.md").write_text(SHOTS)
        (self.task / "eval_toy.py").write_text(EVALS)
        (site / "adder.py").write_text(BACKEND)
        (info / "entry_points.txt").write_text("[harness]\nadder = adder\n")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: adder\nVersion: 1.0\n")
        self.write_cases(sums(["dev"] * dev + ["train"] * 4 + ["test"] * 6))

    def write_cases(self, rows: list[dict[str, object]]) -> None:
        (self.task / "cases.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))

    def seal(self, *, test: int = 10) -> None:
        """Give it so many sealed cases that a look at them can decide."""
        self.write_cases(sums(["dev"] * 12 + ["train"] * 4 + ["test"] * test))

    @property
    def sent(self) -> list[str]:
        return self.sent_log.read_text().splitlines() if self.sent_log.exists() else []

    @property
    def temporary(self) -> Path:
        """Where its pytest keeps `tmp_path`: elsewhere it removes, as it ends, what earlier runs of
        this user left behind, which may be minutes of others'.
        """
        own = self.root / ".tmp"
        own.mkdir(exist_ok=True)
        return own

    def environment(self, **more: str) -> dict[str, str]:
        path = os.pathsep.join([str(self.root / "site"), os.environ.get("PYTHONPATH", "")])
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
        ours = {"PYTHONPATH": path, "SENT": str(self.sent_log), "COLUMNS": "200"}
        return {**plain, **ours, "PYTEST_DEBUG_TEMPROOT": str(self.temporary), **more}

    def run(
        self, *command: str, stdin: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-X", "faulthandler", "-m", *command]
        with subprocess.Popen(
            words,
            cwd=self.root,
            env=self.environment(**environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that its workers are reached, too
        ) as process:
            try:
                out, err = process.communicate(stdin, timeout=LONGEST_S)
            except subprocess.TimeoutExpired as exc:
                os.killpg(process.pid, signal.SIGABRT)  # each shows where it stands
                out, err = process.communicate(timeout=10)
                shown = f"{out}\n{err}"
                raise AssertionError(f"{words} did not end in {LONGEST_S:g} s:\n{shown}") from exc
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def begin(
        self, *command: str, hears_hangup: bool = True, **environment: str
    ) -> subprocess.Popen[str]:
        """Begin a command in a session of its own, and do not wait for it. It hears a hangup even
        where whoever started the tests did not, as with `nohup`: what is ignored is inherited.
        """
        hangup = signal.SIG_DFL if hears_hangup else signal.SIG_IGN
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.root,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=partial(signal.signal, signal.SIGHUP, hangup),
        )

    def pytest(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("pytest", *arguments, **environment)

    def harness(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("harness", *arguments, **environment)

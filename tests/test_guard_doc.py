"""docs/guard.md runs: its blocks, one after the other, on the task that they name."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import Reply, Request, hookimpl
from harness.ports.manager import Plugins
from harness.testing import ScriptedBackend

ROOT = Path(__file__).resolve().parents[1]
GOOD = '{"calculations": [{"op": "HEATMAP", "column": "duration_ms"}], "time_range": 3600}'


def test_the_blocks_of_the_guard_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs/guard.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    backend = ScriptedBackend(lambda request: Reply(text=_answer(request)))

    class Scripted:
        @hookimpl
        def harness_backends(self) -> Mapping[str, Any]:
            return {"local": lambda config: backend}

    # the task's own model takes seconds: what is shown here is the guard
    monkeypatch.setattr(Plugins, "load", lambda self: self.register(Scripted(), name="x") or self)
    shutil.copytree(ROOT / "evals", tmp_path / "evals")
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    (tmp_path / "pyproject.toml").write_text("[tool.harness]\n")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/guard.md", "exec"), names)
    said = capsys.readouterr().out
    assert f"\n{GOOD}\n" in f"\n{said}"
    assert len(backend.requests) == 2  # the first reply was healed
    assert "assistant SELECT 1" in said
    assert "user Your reply did not pass" in said


def _answer(request: Request) -> str:
    healed = request.messages[-1].content.startswith("Your reply did not pass")
    return GOOD if healed else "Let me think."

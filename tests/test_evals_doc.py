"""docs/evals.md is a project: its files are written, and its commands run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs/evals.md"


def test_the_project_of_the_page_runs(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for language, body in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL):
        first, _, rest = body.partition("\n")
        if language != "sh":
            path = tmp_path / first.removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(rest, encoding="utf-8")
    said = []
    for command in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[0].splitlines():
        words = command.split()
        line = [sys.executable, "-m", *words]
        done = subprocess.run(
            line,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        said.append(done.stdout)
    assert "right*" in said[0]
    assert "judge polite" in said[0]
    assert re.search(r"^right\* +\d+ % \(", said[0], re.MULTILINE)

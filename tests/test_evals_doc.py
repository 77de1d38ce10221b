"""docs/evals.md is a project: its files are written, and its commands run."""

from __future__ import annotations

import re
from pathlib import Path

from tests.pages import run_commands, write_project


def test_the_project_of_the_page_runs(tmp_path: Path) -> None:
    write_project("evals.md", tmp_path)
    said = []
    for done in run_commands("evals.md", tmp_path):
        assert done.returncode == 0, f"{done.args}\n{done.stdout}{done.stderr}"
        said.append(done.stdout)
    assert "right*" in said[0]
    assert "judge polite" in said[0]
    assert re.search(r"^right\* +\d+ % \(", said[0], re.MULTILINE)

"""One session is of one project: its runs are kept where that project's verbs look for them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.surface.toy import Toy


def test_evals_of_two_projects_are_two_sessions_or_name_one_store(tmp_path: Path) -> None:
    """The runs of the second stood in the first one's store, on the ladder of a task of its name"""
    one, two = Toy(tmp_path / "one"), Toy(tmp_path / "two")
    (two.task / "eval_toy.py").rename(two.task / "eval_two.py")
    two.task.rename(two.task.with_name("other"))
    both = ("evals/toy", "../two/evals/other", "--candidate", "plain", "-q")

    said = one.pytest(*both)
    assert said.returncode == 2
    assert "evals/other: its project keeps its runs in " in said.stdout
    assert "--store PATH" in said.stdout
    assert one.sent == []
    assert json.loads(one.harness("runs", "--json").stdout) == []

    assert one.pytest(*both, "--collect-only").returncode == 0
    named = one.pytest(*both, "--store", "both.db")
    assert named.returncode == 0, named.stdout + named.stderr
    listed = one.harness("--store", "both.db", "runs", "--json")
    assert listed.returncode == 0, listed.stdout
    found = {(run["task"], run["is_complete"]) for run in json.loads(listed.stdout)}
    assert found == {("toy", True), ("other", True)}

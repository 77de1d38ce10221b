"""`assert checks.json(reply)` under `harness eval`: `[]` is JSON as much as `[1]` is."""

from __future__ import annotations

from tests.surface.inprocess import Cli

EVALS = """
from harness import checks


def test_right(reply):
    assert checks.json(reply)


def test_none(reply):
    assert checks.json(reply) == []


def test_some(reply):
    assert len(checks.json(reply)) > 0, "it is empty"
"""


def test_a_found_value_that_is_false_holds_in_an_eval(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text(EVALS)
    said = cli("eval", "toy", "--candidate", "constant:[]", "--json")
    (run,) = said.json["runs"]
    scored = {(s["name"], s["value"]) for trial in run["run"]["trials"] for s in trial["scores"]}
    assert scored == {("right", 1), ("none", 1), ("some", 0)}

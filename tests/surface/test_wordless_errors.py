"""An exception whose `__str__` raises is a fault or a miss like any other, and ends no run."""

from __future__ import annotations

import pytest

from harness.errors import words_of
from harness.store.store import Store
from tests.surface.inprocess import Cli

BACKEND = """
import harness

class Wordless(Exception):
    def __str__(self):
        raise RuntimeError("no words")

class Adder:
    def __init__(self, config):
        self.identity = {}
    async def answer(self, request):
        text = request.messages[-1].content
        if text.startswith("3 +"):
            raise Wordless
        return harness.Reply(text="1")

@harness.hookimpl
def harness_backends():
    return {"adder": Adder}
"""
EVALS = """
class Wordless(Exception):
    def __str__(self):
        raise RuntimeError("no words")

class Mute(AssertionError):
    def __str__(self):
        return None

def test_right(case, reply):
    if case.id == "c1":
        raise Wordless
    if case.id == "c2":
        raise Mute
"""


def test_a_run_goes_on_past_what_cannot_be_put_into_words(cli: Cli) -> None:
    (cli.toy.root / "site/adder.py").write_text(BACKEND)
    (cli.toy.task / "eval_toy.py").write_text(EVALS)
    said = cli("eval", "toy", "--candidate", "plain")
    assert said.code == 4, said.err
    assert "1 of 12 trials have no reply (c3): adder:small: Wordless: (Wordless" in said.err
    assert "9 passed" in said.out
    assert "m plain c2 right: (Mute cannot be put into words: TypeError)" in said.out
    with Store.open(cli.toy.root / ".harness/harness.db", read_only=True) as store:
        [run] = [store.run(row.id) for row in store.runs()]
    faults = {t.case_id: t.fault.message for t in run.trials if t.fault is not None}
    assert faults.keys() == {"c1", "c3"}
    assert "Wordless: (Wordless cannot be put into words: RuntimeError)" in faults["c1"]


@pytest.mark.parametrize("error", [ValueError("a"), KeyError("b"), AssertionError()])
def test_what_can_is_told_as_it_stands(error: Exception) -> None:
    assert words_of(error) == str(error)

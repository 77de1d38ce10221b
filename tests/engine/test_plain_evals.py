from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from harness import Case, Reply, UsageError, checks
from harness.engine.plain_evals import PlainEvals
from harness.engine.tasks import load_task
from harness.errors import TaskError
from harness.ports.manager import Plugins
from harness.records import Score
from tests.engine.small import write_settings, write_task

EVALS = """
import pytest
from dataclasses import dataclass
from numpy.testing import assert_allclose
from harness import checks
from helper import doubled

LIMIT = 3

@dataclass
class Box:
    n: int

def test_right(case, reply):
    assert reply.text == case.reference

def test_short(reply, case):
    n = len(reply.text)
    assert n < LIMIT and len(case.inputs) == 1

def test_said(reply):
    assert reply.text != "bad", "it says bad"

def test_listed(reply):
    checks.contains_any(reply, ["0", "2", "bad"])

def test_near(case, reply):
    assert_allclose(float(reply.text), doubled(case.inputs["n"]))

async def test_later(case, reply):
    import asyncio
    await asyncio.sleep(0)
    assert reply.text != "slow"

def test_graded(reply, score, weight=2):
    score(len(reply.text) / 4)

def test_fast(reply):
    checks.latency(reply, 1.0)

def test_skipped(reply):
    pytest.skip("not today")

class TestBox:
    def test_boxed(self, case, reply):
        assert Box(case.inputs["n"]).n == 1
    @staticmethod
    def test_static(reply):
        assert reply.text

def test_over_all(trials):
    pass

@pytest.mark.parametrize("k", [1, 2])
def test_many(case, reply, k):
    pass

@pytest.mark.usefixtures("tmp_path")
def test_marked(reply):
    pass

def test_tmp(reply, tmp_path):
    pass

def test_no_eval(tmp_path):
    pass

class TestReady:
    def setup_method(self):
        self.x = 1
    def test_ready(self, reply):
        assert self.x
"""
HELPER = "def doubled(n):\n    return 2 * n\n"
LEFT_OUT = {
    "many": "it asks for k",
    "marked": "it is marked usefixtures",
    "over_all": "it asks for trials",
    "ready": "setup_method is run around it",
    "tmp": "it asks for tmp_path",
}
CASE = Case(id="c1", inputs={"n": 1}, split="dev", reference="2")

Make = Callable[..., PlainEvals]


@pytest.fixture
def make_evals(tmp_path: Path) -> Any:
    """Return a maker of the plain evals of a task whose eval file is given."""
    checks.use_plugins(Plugins())
    made: list[PlainEvals] = []
    number = count()

    def make(source: str, *, helper: str = HELPER, **settings: Any) -> PlainEvals:
        only = settings.pop("only", None)
        folder = write_task(tmp_path / f"p{next(number)}", primary="all", **settings)
        (folder / "eval_double.py").write_text(source)
        (folder / "helper.py").write_text(helper)
        made.append(PlainEvals(load_task(folder), only=only))
        return made[-1]

    yield make
    for one in made:
        one.close()
    checks.use_plugins(None)


def by_name(evals: PlainEvals, text: str, case: Case = CASE) -> dict[str, Score]:
    return {s.name: s for s in evals.scores(case, Reply(text=text)).scores}


def test_evals_that_ask_for_nothing_else_are_called_and_the_others_named(make_evals: Make) -> None:
    evals = make_evals(EVALS)
    assert evals.left_out == LEFT_OUT
    assert "no_eval" not in evals.names
    found = by_name(evals, "2")
    assert set(found) == set(evals.names)
    values = {name: score.value for name, score in found.items()}
    unscored = {"fast": None, "skipped": None}
    assert values == dict.fromkeys(evals.names, 1.0) | unscored | {"graded": 0.25}
    assert "no latency_s" in found["fast"].reason
    assert found["skipped"].reason == "Skipped: not today"


def test_a_miss_is_0_with_the_reason_that_a_healer_can_use(make_evals: Make) -> None:
    found = by_name(make_evals(EVALS), "slow")
    missed = {name for name, score in found.items() if score.value == 0}
    assert missed == {"right", "short", "listed", "later"}
    assert found["right"].reason.splitlines() == [
        "assert reply.text == case.reference (eval_double.py:15)",
        "  reply.text = 'slow'",
        "  case.reference = '2'",
    ]
    assert found["short"].reason.splitlines() == [
        "assert n < LIMIT and len(case.inputs) == 1 (eval_double.py:19)",
        "  n = 4",
        "  LIMIT = 3",
        "  len(case.inputs) = 1",
    ]
    assert by_name(make_evals(EVALS), "bad")["said"].reason == "it says bad"
    assert "Mismatched elements" in by_name(make_evals(EVALS), "3")["near"].reason


def test_an_error_of_the_eval_is_a_fault_and_costs_the_others_nothing(make_evals: Make) -> None:
    source = """
def test_right(case, reply):
    assert reply.text == case.reference
def test_broken(reply):
    return {}["x"]
def test_out_of_range(reply, score):
    score(2)
def test_exits(reply):
    raise SystemExit(3)
def test_deep(reply):
    test_deep(reply)
def test_elsewhere(reply):
    import typing
    typing.assert_never(reply)
"""
    found = make_evals(source).scores(CASE, Reply(text="2"))
    values = {s.name: s.value for s in found.scores}
    assert values.pop("right") == 1
    assert set(values.values()) == {None}
    reasons = {s.name: s.reason for s in found.scores}
    assert reasons["broken"] == "KeyError: 'x'"
    assert "a score is a number in [0, 1]" in reasons["out_of_range"]
    assert "RecursionError" in reasons["deep"]
    assert reasons["elsewhere"].startswith("Expected code to be unreachable")
    assert found.fault is not None
    assert found.fault.origin == "eval"


def test_no_reference_leaves_the_score_out(make_evals: Make) -> None:
    case = Case(id="x", inputs={"n": 1}, split="dev")
    found = by_name(make_evals(EVALS), "2", case)
    assert (found["right"].value, found["right"].reason) == (None, "no reference")
    assert found["near"].value == 1


def test_scores_are_those_that_pytest_gives(make_evals: Make, tmp_path: Path) -> None:
    """The same file, the same replies, both ways: only a bare assert is worded differently."""
    source = EVALS.replace("from helper import doubled", "doubled = lambda n: 2 * n")
    evals = make_evals(source, some=_rows())
    folder = tmp_path / "p0" / "evals" / "double"
    replies = {"a": "2", "b": "bad", "c": "77", "d": "slow"}
    lines = "".join(f'{{"id": "{k}", "reply": "{v}"}}\n' for k, v in replies.items())
    (folder / "said.jsonl").write_text(lines)
    kept = " or ".join(f"test_{name}" for name in evals.names)
    script = """
import sys, json, pytest
class Watch:
    def pytest_runtest_logreport(self, report):
        said = dict(report.user_properties)
        if "eval" in said and report.when in ("setup", "call"):
            print("SCORE", json.dumps([said["case"], said["eval"], said.get("score")]))
sys.exit(pytest.main([*sys.argv[1:], "-s", "-q", "-p", "no:cacheprovider"], plugins=[Watch()]))
"""
    arguments = [str(folder), "--candidate", "replay:said.jsonl", "-k", kept]
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments, "-W", "ignore"],
        capture_output=True,
        text=True,
        cwd=tmp_path / "p0",
        check=False,
    )
    import json

    there = [json.loads(x.split("SCORE ")[1]) for x in ran.stdout.splitlines() if "SCORE " in x]
    pytests = {(case, name): value for case, name, value in there}
    cases = {c.id: c for c in load_task(folder).cases}
    ours = {
        (case_id, score.name): score.value
        for case_id, text in replies.items()
        for score in evals.scores(cases[case_id], Reply(text=text)).scores
    }
    assert pytests == ours, ran.stdout + ran.stderr
    assert len(ours) == 4 * len(evals.names)


def _rows() -> list[dict[str, Any]]:
    return [
        {"id": name, "split": "dev", "inputs": {"n": n}, "reference": str(2 * n)}
        for n, name in enumerate("abcd", start=1)
    ]


def test_an_eval_that_hangs_is_a_fault_and_the_next_ones_run(make_evals: Make) -> None:
    source = """
import time
def test_a_first(reply):
    pass
def test_hangs(reply):
    if reply.text == "hang":
        time.sleep(3)
def test_last(reply):
    assert reply.text == "hang"
"""
    evals = make_evals(source, eval_timeout_s=0.2)
    began = time.monotonic()
    found = evals.scores(CASE, Reply(text="hang"))
    assert time.monotonic() - began < 2
    assert [(s.name, s.value) for s in found.scores] == [
        ("a_first", 1),
        ("hangs", None),
        ("last", 1),
    ]
    assert found.fault is not None
    assert found.fault.message == (
        "hangs: the eval did not end within 0.2 s (`eval_timeout_s` in task.toml)"
    )
    texts = ["x", "hang", "y"]
    many = list(evals.scores_of((CASE, Reply(text=t)) for t in texts))
    assert [[s.value for s in each.scores] for each in many] == [
        [1, 1, 0],
        [1, None, 1],
        [1, 1, 0],
    ]


def test_many_are_scored_as_one_by_one_and_from_many_threads(make_evals: Make) -> None:
    evals = make_evals(EVALS, only=["right", "graded"])
    replies = [Reply(text=str(n % 5)) for n in range(200)]
    one_by_one = [evals.scores(CASE, reply) for reply in replies]
    assert list(evals.scores_of((CASE, reply) for reply in replies)) == one_by_one
    found: dict[int, list[Any]] = {}

    def work(n: int) -> None:
        found[n] = [evals.scores(CASE, reply) for reply in replies]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(4)] == [one_by_one] * 4


def test_a_cases_own_checks_are_the_score_checks(make_evals: Make) -> None:
    evals = make_evals("def test_any(reply):\n    pass\n")
    rows = (
        {"name": "contains", "arguments": {"text": "2"}},
        {"name": "no.contains", "arguments": {"text": "sorry"}},
    )
    case = Case(id="c", inputs={}, split="dev", checks=rows, line="cases.jsonl:3")
    assert by_name(evals, "2", case)["checks"].value == 1
    missed = by_name(evals, "sorry", case)["checks"]
    assert missed.value == 0
    assert missed.reason.splitlines() == [
        "contains: '2' is not in 'sorry'",
        "no.contains: 'sorry' is in 'sorry'",
    ]
    assert "checks" not in by_name(evals, "2")
    wrong = Case(id="c", inputs={}, split="dev", checks=({"name": "sum"},), line="cases.jsonl:3")
    found = evals.scores(wrong, Reply(text=""))
    assert found.fault is not None
    assert "cases.jsonl:3: checks: no check 'sum'" in found.fault.message
    slow = {"name": "latency", "arguments": {"at_most_s": 1}}
    case = Case(id="c", inputs={}, split="dev", checks=(slow,))
    assert by_name(evals, "2", case)["checks"].value is None


@pytest.mark.parametrize(
    ("conftest", "reason"),
    [
        (
            "import pytest\n@pytest.fixture(autouse=True)\ndef seeded():\n    pass\n",
            "the fixture seeded of conftest.py is for every test (autouse)",
        ),
        (
            "import pytest\n@pytest.fixture\ndef reply(request):\n    return 'x'\n",
            "the fixture reply is replaced in conftest.py",
        ),
    ],
)
def test_a_fixture_of_a_conftest_that_would_change_the_meaning_leaves_evals_out(
    tmp_path: Path, conftest: str, reason: str
) -> None:
    folder = write_task(tmp_path)
    (folder.parent / "conftest.py").write_text(conftest)
    assert PlainEvals(load_task(folder)).left_out == {"right": reason}


def test_modules_beside_the_evals_are_kept_apart(make_evals: Make) -> None:
    source = "from helper import WORD\ndef test_said(reply):\n    assert reply.text == WORD\n"
    first = make_evals(source, helper="WORD = 'one'")
    second = make_evals(source, helper="WORD = 'two'")
    assert by_name(first, "one")["said"].value == 1
    assert by_name(second, "two")["said"].value == 1
    assert "helper" not in sys.modules


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nothing_like_it\ndef test_a(reply): pass\n", "eval_double.py:1: cannot be imp"),
        ("def test_a(reply): pass\n\nx = 1 / 0\n", "eval_double.py:3: cannot be imported: Zero"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named(make_evals: Make, source: str, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        make_evals(source)


def test_a_wrong_name_says_what_there_is(make_evals: Make) -> None:
    with pytest.raises(UsageError, match=r"no eval 'rigth'.*Known: .*right"):
        make_evals(EVALS, only=["rigth"])
    with pytest.raises(UsageError, match="eval 'tmp' needs pytest: it asks for tmp_path"):
        make_evals(EVALS, only=["tmp"])


def test_it_refuses_to_start_where_asserts_are_stripped(tmp_path: Path) -> None:
    folder = write_task(tmp_path)
    write_settings(folder)
    code = f"""
from pathlib import Path
from harness.engine.tasks import load_task
from harness.engine.plain_evals import PlainEvals
from harness import UsageError
try:
    PlainEvals(load_task(Path({str(folder)!r})))
except UsageError as exc:
    print(exc)
import sys
print("pytest" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True)
    assert "python -O" in ran.stdout, ran.stderr
    assert "False" in ran.stdout


def test_a_call_costs_little(make_evals: Make) -> None:
    """Scoring 100,000 rows is a matter of seconds: process time, since the machine may be busy."""
    evals = make_evals("def test_any(case, reply):\n    pass\n")
    pairs = [(CASE, Reply(text="2"))] * 1000
    took_s = []
    for _ in range(6):
        before = time.process_time()
        list(evals.scores_of(pairs))
        took_s.append((time.process_time() - before) / len(pairs))
    assert min(took_s) < 40e-6  # 4e-6 on an idle machine

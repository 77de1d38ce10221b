"""What evals and replies do wrong costs one case, names it, and leaves every other one intact."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from harness.core.scoring import case_values
from harness.records import Run, from_plain
from tests.surface.inprocess import Cli

QUICK = {"PAUSE": "0"}
LIMIT = "eval_timeout_s = 0.3\n"


def run_of(cli: Cli, *arguments: str, **environment: str) -> dict[str, Any]:
    said = cli(
        "eval", "toy", "--candidate", "shots", "--json", *arguments, **{**QUICK, **environment}
    )
    assert said.code in {0, 1}, said.err
    return said.json["runs"][0]["run"]


def values(run: dict[str, Any], name: str = "right") -> dict[str, float | None]:
    return {
        t["case_id"]: next((s.get("value") for s in t["scores"] if s["name"] == name), None)
        for t in run["trials"]
    }


def faults(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {t["case_id"]: t["fault"] for t in run["trials"] if "fault" in t}


def write_evals(cli: Cli, text: str, *, settings: str = "") -> None:
    (cli.toy.task / "eval_toy.py").write_text(text)
    task = cli.toy.task / "task.toml"
    task.write_text(task.read_text() + settings)


# ---------------------------------------------------------------- evals that do not end


@pytest.mark.parametrize(
    "hang",
    [
        "time.sleep(30)",
        "[0 for _ in iter(int, 1)]",
        "re.match(r'(a+)+$', 'a' * 60 + '!')",  # time doubles with each letter
        "swallow()",
        "await asyncio.sleep(30)",
    ],
)
def test_an_eval_that_hangs_is_a_fault_that_names_the_case_and_the_seconds(
    cli: Cli, hang: str
) -> None:
    write_evals(
        cli,
        "import asyncio, re, time\n"
        "def swallow():\n"
        "    while True:\n"
        "        try:\n"
        "            time.sleep(0.01)\n"
        "        except Exception:\n"
        "            pass\n"
        f"{'async ' if 'await' in hang else ''}def test_right(case, reply):\n"
        "    if case.id == 'c5':\n"
        f"        {hang}\n"
        "    assert reply.text == case.reference\n",
        settings=LIMIT,
    )
    run = run_of(cli)
    message = "right: c5: the eval did not end within 0.3 s (`eval_timeout_s` in task.toml)"
    assert faults(run) == {"c5": {"origin": "eval", "message": message, "is_missing": True}}
    assert [v for c, v in values(run).items() if c != "c5"] == [1.0] * 11
    assert run["is_complete"] is True


def test_an_aggregate_that_hangs_is_named_by_its_candidate(cli: Cli) -> None:
    write_evals(
        cli,
        "import time\n"
        "def test_right(case, reply):\n    assert reply.text == case.reference\n"
        "def test_later(trials):\n    time.sleep(30)\n",
        settings=LIMIT,
    )
    run = run_of(cli)
    assert run["aggregates"][0]["reason"].startswith(
        "the trials of shots: the eval did not end within 0.3 s"
    )
    assert set(values(run).values()) == {1.0}


def test_no_time_limit_runs_while_a_debugger_is_open(cli: Cli) -> None:
    """`--pdb` opens where the eval hung; a breakpoint has all the time in the world."""
    cli.toy.write_cases(
        [{"id": "c1", "split": "dev", "inputs": {"a": 1, "b": 2}, "reference": "3"}]
    )
    write_evals(
        cli,
        "import time\ndef test_right(case, reply):\n    breakpoint()\n    time.sleep(0.6)\n",
        settings=LIMIT,
    )
    done = cli.toy.run("pytest", "evals/toy", "-q", stdin="c\n")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    write_evals(cli, "import time\ndef test_right(case, reply):\n    time.sleep(30)\n")
    done = cli.toy.run("pytest", "evals/toy", "-q", "--pdb", stdin="p 40 + 2\nq\n")
    assert "did not end within 0.3 s" in done.stdout
    assert "entering PDB" in done.stdout
    assert "(Pdb) 42" in done.stdout


def test_a_check_that_recurses_without_end_is_a_fault_of_its_case(cli: Cli) -> None:
    write_evals(
        cli,
        "def depth(text):\n    return 1 + depth(text)\n"
        "def test_right(case, reply):\n"
        "    assert case.id != 'c5' or depth(reply.text)\n"
        "    assert reply.text == case.reference\n",
    )
    run = run_of(cli)
    assert list(faults(run)) == ["c5"]
    assert "RecursionError" in faults(run)["c5"]["message"]
    assert [v for c, v in values(run).items() if c != "c5"] == [1.0] * 11
    shown = cli("eval", "toy", "--candidate", "shots", **QUICK)
    assert re.search(r"FAILED .*test_right\[shots-c5\] - RecursionError", shown.out)


# ---------------------------------------------------------------- replies that nobody expects


def answer(cli: Cli, expression: str) -> None:
    """Let the reply to case c4 be `expression`."""
    path = cli.toy.root / "site/adder.py"
    path.write_text(
        path.read_text().replace(
            "return harness.Reply(text=text,",
            f"text = {expression} if a == 4 else text\n        return harness.Reply(text=text,",
        )
    )


@pytest.mark.parametrize("text", ["'xy z' * 250_000", "'xy\\n' * 333_333"])
def test_a_reply_of_a_million_characters_is_a_miss_with_a_short_reason(cli: Cli, text: str) -> None:
    answer(cli, text)
    write_evals(cli, "def test_right(case, reply):\n    assert reply.text == case.reference\n")
    run = run_of(cli)
    assert values(run) == {f"c{i}": float(i != 4) for i in range(12)}
    [reason] = [s["reason"] for t in run["trials"] for s in t["scores"] if s["reason"]]
    assert len(reason) < 3000
    shown = cli("eval", "toy", "--candidate", "shots", **QUICK)
    assert shown.code == 0
    assert len(shown.out) < 10_000
    assert len(cli.toy.sent) == 12  # the second run found it in the store


def test_half_a_surrogate_pair_reaches_table_store_and_junit_from_every_process(cli: Cli) -> None:
    answer(cli, r"'12\ud83d'")
    write_evals(
        cli,
        "def test_right(case, reply):\n"
        "    assert reply.text == case.reference, f'said {reply.text}'\n"
        "def test_crash(case, reply):\n"
        "    if case.id == 'c4':\n"
        "        print(reply.text)\n"
        "        raise RuntimeError(f'crashed at {reply.text}')\n",
    )
    done = cli.pytest("evals/toy", "--candidate", "shots", "-n", "2", "-q", "--junitxml=out.xml")
    assert done.code == 1, done.out + done.err
    assert "INTERNALERROR" not in done.out + done.err
    assert "m shots c4 right: said 12\\ud83d" in done.out
    assert "1 failed, 22 passed, 1 missed" in done.out
    suite = ET.parse(cli.toy.root / "out.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("24", "1", "0")
    shown = cli("eval", "toy", "--candidate", "shots", **QUICK)
    assert "m shots c4 right: said 12\\ud83d" in shown.out
    recorded = cli("runs", "--json").json
    assert len(recorded) == 1  # two processes and one process recorded the same run
    run = cli("runs", recorded[0]["id"], "--json").json["run"]
    assert values(run) == {f"c{i}": float(i != 4) for i in range(12)}


def test_a_score_that_belongs_to_no_eval_is_refused_not_lost(cli: Cli) -> None:
    write_evals(
        cli,
        "def test_right(case, reply):\n    assert reply.text == case.reference\n"
        "def test_y(score):\n    score(0.5)\n",
    )
    said = cli("eval", "toy", "--candidate", "shots", "--", "-k", "test_y", **QUICK)
    assert said.code == 2
    assert "`score` is for evals, which name `case`, `reply` or `trials` too" in said.out
    assert "no eval ran: no selected test names `case`, `reply` or `trials`" in said.err
    assert cli("eval", "toy", "--candidate", "shots", **QUICK).code == 1


# ---------------------------------------------------------------- how it shows elsewhere


def test_junit_tells_a_miss_an_unscored_case_and_a_fault_apart(cli: Cli) -> None:
    rows = [json.loads(x) for x in (cli.toy.task / "cases.jsonl").read_text().splitlines()]
    rows[1].pop("reference")
    cli.toy.write_cases(rows)
    write_evals(
        cli,
        "def test_right(case, reply, score):\n"
        "    assert case.id != 'c2' or 1 / 0\n"
        "    assert reply.text == case.reference\n"
        "    score(0.5)\n",
    )
    said = cli("eval", "toy", "--candidate", "plain", "--", "--junitxml=out.xml", **QUICK)
    assert said.code == 1
    suite = ET.parse(cli.toy.root / "out.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("12", "1", "0")
    found = {}
    for test in suite.iter("testcase"):
        properties = {p.get("name"): p.get("value") for p in test.iter("property")}
        found[properties["case"]] = properties
        assert (properties["eval"], properties["candidate"]) == ("right", "plain")
    kinds = {
        case: {k for k in p if k in {"score", "miss", "unscored", "fault"}}
        for case, p in found.items()
    }
    assert kinds["c0"] == {"score", "miss"}
    assert kinds["c1"] == {"unscored"}
    assert kinds["c2"] == {"fault"}
    assert kinds["c4"] == {"score"}
    assert (found["c0"]["score"], found["c4"]["score"]) == ("0.0", "0.5")
    assert found["c1"]["unscored"] == "no reference"
    assert "ZeroDivisionError" in str(found["c2"]["fault"])


def test_collecting_writes_no_store_and_loads_no_backend(cli: Cli, tmp_path: Path) -> None:
    """`--collect-only` is for finding one's way: it may neither cost nor leave anything."""
    loaded = tmp_path / "loaded"
    path = cli.toy.root / "site/adder.py"
    source = path.read_text()
    path.write_text(source + f"\nopen({str(loaded)!r}, 'a').write('loaded')\n")
    home = cli.toy.root / ".harness"
    collect = ("evals/toy", "--candidate", "plain", "--collect-only", "-q")
    done = cli.pytest(*collect)
    assert "test_right[plain-c3]" in done.out
    said = cli("eval", "toy", "--candidate", "plain", "--", "--collect-only", "-k", "right")
    assert said.code == 0, said.err
    assert "evals/toy/eval_toy.py::test_right[plain-c3]" in said.out
    assert "12/37 tests collected" in said.out
    listed = cli("eval", "toy", "--candidate", "plain", "--json", "--", "--collect-only")
    assert len(listed.json["items"]) == 37
    none = cli("eval", "toy", "--candidate", "plain", "--", "--collect-only", "-k", "nothing")
    assert none.code == 2
    assert not loaded.exists()
    assert not home.exists()
    path.write_text(source)
    cli("eval", "toy", "--candidate", "plain", **QUICK)
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in home.rglob("*.db")}
    path.write_text(source + f"\nopen({str(loaded)!r}, 'a').write('loaded')\n")
    done = cli.pytest(*collect, "--only", "missed")
    assert "12/37 tests collected (25 deselected)" in done.out
    assert not loaded.exists()
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in home.rglob("*.db")}
    assert len(cli.toy.sent) == 12


def test_async_evals_classes_fixtures_and_parameters_all_score(cli: Cli) -> None:
    (cli.toy.task / "conftest.py").write_text(
        "import pytest\n"
        "@pytest.fixture\ndef number(reply):\n    return int(reply.text)\n"
        "@pytest.fixture(scope='session')\ndef limit():\n    return 20\n"
    )
    write_evals(
        cli,
        "import asyncio, pytest\n"
        "async def test_right(case, reply):\n"
        "    await asyncio.sleep(0)\n"
        "    assert asyncio.current_task().get_coro().__qualname__ == 'test_right'\n"
        "    assert reply.text == case.reference\n"
        "class TestSize:\n"
        "    @pytest.mark.parametrize('factor', [1, 2])\n"
        "    def test_small(self, number, limit, factor):\n"
        "        assert number * factor < limit\n"
        "    async def test_even(self, number, score):\n"
        "        await asyncio.sleep(0)\n"
        "        score(1 - number % 2 / 2)\n"
        "@pytest.mark.anyio\n"
        "@pytest.mark.parametrize('anyio_backend', ['asyncio'])\n"
        "async def test_claimed(case, reply, anyio_backend):\n"
        "    import anyio\n"
        "    await anyio.sleep(0)\n"
        "    assert 'test_claimed' not in asyncio.current_task().get_coro().__qualname__\n"
        "async def test_of_all(trials, score):\n"
        "    await asyncio.sleep(0)\n"
        "    score(len(trials) / 100)\n",
    )
    run = run_of(cli)
    assert faults(run) == {}
    assert run["is_complete"] is True
    assert values(run) == {f"c{i}": 1.0 for i in range(12)}
    # of the two factors, 3i < 20 up to c6 and 6i < 20 up to c3; their mean is the case's score
    assert [values(run, "small")[f"c{i}"] for i in (0, 3, 4, 6, 7)] == [1.0, 1.0, 0.5, 0.5, 0.0]
    assert [values(run, "even")[f"c{i}"] for i in (2, 3)] == [1.0, 0.5]
    assert set(values(run, "claimed").values()) == {1.0}
    assert [(a["name"], a["value"]) for a in run["aggregates"]] == [("of_all", 0.12)]


def test_a_missed_fixture_leaves_an_async_eval_uncalled(cli: Cli) -> None:
    (cli.toy.task / "conftest.py").write_text(
        "import pytest\n"
        "@pytest.fixture\ndef number(reply):\n    assert reply.text.isdigit(), 'no number'\n"
    )
    write_evals(cli, "async def test_right(number):\n    raise RuntimeError('was called')\n")
    said = cli("eval", "toy", "--candidate", "plain", "--json", "--", "-k", "c3", **QUICK)
    [trial] = said.json["runs"][0]["run"]["trials"]
    [score] = trial["scores"]
    assert (score["value"], score["reason"].split("\n")[0]) == (0.0, "no number")


MIXED = """
import pytest

def test_breaks(case, reply):
    if case.id == "c1":
        raise ValueError("broken")

def test_right(case, reply):
    if case.id == "c1":
        pytest.skip("nothing to measure")

@pytest.mark.parametrize("part", ["first", "second"])
def test_parts(case, reply, part):
    if case.id == "c2" and part == "second":
        raise ValueError("broken")
"""


def test_what_broke_and_what_had_nothing_to_measure_stay_two_things(cli: Cli) -> None:
    write_evals(cli, MIXED)
    found = from_plain(Run, run_of(cli))
    right, parts, breaks = (case_values(found, name) for name in ("right", "parts", "breaks"))
    assert right.pop("c1") is None  # unscored, though another eval broke on the case
    assert math.isnan(parts.pop("c2"))  # one of its two items broke, so the other says nothing
    assert math.isnan(breaks.pop("c1"))
    assert {*right.values(), *parts.values(), *breaks.values()} == {1.0}

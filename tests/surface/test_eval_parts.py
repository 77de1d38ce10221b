"""A run without some items of an eval is a partial one: its mean is over what was left in."""

from __future__ import annotations

import pytest

from harness.engine.ladder import read_ladder
from harness.engine.tasks import load_task
from harness.store.store import Store
from tests.surface.inprocess import Cli

PARAMETERS = """
import os, pytest, time

@pytest.mark.parametrize("part", ["first", "second"])
def test_right(case, reply, part):
    if os.environ.get("CRASH") and (case.id, part) == ("c5", "second"):
        time.sleep(0.2)  # xdist breaks off where it sends to a worker that is dying
        os._exit(9)
    assert part == "first"
"""
FIXTURE = """
import pytest

@pytest.fixture(params=["first", "second"])
def part(request):
    return request.param

def test_right(case, reply, part):
    assert part == "first"
"""
CLASSES = """
class Both:
    def test_right(self, case, reply):
        assert bool(reply) is self.expected

class TestFirst(Both):
    expected = True

class TestSecond(Both):
    expected = False
"""
AGGREGATE = """
import pytest

def test_right(case, reply):
    assert reply.text == case.reference

@pytest.mark.parametrize("part", ["first", "second"])
def test_mean(trials, score, part):
    score(1 if part == "first" else 0)
"""


def is_complete(cli: Cli, *more: str) -> bool:
    said = cli("eval", "toy", "--candidate", "shots", "--json", "--", *more, PAUSE="0")
    [one] = said.json["runs"]
    return bool(one["run"]["is_complete"])


@pytest.mark.parametrize("evals", [PARAMETERS, FIXTURE, CLASSES])
def test_what_is_left_out_of_an_eval_leaves_no_whole_run(cli: Cli, evals: str) -> None:
    (cli.toy.task / "eval_toy.py").write_text(evals)
    assert is_complete(cli)
    assert not is_complete(cli, "-k", "first or First")  # it would be right all the time
    assert not is_complete(cli, "--lf")  # and this one never
    with Store.open(cli.toy.root / ".harness/harness.db", read_only=True) as store:
        runs = read_ladder(load_task(cli.toy.task), store).runs
    whole = [run for run in runs if run.is_complete]
    assert {s.value for run in whole for t in run.trials for s in t.scores} == {0.5}
    assert len(whole) == 1


def test_naming_one_class_of_those_that_have_an_eval_leaves_no_whole_run(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text(CLASSES)
    named = [f"evals/toy/eval_toy.py::{name}" for name in ("TestFirst", "TestSecond")]
    for arguments, is_whole in (
        (named[:1], False),
        ([*named[1:], "-n", "1"], False),
        (named, True),
    ):
        done = cli.pytest(*arguments, "--candidate", "shots", PAUSE="0")
        assert done.code == 0, done.out
        assert (" partial" not in done.out) is is_whole, (arguments, done.out)


def test_naming_one_file_of_a_task_leaves_no_whole_run(cli: Cli) -> None:
    (cli.toy.task / "eval_more.py").write_text("def test_more(case, reply):\n    assert reply\n")
    named = ["evals/toy/eval_toy.py", "evals/toy/eval_more.py"]
    for arguments, is_whole in ((named[:1], False), (named, True)):
        done = cli.pytest(*arguments, "--candidate", "shots", PAUSE="0")
        assert (" partial" not in done.out) is is_whole, (arguments, done.out)


def test_what_a_part_of_an_eval_said_hides_no_miss_from_only_missed(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text(PARAMETERS)
    assert is_complete(cli)
    assert not is_complete(cli, "-k", "first")  # where nothing misses
    said = cli("eval", "toy", "--candidate", "shots", "--only", "missed", PAUSE="0")
    assert "shots: 12 of 12 cases missed" in said.out
    assert not is_complete(cli, "-k", "c3 or c4")  # some cases, with every item
    (cli.toy.task / "eval_toy.py").write_text(PARAMETERS.replace('== "first"', "") + "\n")
    assert not is_complete(cli, "-k", "c3 or c4")
    said = cli("eval", "toy", "--candidate", "shots", "--only", "missed", PAUSE="0")
    assert "shots: 10 of 12 cases missed" in said.out


def test_an_aggregate_with_parameters_is_whole_with_all_of_them_alone(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text(AGGREGATE)
    assert is_complete(cli)
    assert not is_complete(cli, "-k", "right or first")


def test_an_item_that_took_its_worker_with_it_is_missed_in_the_run(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text(PARAMETERS)
    for crash, code in (("1", 1), ("", 0)):
        done = cli.toy.pytest("evals/toy", "--candidate", "shots", "-n", "1", CRASH=crash)
        assert done.returncode == code, done.stdout
    runs = cli("runs", "--json").json
    assert [(run["cases"], run["is_complete"]) for run in runs] == [(12, False), (12, True)]

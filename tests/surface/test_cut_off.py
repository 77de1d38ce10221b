"""What a process had scored when it was killed is a partial run of the next command."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.records import Run
from harness.store.journal import MARK, Journal, files_beside
from harness.store.store import Store
from tests.surface.inprocess import Cli
from tests.surface.test_bad_evals import values
from tests.surface.toy import Toy, sums

STANDS = "    if case.id == 'c15':\n        time.sleep(60)\n"
RIGHT = "    assert reply.text == case.reference\n"
EVALS = (
    f"import time\n\ndef test_right(case, reply):\n{STANDS}{RIGHT}\n"
    "def test_short(case, reply, score):\n    score(0.5)\n"
)
ALL_SORTS = """
import pytest

def test_right(case, reply):
    if case.id == "c1":
        raise KeyError("boom")
    assert reply.text == case.reference

def test_short(reply, score, record_property):
    record_property("anybody's", object())
    score(0.5)

@pytest.mark.parametrize("n", [1, 2])
def test_parts(case, reply, n):
    assert n == 1 or case.id != "c2"

def test_none(case, reply):
    pytest.skip("nothing to score")

def test_many(trials):
    assert len(trials) > 99
"""
DIALOGUE = """
def test_right(case, ask):
    ask("1 + 2")
    assert ask("3 + 4").text
"""
EVAL = ("harness", "eval", "toy", "--candidate", "plain")
FIRST = 15


@pytest.fixture
def cli(cli: Cli) -> Cli:
    """A task with 20 cases, of which one never ends."""
    cli.toy.write_cases(sums(["dev"] * 20 + ["train"] * 4 + ["test"] * 6))
    (cli.toy.task / "eval_toy.py").write_text(EVALS)
    return cli


def store_of(toy: Toy) -> Path:
    return toy.root / ".harness/harness.db"


def begin(toy: Toy, *command: str, scores: int = FIRST) -> subprocess.Popen[str]:
    """Begin a run, and return once so many scores were given."""
    process = toy.begin(*command)
    limit = time.monotonic() + 60
    while lines_of(toy) <= scores:  # the first says whose they are
        if process.poll() is not None or time.monotonic() > limit:
            process.kill()
            pytest.fail(f"{lines_of(toy)} lines: {process.communicate()}")
        time.sleep(0.02)
    return process


def lines_of(toy: Toy) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in files_beside(store_of(toy)))


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def runs_of(cli: Cli) -> tuple[list[dict[str, Any]], str]:
    said = cli("runs", "--json")
    assert said.code == 0, said.err
    return said.json, said.err


def run_of(cli: Cli, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = cli("runs", run_id, "--json").json["run"]
    return found


def test_what_a_killed_run_had_scored_is_what_a_whole_run_says_of_the_same_trials(
    cli: Cli,
) -> None:
    """A recovered trial has its reply, its case and its reasons as any other."""
    kill(begin(cli.toy, *EVAL))
    # who mends the eval that hangs changes what scores: the run says what it was scored by
    mended = EVALS.replace(STANDS, "")
    (cli.toy.task / "eval_toy.py").write_text(mended)
    [row], said = runs_of(cli)
    assert said == (
        f"recovered 15 scores of a run that was cut off: {row['id'][:8]} partial, plain on toy\n"
    )
    assert row["is_complete"] is False
    assert files_beside(store_of(cli.toy)) == []
    again, said = runs_of(cli)
    assert (again, said) == ([row], "")

    cut_off = run_of(cli, row["id"])
    whole = cli(*EVAL[1:], "--json").json["runs"][0]["run"]
    assert len(cli.toy.sent) == 20  # each reply was found
    assert cut_off["trials"] == [
        {**t, "scores": [s for s in t["scores"] if s["name"] == "right"]}
        for t in whole["trials"][:FIRST]
    ]
    assert {t["scores"][0]["value"] for t in cut_off["trials"]} == {0.0, 1.0}
    assert cut_off["evals_digest"] != whole["evals_digest"]
    assert cut_off["inputs_digest"] == whole["inputs_digest"]


def test_what_is_recovered_of_a_whole_session_is_what_it_recorded(cli: Cli) -> None:
    """Of two tasks and two candidates, with faults, dialogues, parts and an aggregate: but for
    being whole, which nobody can know.
    """
    (cli.toy.task / "eval_toy.py").write_text(ALL_SORTS)
    other = cli.toy.root / "evals/other"
    shutil.copytree(cli.toy.task, other)
    (other / "eval_toy.py").unlink()
    (other / "eval_other.py").write_text(DIALOGUE)
    keeps = "from harness.store.journal import Journal\nJournal.remove = Journal.close\n"
    (cli.toy.root / "conftest.py").write_text(keeps)  # as one who is killed after the last score
    done = cli.toy.pytest("evals", "--candidate", "plain", "--candidate", "shots", MODE="overflow")
    assert done.returncode == 1, done.stdout

    def runs() -> list[Run]:
        with Store.open(store_of(cli.toy)) as store:
            return [store.run(row.id) for row in store.runs()]

    recorded = {run.id: run for run in runs()}
    assert {(run.task, run.candidate.name) for run in recorded.values()} == {
        (task, name) for task in ("toy", "other") for name in ("plain", "shots")
    }
    assert cli("runs").err.count("recovered ") == 4
    as_cut_off = {replace(run, is_complete=False).id for run in recorded.values()}
    assert {run.id for run in runs()} == {*recorded, *as_cut_off}

    cli.toy.pytest("evals/toy", "--candidate", "plain", "-k", "many")
    assert cli("runs").err == ""  # an aggregate alone costs nothing to have again
    assert files_beside(store_of(cli.toy)) == []


@pytest.mark.parametrize("more", [(), ("-n", "2")])
def test_the_next_eval_tells_what_it_recovered_and_what_a_regular_one_leaves_is_nothing(
    cli: Cli, more: tuple[str, ...]
) -> None:
    kill(begin(cli.toy, "pytest", "evals/toy", "--candidate", "plain", "-q"))
    (cli.toy.task / "eval_toy.py").write_text(EVALS.replace(STANDS, ""))
    done = cli.toy.pytest("evals/toy", "--candidate", "plain", "-q", *more)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("recovered 15 scores of a run that was cut off: ") == 1
    assert files_beside(store_of(cli.toy)) == []
    kinds = [row["is_complete"] for row in runs_of(cli)[0]]
    assert kinds == [False, True]


def test_a_run_that_is_under_way_is_left_alone(cli: Cli) -> None:
    one = begin(cli.toy, *EVAL)
    try:
        other = cli("eval", "toy", "--candidate", "reference", "--", "-k", "short")
        assert "recovered" not in other.out + other.err
        rows, said = runs_of(cli)
        assert [row["candidate"] for row in rows] == ["reference"]
        assert said == ""
        assert lines_of(cli.toy) == FIRST + 1
    finally:
        kill(one)
    rows, said = runs_of(cli)
    assert [row["candidate"] for row in rows] == ["plain", "reference"]  # as they ended
    assert "recovered 15 scores" in said


def test_a_child_that_outlives_its_run_does_not_keep_its_scores(cli: Cli) -> None:
    """A server that an eval began has nothing of ours open."""
    (cli.toy.task / "eval_toy.py").write_text(
        EVALS.replace(
            STANDS,
            "    if case.id == 'c15':\n"
            "        import subprocess\n"
            "        subprocess.run(['sleep', '10'], start_new_session=True)\n",
        )
    )
    kill(begin(cli.toy, *EVAL))
    assert "recovered 15 scores" in runs_of(cli)[1]


def test_the_controller_of_xdist_keeps_what_its_workers_scored(cli: Cli) -> None:
    evals = f"import time\ndef test_right(case, reply):\n{STANDS}{RIGHT}"
    (cli.toy.task / "eval_toy.py").write_text(evals)
    command = ("pytest", "evals/toy", "--candidate", "plain", "-q", "-n", "2")
    process = begin(cli.toy, *command, scores=17)
    kill(process)
    many = lines_of(cli.toy) - 1
    [row], said = runs_of(cli)
    assert f"recovered {many} scores" in said
    found = run_of(cli, row["id"])
    assert set(values(found)) < {f"c{i}" for i in range(20) if i != 15}
    assert len(found["trials"]) == many
    assert all(t["reply_key"] and t["case_digest"] for t in found["trials"])
    assert row["is_complete"] is False


def test_a_look_at_the_sealed_split_is_counted_though_its_run_is_killed(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text(EVALS.replace("c15", "c26"))
    kill(begin(cli.toy, *EVAL, "--split", "test", scores=1))
    with Store.open(store_of(cli.toy)) as store:
        kinds = [entry.kind for entry in store.ledger(task="toy")]
    assert kinds == ["policy", "look"]


def test_scores_before_which_no_promise_could_be_written_are_no_run(cli: Cli) -> None:
    """As where the store is locked: what was promised after the scores were seen is no promise."""
    (cli.toy.task / "eval_toy.py").write_text(EVALS.replace(STANDS, ""))
    (cli.toy.task / "conftest.py").write_text(
        "from harness.errors import StoreError\n"
        "from harness.surface import eval_recording\n"
        "def locked(*_, **__):\n    raise StoreError('the store is locked')\n"
        "eval_recording.pin_policy = locked\n"
    )
    done = cli.toy.run(*EVAL)
    assert done.returncode == 4
    assert "the store is locked" in done.stderr
    assert runs_of(cli) == ([], "")


def test_what_cannot_be_recovered_is_told_and_refuses_nothing(cli: Cli) -> None:
    """As what a newer harness left."""
    kill(begin(cli.toy, *EVAL))
    [path] = files_beside(store_of(cli.toy))
    text = path.read_text()
    path.write_text(text.replace('"split":"dev"', '"split":"dev","mood":"good"', 1))
    rows, said = runs_of(cli)
    assert rows == []
    assert f"scores of a run that was cut off could not be recorded: {path} does not" in said
    assert "'mood'" in said
    path.write_text("{}\n[1]\n")
    assert f"{path} does not fit this program" in runs_of(cli)[1]
    path.write_text(text)
    assert "recovered 15 scores" in runs_of(cli)[1]


def test_a_file_that_cannot_be_read_keeps_no_other_back(cli: Cli) -> None:
    kill(begin(cli.toy, *EVAL))
    (one,) = files_beside(store_of(cli.toy))
    odd = one.with_name(f"{store_of(cli.toy).name}{MARK}0-0")
    odd.write_text("[1]\n")
    rows, said = runs_of(cli)
    assert [row["is_complete"] for row in rows] == [False]
    assert f"{odd} does not fit this program" in said
    assert "recovered 15 scores" in said
    assert files_beside(store_of(cli.toy)) == [odd]


def test_where_no_file_can_be_kept_runs_are_as_they_were(cli: Cli) -> None:
    """As on Windows."""
    (cli.toy.task / "eval_toy.py").write_text(EVALS.replace(STANDS, ""))
    (cli.toy.task / "conftest.py").write_text(
        "from harness.store.journal import Journal\nJournal.begin = lambda store: None\n"
    )
    begin = Journal.begin
    try:
        assert cli("eval", "toy", "--candidate", "shots").code == 0
    finally:
        Journal.begin = begin  # type: ignore[method-assign]
    [row] = cli("runs", "--json").json
    assert row["is_complete"] is True


def test_plugins_are_told_of_trials_that_were_recovered(cli: Cli) -> None:
    kill(begin(cli.toy, *EVAL))
    with (cli.toy.root / "site/adder.py").open("a") as file:
        file.write(
            "\n@harness.hookimpl\ndef harness_recorded(record):\n"
            "    print(record.case_id, file=open('told', 'a'))\n"
        )
    cli.toy.harness("runs")
    assert (cli.toy.root / "told").read_text().split() == [f"c{i}" for i in range(FIRST)]


def test_plugins_that_do_not_load_keep_no_scores_back(cli: Cli) -> None:
    kill(begin(cli.toy, *EVAL))
    (cli.toy.root / "site/adder.py").write_text("raise RuntimeError('boom')\n")
    assert "recovered 15 scores" in cli.toy.harness("runs").stderr
    assert files_beside(store_of(cli.toy)) == []

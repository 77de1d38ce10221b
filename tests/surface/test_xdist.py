"""Several workers: what one of them learnt is in the run, and what stops them all is said once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.surface.toy import Toy


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


def test_what_kept_a_reply_away_is_in_the_run_as_the_worker_knew_it(toy: Toy) -> None:
    """An overflow is the model's own failure; taken for lost, it would be no evidence."""
    done = toy.pytest("evals/toy", "--candidate", "shots", "-n", "2", MODE="overflow")
    assert done.returncode == 1
    assert "F shots 1 of 12 (c4): context overflow" in done.stdout
    run_id = json.loads(toy.harness("runs", "--json").stdout)[0]["id"]
    run = json.loads(toy.harness("runs", run_id, "--json").stdout)["run"]
    faults = [t["fault"] for t in run["trials"] if "fault" in t]
    expected = {"origin": "backend", "message": "context overflow", "is_missing": False}
    assert faults == [expected]


@pytest.mark.parametrize("mistake", ["scheme", "field"])
def test_what_stops_every_worker_ends_the_run_as_one_process_would(toy: Toy, mistake: str) -> None:
    """Code 4 of pytest, told once, and no item runs; `harness eval` ends as with one process."""
    candidate, says = "plain@zz:x", "no backend 'zz'. Known: "
    if mistake == "field":
        (toy.task / "prompts/plain.md").write_text("@user\n{{ c }}\n")
        candidate, says = "plain", "'c' is undefined. Its fields: a, b"
    for workers in ((), ("-n", "2")):
        done = toy.pytest("evals/toy", "--candidate", candidate, *workers)
        assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
        assert (done.stdout + done.stderr).count(says) == 1
        assert not any(word in done.stdout for word in ("INTERNALERROR", "fault", "FAILED"))
        told = toy.harness("eval", "toy", "--candidate", candidate, "--", *workers)
        assert told.returncode == 2
        assert (told.stdout + told.stderr).count(says) == 1
    assert toy.sent == []
    assert json.loads(toy.harness("runs", "--json").stdout) == []


@pytest.mark.parametrize("mistake", ["leak", "candidate", "file"])
def test_what_no_worker_can_read_ends_the_run_as_one_process_would(toy: Toy, mistake: str) -> None:
    """Code 2, told once, and nothing is asked: not of another task either, nor of plain tests."""
    fine = toy.root / "evals/fine"
    shutil.copytree(toy.task, fine)
    (fine / "eval_toy.py").rename(fine / "eval_fine.py")
    (fine / "test_plain.py").write_text("def test_plain():\n    open('ran', 'w')\n")
    cases, candidate = toy.task / "cases.jsonl", "plain"
    if mistake == "leak":
        cases.write_text(cases.read_text().replace('"k13"', '"k2"'))
        says = "cases.jsonl:14: the source 'k2' of 'c13' (train) is in dev too, at "
    elif mistake == "file":
        cases.write_text(cases.read_text() + "{")
        says = "cases.jsonl:23: not JSON"
    else:
        candidate, says = "nobody", "no candidate 'nobody' in task 'toy'"
    words = ("evals", "--candidate", candidate, "--split", "train", "-p", "no:cacheprovider")
    alone, spread = toy.pytest(*words), toy.pytest(*words, "-n", "2")
    for done in (alone, spread):
        assert done.returncode == 2, done.stdout
        errors = done.stdout.split("short test summary info")[0]
        assert errors.count(says) == 1
        assert "during collection" in done.stdout
        assert "passed" not in done.stdout
    assert (toy.sent, (toy.root / "ran").exists()) == ([], False)


def test_what_no_worker_can_choose_ends_the_run_as_one_process_would(toy: Toy) -> None:
    done = toy.pytest("evals/toy", "--candidate", "plain", "--only", "missed", "-n", "2")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.count("nothing is recorded of plain over dev") == 1


def test_a_worker_that_is_killed_leaves_a_partial_run_and_no_verdict_on_an_older_one(
    toy: Toy,
) -> None:
    """pytest-evals 0.3.4: -n 8 died, and the analysis then passed on the older run's file."""
    both = ("--candidate", "plain", "--candidate", "shots")
    evals = toy.task / "eval_toy.py"
    assert toy.harness("eval", "toy", *both).returncode == 0
    compare = ("compare", "toy", "--baseline", "plain", "--candidate", "shots")
    assert "no complete, current run" not in toy.harness(*compare).stderr
    evals.write_text(
        "import os, time\n"
        "def test_right(case, reply):\n"
        "    if case.id == 'c5':\n"
        "        time.sleep(0.2)\n"  # xdist breaks off where it sends to a worker that is dying
        "        os.kill(os.getpid(), 9)\n"  # as a machine out of memory does
        "    assert reply.text\n"
    )
    died = toy.pytest("evals/toy", *both, "-n", "2")
    assert died.returncode == 1
    assert "crashed" in died.stdout
    runs = json.loads(toy.harness("runs", "--json").stdout)
    assert sorted(run["is_complete"] for run in runs) == [False, False, True, True]
    refused = toy.harness(*compare)
    assert refused.returncode == 3
    assert "no complete, current run of " in refused.stderr

"""Several workers: what one of them learnt is in the run, and what stops them all is said once."""

from __future__ import annotations

import shutil

import pytest

from tests.surface.inprocess import Cli


def test_what_kept_a_reply_away_is_in_the_run_as_the_worker_knew_it(cli: Cli) -> None:
    """An overflow is the model's own failure; taken for lost, it would be no evidence."""
    done = cli.pytest("evals/toy", "--candidate", "shots", "-n", "2", MODE="overflow")
    assert done.code == 1
    assert "F shots 1 of 12 (c4): context overflow" in done.out
    run_id = cli("runs", "--json").json[0]["id"]
    run = cli("runs", run_id, "--json").json["run"]
    faults = [t["fault"] for t in run["trials"] if "fault" in t]
    expected = {"origin": "backend", "message": "context overflow", "is_missing": False}
    assert faults == [expected]


@pytest.mark.parametrize("mistake", ["scheme", "field"])
def test_what_stops_every_worker_ends_the_run_as_one_process_would(cli: Cli, mistake: str) -> None:
    """Code 4 of pytest, told once, and no item runs; `harness eval` ends as with one process."""
    candidate, says = "plain@zz:x", "no backend 'zz'. Known: "
    if mistake == "field":
        (cli.toy.task / "prompts/plain.md").write_text("@user\n{{ c }}\n")
        candidate, says = "plain", "'c' is undefined. Its fields: a, b"
    words = ("evals/toy", "--candidate", candidate)
    for workers in ((), ("-n", "2")):
        done = cli.pytest(*words, *workers)
        assert done.code == pytest.ExitCode.USAGE_ERROR, done.out + done.err
        assert (done.out + done.err).count(says) == 1
        assert not any(word in done.out for word in ("INTERNALERROR", "fault", "FAILED"))
        told = cli("eval", "toy", *words[1:], "--", *workers)
        assert told.code == 2
        assert (told.out + told.err).count(says) == 1
    assert cli.toy.sent == []
    assert cli("runs", "--json").json == []


@pytest.mark.parametrize("mistake", ["leak", "candidate", "file"])
def test_what_no_worker_can_read_ends_the_run_as_one_process_would(cli: Cli, mistake: str) -> None:
    """Code 2, told once, and nothing is asked: not of another task either, nor of plain tests."""
    fine = cli.toy.root / "evals/fine"
    shutil.copytree(cli.toy.task, fine)
    (fine / "eval_toy.py").rename(fine / "eval_fine.py")
    (fine / "test_plain.py").write_text("def test_plain():\n    open('ran', 'w')\n")
    cases, candidate = cli.toy.task / "cases.jsonl", "plain"
    if mistake == "leak":
        cases.write_text(cases.read_text().replace('"k13"', '"k2"'))
        says = "cases.jsonl:14: the source 'k2' of 'c13' (train) is in dev too, at "
    elif mistake == "file":
        cases.write_text(cases.read_text() + "{")
        says = "cases.jsonl:23: not JSON"
    else:
        candidate, says = "nobody", "no candidate 'nobody' in task 'toy'"
    words = ("evals", "--candidate", candidate, "--split", "train", "-p", "no:cacheprovider")
    for done in (cli.pytest(*words), cli.pytest(*words, "-n", "2")):
        assert done.code == 2, done.out
        errors = done.out.split("short test summary info")[0]
        assert errors.count(says) == 1
        assert "during collection" in done.out
        assert "passed" not in done.out
    assert (cli.toy.sent, (cli.toy.root / "ran").exists()) == ([], False)


def test_what_no_worker_can_choose_ends_the_run_as_one_process_would(cli: Cli) -> None:
    done = cli.pytest("evals/toy", "--candidate", "plain", "--only", "missed", "-n", "2")
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert done.err.count("nothing is recorded of plain over dev") == 1


def test_a_worker_that_is_killed_leaves_a_partial_run_and_no_verdict_on_an_older_one(
    cli: Cli,
) -> None:
    """pytest-evals 0.3.4: -n 8 died, and the analysis then passed on the older run's file."""
    both = ("--candidate", "plain", "--candidate", "shots")
    evals = cli.toy.task / "eval_toy.py"
    assert cli("eval", "toy", *both).code == 0
    compare = ("compare", "toy", "--baseline", "plain", "--candidate", "shots")
    assert "no complete, current run" not in cli(*compare).err
    evals.write_text(
        "import os, time\n"
        "def test_right(case, reply):\n"
        "    if case.id == 'c5':\n"
        "        time.sleep(0.2)\n"  # xdist breaks off where it sends to a worker that is dying
        "        os.kill(os.getpid(), 9)\n"  # as a machine out of memory does
        "    assert reply.text\n"
    )
    died = cli.pytest("evals/toy", *both, "-n", "2")
    assert died.code == 1
    assert "crashed" in died.out
    runs = cli("runs", "--json").json
    assert sorted(run["is_complete"] for run in runs) == [False, False, True, True]
    refused = cli(*compare)
    assert refused.code == 3
    assert "no complete, current run of " in refused.err

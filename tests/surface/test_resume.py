"""Stopped at any moment, an eval loses nothing that was answered; the next one sends the rest."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.store.store import Store
from tests.surface.toy import Toy

CASES = 40
IN_FLIGHT = 8
EVAL = ("eval", "toy", "--candidate", "plain")


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path, dev=CASES)


def begin(toy: Toy, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return toy.begin("harness", *arguments, **environment)


def wait_until_sent(toy: Toy, n: int, process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 60
    while len(toy.sent) < n:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.005)


def stored(toy: Toy) -> int:
    """Return how many replies the store holds, read as another process would."""
    with Store.open(toy.root / ".harness/harness.db", read_only=True) as opened:
        return int(opened._connection.execute("SELECT count(*) FROM replies").fetchone()[0])


def test_kill_9_loses_at_most_what_was_in_flight_and_the_rest_alone_is_sent(toy: Toy) -> None:
    process = begin(toy, *EVAL, PAUSE="0.25")
    wait_until_sent(toy, 3 * IN_FLIGHT, process)  # so that two rounds were answered
    process.kill()
    process.communicate()
    sent, kept = len(toy.sent), stored(toy)
    assert kept >= sent - IN_FLIGHT
    assert kept >= IN_FLIGHT
    again = toy.harness(*EVAL, "--json")
    assert again.returncode == 0, again.stderr
    assert len(toy.sent) - sent == CASES - kept
    [run] = json.loads(again.stdout)["runs"]
    assert run["run"]["is_complete"] is True


def test_ctrl_c_exits_130_says_that_it_goes_on_and_does(toy: Toy) -> None:
    process = begin(toy, *EVAL, PAUSE="0.25")
    wait_until_sent(toy, 2 * IN_FLIGHT + 1, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "interrupted; what was recorded is kept, and the same command goes on" in err
    assert "Traceback" not in out + err
    sent, kept = len(toy.sent), stored(toy)
    assert IN_FLIGHT <= sent - IN_FLIGHT <= kept
    again = toy.harness(*EVAL)
    assert again.returncode == 0, again.stderr
    assert len(toy.sent) - sent == CASES - kept


def test_ctrl_c_while_evals_run_is_130_too_and_the_run_is_partial(toy: Toy) -> None:
    (toy.task / "eval_toy.py").write_text(
        "import time, pathlib\n"
        "def test_right(case, reply):\n"
        "    if case.id == 'c5':\n"
        "        pathlib.Path('there').touch()\n"
        "        time.sleep(60)\n"
        "    assert reply.text == case.reference\n"
    )
    process = begin(toy, *EVAL)
    limit = time.monotonic() + 60
    while not (toy.root / "there").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    with Store.open(toy.root / ".harness/harness.db", read_only=True) as opened:
        [run] = opened.runs()
    assert (run.is_complete, run.cases) == (False, 5)
    assert stored(toy) == CASES


def test_the_module_works_from_a_folder_below_and_with_a_path(toy: Toy) -> None:
    for folder, name in [(toy.root / "evals", "toy"), (toy.task, "."), (toy.root, "evals/toy")]:
        done = subprocess.run(
            [sys.executable, "-m", "harness", "eval", name],
            cwd=folder,
            env=toy.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "121 passed" in done.stdout
    with Store.open(toy.root / ".harness/harness.db", read_only=True) as opened:
        assert len(opened.runs()) == 1
    assert list(toy.root.rglob("harness.db")) == [toy.root / ".harness/harness.db"]


def test_progress_and_retries_are_shown_while_replies_are_fetched(toy: Toy) -> None:
    """pytest captures what evals print; the progress of a long fetch is not theirs."""
    done = toy.harness(*EVAL, "--json", PAUSE="0.05")
    assert "replies: 0 of 40" in done.stderr
    assert "replies: 40 of 40" in done.stderr
    done = toy.pytest("evals/toy", "--candidate", "shots", "-q", "-k", "right", PAUSE="0.05")
    assert "replies: 40 of 40" in done.stderr


def test_two_evals_at_once_send_each_request_once(toy: Toy) -> None:
    both = [begin(toy, *EVAL, "--json", PAUSE="0.6") for _ in range(2)]
    outs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    ids = {json.loads(out)["runs"][0]["id"] for out, _ in outs}
    assert len(ids) == 1
    assert sum("waiting for another run" in err for _, err in outs) == 1
    assert len(toy.sent) == CASES

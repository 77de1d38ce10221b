"""What never comes back to Python ends its process, or a worker, and says whose case it was: where
no parent waits for it (`test_parent`), as within a program of somebody else.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.surface.inprocess import Cli
from tests.surface.test_bad_evals import QUICK, faults, values
from tests.surface.test_time_limits import LIMITED, RIGHT, only_c5_is_a_fault, write

WITHIN = """
import sys
import pytest
from harness.surface.cli import main

if sys.argv[1] == "pytest":
    raise SystemExit(pytest.main(["-q", *sys.argv[2:]]))
main(sys.argv[2:])
"""
AT_ONCE = "import harness.surface.alarm\nharness.surface.alarm.HOLD_S = 0\n"
"""What never comes back is given up as soon as its limit is over: a second after it began, since
`faulthandler` is told whole seconds.
"""


def within(cli: Cli, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a program that has others beside it to do: it has no parent."""
    (cli.toy.root / "site/within.py").write_text(WITHIN)
    return cli.toy.run("within", *command)


def test_code_that_never_comes_back_to_python_ends_its_process_and_names_its_case(
    cli: Cli,
) -> None:
    """A job of CI that hangs is worse; what was scored is recorded by the next command."""
    write(
        cli,
        "import itertools\n"
        "def test_right(case, reply):\n"
        "    if case.id == 'c5':\n        sum(itertools.repeat(0))\n" + RIGHT,
        conftest=AT_ONCE,
    )
    for run in (
        lambda: within(cli, "pytest", "evals/toy", "--candidate", "shots"),
        lambda: within(cli, "harness", "eval", "toy", "--candidate", "shots"),
    ):
        done = run()
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Timeout (0:00:0" in done.stderr
        assert 'eval_toy.py", line 4 in test_right' in done.stderr
        assert 'File "right[shots-c5] was under way: where the process ends here' in done.stderr
        assert "with `-n 1` (pytest-xdist) a worker alone ends" in done.stderr
        assert "replies and scores are kept" in done.stderr
    said = cli("runs", "--json")
    [recorded] = said.json  # of both: they scored the same
    assert recorded["is_complete"] is False
    assert said.err == (
        f"recovered 5 scores of a run that was cut off: {recorded['id'][:8]} partial, "
        "shots on toy\n"
    )
    found = cli("runs", recorded["id"], "--json")
    assert values(found.json["run"]) == {f"c{i}": 1.0 for i in range(5)}
    assert found.err == ""
    assert len(cli.toy.sent) == 12  # the second time, each reply was found


def test_c_code_that_lets_threads_run_ends_its_process_with_what_was_scored(cli: Cli) -> None:
    write(
        cli,
        "import pytest, sqlite3\n"
        "ENDLESS = ('with recursive c(x) as (select 1 union all select x + 1 from c) '\n"
        "           'select count(*) from c')\n"
        "@pytest.fixture\ndef base(case):\n"
        "    yield sqlite3.connect(':memory:')\n"
        "    print('gone')\n"
        "def test_right(case, reply, base):\n"
        "    print('captured')\n"
        "    if case.id == 'c5':\n        base.execute(ENDLESS).fetchall()\n" + RIGHT,
        conftest="import harness.surface.alarm\nharness.surface.alarm.HOLD_S = 1\n",
    )
    for run, code in (
        (lambda: within(cli, "pytest", "evals/toy", "--candidate", "shots"), 2),
        (lambda: within(cli, "harness", "eval", "toy", "--candidate", "shots"), 1),
    ):
        done = run()
        assert done.returncode == code, done.stdout + done.stderr
        assert "Timeout (" not in done.stderr  # the thread without Python had nothing to do
        assert "captured" not in done.stdout + done.stderr
        last = done.stdout.splitlines()[-1]
        assert last.startswith(f"c5: the eval {LIMITED}, at evals/toy/eval_toy.py:11. It does not")
        [recorded] = cli("runs", "--json").json
        assert recorded["id"][:8] + " partial" in done.stdout
        found = cli("runs", recorded["id"], "--json").json["run"]
        assert values(found) == {f"c{i}": 1.0 for i in range(5)}
        assert recorded["is_complete"] is False
    assert len(cli.toy.sent) == 12  # the second time, each reply was found


def test_what_comes_back_from_c_while_its_process_ends_changes_nothing(cli: Cli) -> None:
    """What is kept is what was scored until then, however long it takes to write."""
    write(
        cli,
        "import locked\n"
        "def test_right(case, reply):\n"
        "    if case.id == 'c5':\n"
        "        locked.LIBC.pthread_mutex_lock(locked.MUTEX)\n"
        "        print('came back', flush=True)\n" + RIGHT,
    )
    (cli.toy.root / "site/locked.py").write_text(
        "import ctypes, time\n"
        "import harness.surface.alarm, harness.surface.eval_recording as r\n"
        "harness.surface.alarm.HOLD_S = 1\n"
        "LIBC, MUTEX = ctypes.CDLL(None), ctypes.create_string_buffer(256)\n"
        "LIBC.pthread_mutex_init(MUTEX, None)\n"
        "LIBC.pthread_mutex_lock(MUTEX)\n"  # no signal interrupts whoever waits for it
        "finish = r.Recording.finish\n"
        "def slow(self, **more):\n"
        "    LIBC.pthread_mutex_unlock(MUTEX)\n"
        "    time.sleep(1.5)\n"
        "    finish(self, **more)\n"
        "r.Recording.finish = slow\n"
    )
    done = within(cli, "pytest", "evals/toy", "--candidate", "shots", "-s")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "came back" not in done.stdout
    assert f"c5: the eval {LIMITED}" in done.stdout.splitlines()[-1]
    [recorded] = cli("runs", "--json").json
    assert recorded["cases"] == 5


def test_a_limit_is_shown_at_the_line_of_the_eval_that_it_ended(cli: Cli) -> None:
    write(cli, f"def test_right(case, reply):\n    while case.id == 'c5': pass\n{RIGHT}")
    said = cli("eval", "toy", "--candidate", "shots", **QUICK)
    assert "eval_toy.py:2: in test_right" in said.out
    assert f"\nE   EvalTimeout: c5: the eval {LIMITED}" in said.out
    assert "eval_calls.py" not in said.out


def test_a_crash_in_c_tells_what_was_under_way(cli: Cli) -> None:
    write(
        cli,
        "import ctypes, pytest\n"
        "@pytest.fixture\ndef bad(case):\n"
        "    if case.id == 'c5':\n        ctypes.string_at(0)\n"
        f"def test_right(case, reply, bad):\n{RIGHT}",
    )
    done = within(cli, "pytest", "evals/toy", "--candidate", "shots")
    assert done.returncode < 0
    assert 'File "right[shots-c5] was under way: where the process ends here' in done.stderr


def test_what_takes_its_time_between_evals_ends_no_process(cli: Cli) -> None:
    """As waiting for replies, a plugin of somebody else, or an ordinary test that holds the
    interpreter in C: the watch is for evals.
    """
    (cli.toy.task / "test_plain.py").write_text(
        "import ctypes\ndef test_plain():\n    ctypes.PyDLL(None).usleep(1_400_000)\n"
    )
    write(
        cli,
        f"def test_right(case, reply):\n{RIGHT}",
        conftest=f"{AT_ONCE}import time, pytest\n"
        "@pytest.hookimpl(wrapper=True, tryfirst=True)\n"
        "def pytest_runtest_protocol(item):\n"
        "    time.sleep(1.4 if 'c5' in item.name else 0)\n"
        "    return (yield)\n",
    )
    done = cli.toy.pytest("evals/toy", "--candidate", "shots", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "13 passed" in done.stdout


def test_an_eval_with_an_alarm_of_its_own_ends_no_process_and_gets_none_of_ours(cli: Cli) -> None:
    write(
        cli,
        "import signal, time\n"
        "def test_right(case, reply):\n"
        "    if case.id == 'c5':\n"
        "        rang = []\n"
        "        before = signal.signal(signal.SIGALRM, lambda *a: rang.append(1))\n"
        "        signal.alarm(60)\n"
        "        time.sleep(1.4)\n"
        "        signal.alarm(0)\n"
        "        signal.signal(signal.SIGALRM, before)\n"
        "        assert not rang\n" + RIGHT,
        conftest=AT_ONCE,
    )
    done = cli.toy.pytest("evals/toy", "--candidate", "shots", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 passed" in done.stdout


@pytest.mark.parametrize("way", ["trace", "monitoring"])
def test_what_stands_at_a_breakpoint_of_another_debugger_is_not_ended(cli: Cli, way: str) -> None:
    if way == "monitoring" and not hasattr(sys, "monitoring"):
        pytest.skip("debuggers have `sys.monitoring` since Python 3.12")
    begin = {
        "trace": "import bdb\nd = bdb.Bdb()\nd.reset()\n"
        "def begin(): sys.settrace(d.trace_dispatch)",
        "monitoring": "def begin(): sys.monitoring.use_tool_id(sys.monitoring.DEBUGGER_ID, 'd')",
    }[way]
    write(
        cli,
        f"import sys, time\n{begin}\n"
        "def test_right(case, reply):\n"
        "    if case.id == 'c5':\n"
        "        begin()\n"
        "        until = time.monotonic() + 1.4\n"
        "        while time.monotonic() < until: time.sleep(0.1)\n" + RIGHT,
        conftest=AT_ONCE,
    )
    done = cli.toy.pytest("evals/toy", "--candidate", "shots", "-q")
    assert done.returncode == 0, done.stdout + done.stderr


def test_code_that_never_comes_back_to_python_costs_a_worker_and_its_own_case(cli: Cli) -> None:
    """No handler of a signal comes to run in it: where there are workers, one can be ended."""
    write(
        cli,
        "import itertools\n"
        "def test_right(case, reply):\n"
        "    if case.id == 'c5':\n        sum(itertools.repeat(0))\n" + RIGHT,
        conftest=AT_ONCE,
    )
    done = cli.toy.pytest("evals/toy", "--candidate", "shots", "-n", "1", "-q")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "c5: the process that ran it ended" in done.stdout
    assert 'eval_toy.py", line 4 in test_right' in done.stderr
    assert "1 failed, 11 passed" in done.stdout
    recorded = cli("runs", "--json").json
    run = cli("runs", recorded[0]["id"], "--json").json["run"]
    only_c5_is_a_fault(run, "right: c5: the process that ran it ended: exit code 1, of `os._exit`")
    assert len(cli.toy.sent) == 12


DYING = """
import ctypes, os, pytest, signal, time

@pytest.fixture
def after():
    yield
    die("after")

def die(place):
    if place == PLACE:
        time.sleep(0.2)  # xdist breaks off where it sends to a worker that is just dying
        os.kill(os.getpid(), HOW) if HOW else pytest.exit("enough")
"""


def dying(cli: Cli, how: int, evals: str, *, place: str = "") -> dict[str, Any]:
    """Run evals in a worker that dies, and return what is recorded."""
    write(cli, f"HOW, PLACE = {how}, {place!r}\n{DYING}\n{evals}")
    done = cli.toy.pytest("evals/toy", "--candidate", "shots", "-n", "1", "-q")
    assert done.returncode in {1, 2}, done.stdout + done.stderr
    [recorded] = cli("runs", "--json").json
    run: dict[str, Any] = cli("runs", recorded["id"], "--json").json["run"]
    return run | {"said": done.stdout}


DIES = f"def test_right(case, reply):\n    if case.id == 'c5': die(PLACE)\n{RIGHT}"
LEFT_OUT = {f"c{i}": 1.0 for i in range(12) if i != 5}


def test_a_crash_in_a_worker_is_a_fault_of_its_eval(cli: Cli) -> None:
    """As in one process: it counts as failed, and the run is whole."""
    run = dying(cli, signal.SIGSEGV, DIES)
    only_c5_is_a_fault(run, "right: c5: the process that ran it ended: a crash in C code (SIGSEGV)")
    (cli.toy.task / "eval_toy.py").write_text(f"def test_right(case, reply):\n{RIGHT}")
    again = cli.pytest("evals/toy", "--candidate", "shots", "-q", "--only", "faults")
    assert "1 passed" in again.out


def test_who_kills_a_worker_is_no_fault_of_its_eval(cli: Cli) -> None:
    """As a machine out of memory does: no verdict rests on it."""
    run = dying(cli, signal.SIGKILL, DIES)
    assert "c5: the process that ran it ended: SIGKILL came from outside (a person" in run["said"]
    assert (values(run), faults(run), run["is_complete"]) == (LEFT_OUT, {}, False)


def test_what_exits_a_worker_is_no_crash(cli: Cli) -> None:
    run = dying(cli, 0, DIES)
    assert (
        "c5: the process that ran it ended: it was interrupted, by `pytest.exit(...)`"
        in (run["said"])
    )
    assert "crash in C" not in run["said"]
    assert (faults(run), run["is_complete"]) == ({}, False)


def test_a_crash_after_an_eval_leaves_its_score(cli: Cli) -> None:
    evals = DIES.replace("reply", "reply, request", 1).replace(
        "die(PLACE)", "request.getfixturevalue('after')"
    )
    run = dying(cli, signal.SIGSEGV, evals, place="after")
    assert "c5: the process that ran it ended: a crash in C code" in run["said"]
    assert (faults(run), run["is_complete"]) == ({}, True)
    assert values(run) == LEFT_OUT | {"c5": 1.0}


def test_a_crash_in_an_eval_of_a_dialogue_is_a_fault(cli: Cli) -> None:
    evals = "def test_right(case, ask):\n    if case.id == 'c5': die(PLACE)\n"
    run = dying(cli, signal.SIGSEGV, evals)
    only_c5_is_a_fault(run, "right: c5: the process that ran it ended")


def test_a_crash_in_an_eval_of_all_replies_is_a_fault_of_it_alone(cli: Cli) -> None:
    evals = f"def test_right(case, reply):\n{RIGHT}def test_sum(trials):\n    die(PLACE)\n"
    run = dying(cli, signal.SIGSEGV, evals)
    assert (faults(run), run["is_complete"]) == ({}, True)
    [score] = run["aggregates"]
    assert score["reason"].startswith("the trials of shots: the process that ran it ended: a crash")


@pytest.mark.parametrize(
    ("candidate", "marks"),
    [("shots", "@pytest.mark.parametrize('by', 'xy')\n"), ("shots@adder:small::7b", "")],
)
def test_a_crash_names_its_case_whatever_else_stands_in_the_name(
    cli: Cli, candidate: str, marks: str
) -> None:
    argument = ", by" if marks else ""
    write(
        cli,
        f"import os, pytest, time\n{marks}def test_right(case, reply{argument}):\n"
        # xdist breaks off where it sends to a worker that is just dying
        f"    if case.id == 'c5':\n        time.sleep(0.2)\n        os._exit(3)\n{RIGHT}",
    )
    done = cli.toy.pytest("evals/toy", "--candidate", candidate, "-n", "1", "-q")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "c5: the process that ran it ended" in done.stdout

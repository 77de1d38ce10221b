"""A request that takes its process with it costs its own case: it is found, and not asked again."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter

import pytest

from tests.surface.inprocess import Cli
from tests.surface.test_bad_evals import faults, values
from tests.surface.test_never_comes_back import within
from tests.surface.test_time_limits import RIGHT, write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no parent")
APP = """
import asyncio, ctypes, itertools, os, re, sqlite3, threading, time
ENDLESS = "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c"

def begin(text):
    a, b = map(int, re.findall(r"\\d+", text))
    with open("asked", "a") as log:
        log.write(f"{a}\\n")
    return a, str(a + b)

def end(a):
    if a == 2:
        ctypes.string_at(0)
    if a == 4:
        sum(itertools.repeat(0))
    if a == 7:
        os._exit(3)

def plain(request):
    a, right = begin(request.messages[-1].content)
    time.sleep(0.05)
    end(a)
    return {"text": right, "cost_usd": 0.01}

async def waits(request):
    a, right = begin(request.messages[-1].content)
    await asyncio.sleep(0.05)
    end(a)
    if a == 9:
        sqlite3.connect(":memory:").execute(ENDLESS).fetchall()
    return right

def crash(request):
    begin(request.messages[-1].content)
    ctypes.string_at(0)

def one(request):
    a, right = begin(request.messages[-1].content)
    if a == 4:
        sum(itertools.repeat(0))
    return right
"""
HOLD = "sum(itertools.repeat(0))"
SOON = "import harness.engine.reins\nharness.engine.reins.HOLD_S = 0\n"
"""What never comes back is given up as soon as its limit is over."""
AGAIN = "the run began again without it"


def write_app(
    cli: Cli, function: str, *, evals: str = f"def test_right(case, reply):\n{RIGHT}"
) -> str:
    """Write the application; return the candidate that it is."""
    write(cli, evals, conftest=SOON)
    (cli.toy.task / "app.py").write_text(APP)
    task = cli.toy.task / "task.toml"
    task.write_text(f'{task.read_text()}\n[backends."python:app:{function}"]\ntimeout_s = 0.5\n')
    return f"shots@python:app:{function}"


def asked(cli: Cli) -> Counter[str]:
    log = cli.toy.root / "asked"
    return Counter(log.read_text().split() if log.exists() else ())


@pytest.mark.parametrize(
    ("function", "command"), [("plain", "pytest -q evals/toy"), ("waits", "harness eval toy")]
)
def test_a_request_that_ends_its_process_is_a_fault_and_every_other_is_answered(
    cli: Cli, function: str, command: str
) -> None:
    """Code that holds the interpreter, a crash, an exit; of a plain function and of an async one,
    which may also stay in C that lets others go on.
    """
    name = f"python:app:{function}"
    done = cli.toy.run(*command.split(), "--candidate", write_app(cli, function))
    assert done.returncode == 1, done.stdout + done.stderr
    [recorded] = cli("runs", "--json").json
    run = cli("runs", recorded["id"], "--json").json["run"]
    late = f"{name}: no reply within 0.5 s: it did not come back from evals/toy/app.py"
    said = {
        "c2": f"{name} crashed its process (SIGSEGV), at evals/toy/app.py:13; {AGAIN}",
        "c4": f"{late}:15, and its process was ended; {AGAIN}",
        "c7": f"{name} ended its process with exit code 3; {AGAIN}",
    }
    if function == "waits":
        said["c9"] = f"{late}:30, and its process was ended; {AGAIN}"
    assert {c: f["message"] for c, f in faults(run).items()} == said
    assert {f["origin"] for f in faults(run).values()} == {"backend"}
    assert [v for c, v in values(run).items() if c not in said] == [1.0] * (12 - len(said))
    assert run["is_complete"] is True
    assert done.stderr.count("The run begins again without it") == len(said)
    assert "each of them is asked alone; what was answered is kept." in done.stderr
    assert "Timeout (" not in done.stderr
    assert "threads.py" not in done.stderr
    times = asked(cli)
    assert set(times) == {str(i) for i in range(12)}
    assert (
        max(times.values()) <= 2 + len(said) - 1
    )  # one in flight, and each that fell with another


def test_a_candidate_that_ends_every_process_is_down_after_three(cli: Cli) -> None:
    candidate = write_app(cli, "crash")
    done = cli.toy.run("harness", "eval", "toy", "--candidate", candidate)
    assert done.returncode == 4, done.stdout + done.stderr
    assert done.stderr.count("The run begins again without it") == 3
    assert "python:app:crash is down: " in done.stderr
    times = asked(cli)
    assert len(times) <= 3 + 8  # three, and what was in flight beside the first
    assert "0 of" not in done.stderr.splitlines()[-1]


def test_a_turn_of_a_dialogue_that_ends_its_process_is_a_fault_of_its_case(cli: Cli) -> None:
    evals = (
        "def test_right(case, ask):\n"
        '    reply = ask(f\'{case.inputs["a"]} + {case.inputs["b"]}\')\n' + RIGHT
    )
    candidate = write_app(cli, "plain", evals=evals)
    done = cli.toy.run("harness", "eval", "toy", "--candidate", candidate)
    assert done.returncode == 1, done.stdout + done.stderr
    [recorded] = cli("runs", "--json").json
    run = cli("runs", recorded["id"], "--json").json["run"]
    assert {c: f["origin"] for c, f in faults(run).items()} == dict.fromkeys(
        ("c2", "c4", "c7"), "backend"
    )
    assert "no reply within 0.5 s" in faults(run)["c4"]["message"]
    assert [v for c, v in values(run).items() if c not in faults(run)] == [1.0] * 9
    assert max(asked(cli).values()) == 1  # one is under way at a time, so it is known at once
    assert "given up before" not in done.stderr


def test_what_was_spent_before_a_process_ended_counts(cli: Cli) -> None:
    """Else each process has the whole cap for itself, and the last one finds that the rest fits."""
    candidate = write_app(cli, "plain")
    done = cli.toy.run("harness", "eval", "toy", "--candidate", candidate, "--max-cost", "0.085")
    assert done.stderr.count("The run begins again without it") == 2  # within the pilot
    assert done.returncode == 2
    assert "error: the forecast is $0." in done.stderr
    answered = set(asked(cli)) - {"2", "4", "7"}
    assert f"what was answered (${len(answered) / 100:.2f}) is kept" in done.stderr
    assert len(answered) < 9


def test_a_worker_that_a_request_ends_is_not_replaced(cli: Cli) -> None:
    """Every other would send that request again, and end."""
    candidate = write_app(cli, "one")
    done = cli.toy.run("harness", "eval", "toy", "--candidate", candidate, "--", "-n", "2")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "a worker ended while it asked for replies: exit code 1" in done.stderr
    assert "Without `-n`, the request that ends its process costs its own case alone" in done.stderr
    assert "c4 of python:app:one was under way: where the process ends here" in done.stderr
    assert asked(cli)["4"] <= 2


def test_where_no_parent_waits_the_process_ends_and_names_what_was_under_way(cli: Cli) -> None:
    candidate = write_app(cli, "one")
    done = within(cli, "harness", "eval", "toy", "--candidate", candidate)
    assert done.returncode == 1
    assert "Timeout (0:00:0" in done.stderr
    assert 'app.py", line' in done.stderr
    assert "c4 of python:app:one was under way: where the process ends here" in done.stderr


def test_a_ladder_goes_on_without_it_too(cli: Cli) -> None:
    write_app(cli, "one")
    task = cli.toy.task / "task.toml"
    task.write_text(task.read_text().replace("adder:small", "python:app:one"))
    (cli.toy.root / "site/sitecustomize.py").write_text(SOON)
    done = cli.toy.run("harness", "ladder", "toy", "--only-files")
    assert done.returncode == 0, done.stdout + done.stderr
    runs = [cli("runs", r["id"], "--json").json["run"] for r in cli("runs", "--json").json]
    asking = [run for run in runs if run["candidate"]["backend"] == "python:app:one"]
    assert len(asking) == 2
    assert all(run["is_complete"] and list(faults(run)) == ["c4"] for run in asking)


def test_a_gate_says_nothing_for_a_candidate_that_exits_and_looks_once(cli: Cli) -> None:
    """Its exit code 0 was taken for SHIP."""
    write_app(cli, "one")
    cli.toy.seal(test=40)
    app = cli.toy.task / "app.py"
    app.write_text(app.read_text().replace("a == 4", "a == 30").replace(HOLD, "os._exit(0)"))
    task = cli.toy.task / "task.toml"
    task.write_text(task.read_text().replace("adder:small", "python:app:one"))
    gate = ("harness", "gate", "toy", "--candidate", "shots", "--baseline", "plain", "--json")
    done = cli.toy.run(*gate)
    assert json.loads(done.stdout)["verdict"]["answer"] != "SHIP"
    assert done.returncode in {1, 3}, done.stdout + done.stderr
    assert "c30 of python:app:one ended its process with exit code 0" in done.stderr
    assert json.loads(done.stdout)["verdict"]["look"] == 1


def test_who_is_killed_from_outside_while_it_asks_ends_the_command(cli: Cli) -> None:
    candidate = write_app(cli, "one")
    app = cli.toy.task / "app.py"
    app.write_text(app.read_text().replace("sum(itertools.repeat(0))", "os.kill(os.getpid(), 9)"))
    done = cli.toy.run("harness", "eval", "toy", "--candidate", candidate)
    assert done.returncode == -signal.SIGKILL
    assert " of python:app:one w" in done.stderr
    assert "under way when its process was ended (Killed): by somebody" in done.stderr
    assert done.stderr.endswith("What was answered is kept.\n")


def test_a_signal_that_code_in_c_does_not_hear_is_told_with_what_was_under_way(cli: Cli) -> None:
    candidate = write_app(cli, "one")
    process = cli.toy.begin("harness", "eval", "toy", "--candidate", candidate)
    limit = time.monotonic() + 30
    while asked(cli)["4"] == 0 and time.monotonic() < limit:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "A signal came, and " in err
    assert " of python:app:one did not come back in time. What was answered is kept." in err
    assert "Thread " not in err


LATE = """
def late(request):
    a, right = begin(request.messages[-1].content)
    while a in (2, 4, 6):
        time.sleep(0.01)
        if os.path.exists(f"go{a}"):
            ctypes.string_at(0) if a == 2 else sum(itertools.repeat(0))
    return right
"""
LET_GO = """
import os, time
def let_go(a):
    open(f"go{a}", "w").close()
    time.sleep(0.1)
"""


@pytest.mark.parametrize(("late", "at_end"), [("(2, 4)", 0), ("(6,)", 6)])
def test_a_request_that_was_given_up_is_blamed_for_what_it_does_later_and_no_eval(
    cli: Cli, late: str, at_end: int
) -> None:
    """In an eval that is innocent, and when every eval was called: nothing else has a clock."""
    evals = (
        f"{LET_GO}\ndef test_right(case, reply):\n"
        '    if case.id in ("c3", "c5"):\n        let_go(case.inputs["a"] - 1)\n' + RIGHT
    )
    name = "python:app:late"
    candidate = write_app(cli, "late", evals=evals)
    with (cli.toy.task / "app.py").open("a") as app:
        app.write(LATE.replace("(2, 4, 6)", late))
    with (cli.toy.task / "conftest.py").open("a") as conftest:
        conftest.write(
            "import harness.surface.alarm\nharness.surface.alarm.HOLD_S = 0\n"
            f"{LET_GO}\ndef pytest_unconfigure():\n    let_go({at_end})\n"
        )
    done = cli.toy.run("harness", "eval", "toy", "--candidate", candidate)
    assert done.returncode == 1, done.stdout + done.stderr
    [recorded] = cli("runs", "--json").json
    run = cli("runs", recorded["id"], "--json").json["run"]
    said = {c: f["message"] for c, f in faults(run).items()}
    given_up = f"of {name}, given up before as too late,"
    if at_end:
        assert said == {"c6": f"{name}: no reply within 0.5 s"}
        assert f"c6 {given_up} was still not back" in done.stderr
    else:
        assert set(said) == {"c2", "c4"}
        assert f"{name} crashed its process (SIGSEGV), at evals/toy/app.py:" in said["c2"]
        assert f"c2 {given_up} crashed its process" in done.stderr
        assert f"c4 {given_up} was still not back" in done.stderr
    assert "eval_toy.py" not in done.stderr
    assert done.stdout.count("toy, dev split") == 1


def test_pytest_own_use_of_the_clock_is_left_alone(cli: Cli) -> None:
    evals = (
        "from harness.engine.reins import REINS\n"
        f"def test_right(case, reply):\n    [None].index(REINS.stack_fd)\n{RIGHT}"
    )
    candidate = write_app(cli, "plain", evals=evals)
    (cli.toy.task / "app.py").write_text(APP.replace("if a ==", "if a < 0 and a =="))
    with (cli.toy.root / "pyproject.toml").open("a") as settings:
        settings.write("[tool.pytest.ini_options]\nfaulthandler_timeout = 20\n")
    done = cli.toy.run("harness", "eval", "toy", "--candidate", candidate)
    assert done.returncode == 0, done.stdout + done.stderr

"""What takes its process with it costs its own case: a parent waits, and the run begins again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.engine.life import LONGEST, Life
from harness.surface.cli import _verb
from tests.surface.inprocess import Cli
from tests.surface.test_bad_evals import faults, values
from tests.surface.test_never_comes_back import AT_ONCE
from tests.surface.test_time_limits import LIMITED, RIGHT, write
from tests.surface.toy import Toy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no parent")
AGAIN = "The run began again without it."
EVAL = ("harness", "eval", "toy", "--candidate", "shots")
PYTEST = ("pytest", "evals/toy", "--candidate", "shots", "-q")
FATES = (
    "import ctypes, itertools, os, pytest, sqlite3\n"
    "ENDLESS = ('with recursive c(x) as (select 1 union all select x + 1 from c) '\n"
    "           'select count(*) from c')\n"
    "@pytest.fixture\ndef base(case):\n"
    "    if case.id == 'c2':\n        ctypes.string_at(0)\n"
    "    yield sqlite3.connect(':memory:')\n"
    "    if case.id == 'c9':\n        os._exit(0)\n"
    "def test_right(case, reply, base):\n"
    "    print('captured')\n"
    "    if case.id == 'c4':\n        sum(itertools.repeat(0))\n"
    "    if case.id == 'c5':\n        base.execute(ENDLESS).fetchall()\n"
    "    if case.id == 'c7':\n        os._exit(7)\n"
    "    if case.id == 'c10':\n        os.kill(os.getpid(), 5)\n"
)


@pytest.mark.parametrize("command", [EVAL, PYTEST], ids=["harness eval", "pytest"])
def test_what_ends_its_process_is_a_fault_and_every_other_case_is_scored(
    cli: Cli, command: tuple[str, ...]
) -> None:
    """Code that holds the interpreter, code in C that does not, a crash, an exit; in a fixture
    before the eval, and after it.
    """
    write(cli, FATES + RIGHT, conftest=AT_ONCE)
    done = cli.toy.run(*command)
    assert done.returncode == 1, done.stdout + done.stderr
    [recorded] = cli("runs", "--json").json  # nothing of the processes before is left behind
    run = cli("runs", recorded["id"], "--json").json["run"]
    said = {
        "c2": "c2: a fixture before the eval crashed its process (SIGSEGV), at "
        "evals/toy/eval_toy.py:7.",
        "c4": f"c4: the eval {LIMITED}, at evals/toy/eval_toy.py:14, and its process was ended.",
        "c5": f"c5: the eval {LIMITED}, at evals/toy/eval_toy.py:16, and its process was ended.",
        "c7": "c7: the eval ended its process with exit code 7.",
        "c9": "c9: a fixture after it ended its process with exit code 0.",
        "c10": "c10: the eval crashed its process (SIGTRAP).",
    }
    assert {c: f["message"] for c, f in faults(run).items()} == {
        c: f"right: {text} {AGAIN}" for c, text in said.items()
    }
    assert {f["origin"] for f in faults(run).values()} == {"eval"}
    assert [v for c, v in values(run).items() if c not in said] == [1.0] * 6
    assert run["is_complete"] is True
    assert len(cli.toy.sent) == 12  # each was asked once
    assert "captured" not in done.stderr
    assert "Timeout (" not in done.stderr
    assert done.stderr.count("The run begins again without it; what was answered is kept.") == 6
    assert '  File "' in done.stderr
    assert "_pytest" not in done.stderr
    assert done.stdout.count("forecast: ") == (command == EVAL)


def test_a_fixture_that_all_need_and_that_crashes_ends_the_command_soon(cli: Cli) -> None:
    write(
        cli,
        "import ctypes, pytest\n"
        "@pytest.fixture(scope='session')\ndef model():\n    ctypes.string_at(0)\n"
        f"def test_first(case, reply):\n{RIGHT}\n"
        f"def test_right(case, reply, model):\n{RIGHT}",
    )
    done = cli.toy.run(*EVAL)
    assert done.returncode == -signal.SIGSEGV
    assert done.stderr.count("crashed its process") == 3
    assert "So did 2 others before they began: the command ends" in done.stderr
    said = cli("runs", "--json")
    assert "recovered 14 scores" in said.err.splitlines()[-1]
    assert {r["is_complete"] for r in said.json} == {False}


def test_an_eval_that_was_not_called_and_ends_its_process_again_ends_the_command(cli: Cli) -> None:
    write(
        cli,
        "import os, pytest\n"
        "@pytest.fixture\ndef base(case):\n    yield\n"
        "    if os.path.exists('was') and case.id == 'c5':\n        os._exit(3)\n"
        "def test_right(case, reply, base):\n"
        "    if case.id == 'c5':\n        open('was', 'w').close()\n        os._exit(3)\n" + RIGHT,
    )
    done = cli.toy.run(*EVAL)
    assert done.returncode == 3
    assert "It was not called, and did so once more: the command ends." in done.stderr
    assert "recovered" in cli("runs").err


def test_a_place_is_known_in_a_folder_with_any_name(tmp_path: Path) -> None:
    toy = Toy(tmp_path / "prüfen")
    (toy.task / "eval_toy.py").write_text(
        "import ctypes\ndef test_right(case, reply):\n"
        "    if case.id == 'c5':\n        ctypes.string_at(0)\n" + RIGHT
    )
    done = toy.run(*EVAL)
    assert "c5: the eval crashed its process (SIGSEGV), at evals/toy/eval_toy.py:4." in done.stdout


@pytest.mark.parametrize("name", ["c1\udc80::\U0001f600", "c" * LONGEST + "\U0001f600" * 9])
def test_what_is_under_way_is_known_by_its_name_whatever_that_is(name: str) -> None:
    life = Life(None, stack_fd=-1)
    life.enter(name, "call", Path("evals/\udce9.py"))
    under_way = life.under_way()
    assert under_way is not None
    phase, path, told = under_way
    assert (phase, path) == ("call", Path("evals/\udce9.py"))
    assert told
    assert name.startswith(told.rstrip("\ud83d"))
    assert told == name or len(name) > LONGEST // 2


def test_where_standard_input_is_closed_a_place_is_known_too(cli: Cli) -> None:
    """What is opened then has its number, which pytest gives to something else."""
    write(
        cli,
        "import ctypes\ndef test_right(case, reply):\n"
        "    if case.id == 'c5':\n        ctypes.string_at(0)\n" + RIGHT,
    )
    words = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", *EVAL]
    done = subprocess.run(words, cwd=cli.toy.root, env=cli.toy.environment(), capture_output=True)
    assert b"(SIGSEGV), at evals/toy/eval_toy.py:4. The run begins again" in done.stderr


def test_a_crash_outside_of_evals_ends_the_command_and_is_shown(cli: Cli) -> None:
    write(
        cli,
        f"def test_right(case, reply):\n{RIGHT}",
        conftest="import ctypes\ndef pytest_collection_finish():\n    ctypes.string_at(0)\n",
    )
    done = cli.toy.run(*PYTEST)
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert "begins again" not in done.stderr


def test_whom_somebody_kills_does_not_begin_again(cli: Cli) -> None:
    """As a kernel that is out of memory does."""
    write(
        cli,
        "import os\ndef test_right(case, reply):\n"
        "    if case.id == 'c5':\n        os.kill(os.getpid(), 9)\n" + RIGHT,
    )
    done = cli.toy.run(*EVAL)
    assert done.returncode == -signal.SIGKILL
    assert "begins again" not in done.stderr
    assert "c5] was under way when its process was ended (Killed): by" in done.stderr
    assert "recovered 5 scores" in cli("runs").err


FORKS = """import ctypes, os
def test_right(case, reply):
    if case.id == "c3":
        if not (child := os.fork()):
            ctypes.string_at(0)
        os.waitpid(child, 0)
    if case.id == "c5":
        os._exit(3)
"""
BOXED = """import os, pytest
from _pytest.runner import runtestprotocol
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    if not (child := os.fork()):
        runtestprotocol(item, log=False)
        os._exit(0)
    os.waitpid(child, 0)
    return True
"""


def test_a_process_that_an_eval_forks_crashes_as_anybody(cli: Cli) -> None:
    """It is shown as it happens, and is not where the eval after it stood."""
    write(cli, FORKS + RIGHT)
    done = cli.toy.run(*EVAL)
    assert done.returncode == 1
    assert "c5: the eval ended its process with exit code 3. " in done.stdout
    first, _, _ = done.stderr.partition("begins again")
    assert "Fatal Python error: Segmentation fault" in first


def test_where_each_eval_has_a_process_of_its_own_the_command_has_not_ended_with_it(
    cli: Cli,
) -> None:
    """As with pytest-forked."""
    write(cli, f"import os\ndef test_right(case, reply):\n    os._exit(3)\n{RIGHT}", conftest=BOXED)
    done = cli.toy.run(*PYTEST)
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert "begins again" not in done.stderr


def test_a_cap_holds_for_all_processes_of_a_command(cli: Cli) -> None:
    backend = cli.toy.root / "site/adder.py"
    backend.write_text(
        backend.read_text().replace("latency_s=0.02", "latency_s=0.02, cost_usd=0.10")
    )
    write(
        cli,
        "import os\ndef test_right(case, ask):\n"
        "    reply = ask(f\"{case.inputs['a']} + {case.inputs['b']} =\")\n"
        "    if case.id == 'c5':\n        os._exit(1)\n" + RIGHT,
    )
    done = cli.toy.run(*EVAL, "--max-cost", "1.00")
    assert "c5: the eval ended its process" in done.stdout, done.stdout + done.stderr
    assert len(cli.toy.sent) == 10


# ---------------------------------------------------------------- whose process it is


def pids_of(cli: Cli, *command: str) -> tuple[int, int]:
    """Run a command; return its process id and that in which evals ran."""
    write(
        cli,
        "import os\ndef test_right(case, reply):\n    open('ran', 'w').write(str(os.getpid()))\n",
    )
    words = [sys.executable, *command]
    with subprocess.Popen(words, cwd=cli.toy.root, env=cli.toy.environment()) as process:
        assert process.wait(60) == 0
    return process.pid, int((cli.toy.root / "ran").read_text())


def test_pytest_without_its_watch_for_crashes_runs_evals(cli: Cli) -> None:
    write(
        cli,
        f"import ctypes\ndef test_right(case, reply):\n    if case.id == 'c5':\n"
        f"        ctypes.string_at(0)\n{RIGHT}",
    )
    done = cli.toy.run(*PYTEST, "-p", "no:faulthandler")
    assert "1 failed, 11 passed" in done.stdout, done.stdout + done.stderr


def test_a_verb_is_no_argument() -> None:
    """A task, or a store, may be called `eval`."""
    assert _verb(["wall", "eval"]) == "wall"
    assert _verb(["--store", "wall", "eval", "toy"]) == "eval"
    assert _verb(["--store=wall", "eval"]) == "eval"
    assert _verb(["--help"]) is None


@pytest.mark.parametrize("missing", ["fork", "memfd_create", "pipe"])
def test_where_a_system_lets_no_parent_be_there_is_none(cli: Cli, missing: str) -> None:
    program = (
        "import os, runpy, sys\n"
        "def none(*_): raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
        f"os.{missing} = none\n"
        f"sys.argv[1:] = {list(EVAL[1:])}\n"
        "runpy.run_module('harness', run_name='__main__')"
    )
    outer, inner = pids_of(cli, "-c", program)
    assert outer == inner


@pytest.mark.parametrize(
    "command", [EVAL, PYTEST, (*PYTEST, "-n", "0")], ids=["harness eval", "pytest", "-n 0"]
)
def test_a_command_has_a_parent(cli: Cli, command: tuple[str, ...]) -> None:
    outer, inner = pids_of(cli, "-m", *command)
    assert outer != inner


@pytest.mark.parametrize(
    "program",
    [
        "import pytest; raise SystemExit(pytest.main(['evals/toy', '-q']))",
        """import sys, pytest
sys.argv[1:] = ['evals/toy', '-q']
raise SystemExit(pytest.main())""",
        "from harness.surface.cli import main; main(['eval', 'toy'])",
        """import sys, threading, pytest
sys.argv[1:] = ['evals/toy', '-q']
threading.Thread(target=threading.Event().wait, daemon=True).start()
raise SystemExit(pytest.main())""",
    ],
    ids=[
        "a program with pytest in it",
        "of its arguments",
        "a program with harness in it",
        "a thread",
    ],
)
def test_a_program_of_somebody_else_is_not_forked(cli: Cli, program: str) -> None:
    outer, inner = pids_of(cli, "-c", program)
    assert outer == inner


def test_a_test_that_runs_pytest_within_itself_is_not_forked(
    cli: Cli, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "test_it.py").write_text(
        "import pytest\ndef test_it(monkeypatch):\n"
        f"    monkeypatch.chdir({str(cli.toy.root)!r})\n"
        "    assert pytest.main(['evals/toy', '-q']) == 0\n"
    )
    write(
        cli,
        "import os\ndef test_right(case, reply):\n    open('ran', 'w').write(str(os.getpid()))\n",
    )
    words = [sys.executable, "-m", "pytest", "-q"]
    environment = cli.toy.environment()
    with subprocess.Popen(words, cwd=outside, env=environment) as process:
        assert process.wait(60) == 0
    assert process.pid == int((cli.toy.root / "ran").read_text())


def test_workers_have_none(cli: Cli) -> None:
    """The command has one, the controller of the workers is its child, and they are its."""
    write(
        cli,
        "import os\nfrom pathlib import Path\n"
        "def test_right(case, reply):\n"
        "    controller = Path(f'/proc/{os.getppid()}/stat').read_text()\n"
        "    open('ran', 'w').write(controller.rpartition(')')[2].split()[1])\n",
    )
    words = [sys.executable, "-m", *PYTEST, "-n", "1"]
    with subprocess.Popen(words, cwd=cli.toy.root, env=cli.toy.environment()) as process:
        assert process.wait(60) == 0
    assert process.pid == int((cli.toy.root / "ran").read_text())

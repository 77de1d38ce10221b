"""The child of a command hears what is sent to its parent, once, and has its terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.surface.inprocess import Cli
from tests.surface.test_never_comes_back import AT_ONCE
from tests.surface.test_parent import EVAL, PYTEST
from tests.surface.test_time_limits import RIGHT, write
from tests.surface.toy import Toy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no parent")
STANDS = (
    "import os, time\n"
    "def test_right(case, reply):\n"
    "    if case.id == 'c5':\n"
    "        open('stands', 'w').write(str(os.getpid()))\n"
    "        time.sleep(60)\n"
)

HEARS = (
    "import os, time\n"
    "def test_right(case, reply):\n"
    "    if case.id == 'c5':\n"
    "        open('stands', 'w').write(str(os.getpid()))\n"
    "        try:\n            time.sleep(60)\n"
    "        except KeyboardInterrupt:\n"
    "            time.sleep(0.5)\n"  # another would end this
    "            open('heard', 'a').write('once')\n"
    "            raise\n" + RIGHT
)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


def standing(
    toy: Toy, *command: str, hears_hangup: bool = True
) -> tuple[subprocess.Popen[str], int]:
    """Begin a command; return it, and the process that stands in an eval."""
    process = toy.begin(*command, hears_hangup=hears_hangup)
    return process, who_stands(toy, lambda: process.poll() is None)


def who_stands(toy: Toy, is_under_way: Callable[[], bool]) -> int:
    mark = toy.root / "stands"
    limit = time.monotonic() + 60
    while not (mark.exists() and mark.read_text()):
        assert is_under_way()
        assert time.monotonic() < limit
        time.sleep(0.02)
    return int(mark.read_text())


@pytest.mark.parametrize(("command", "code"), [(EVAL, 130), (PYTEST, 2)])
@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["process", "group"])
def test_an_interrupt_reaches_the_child_once(
    cli: Cli, command: tuple[str, ...], code: int, kill: Callable[[int, int], None]
) -> None:
    (cli.toy.task / "eval_toy.py").write_text(HEARS)
    process, _ = standing(cli.toy, *command)
    kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, out + err
    assert (cli.toy.root / "heard").read_text() == "once"
    [recorded] = cli("runs", "--json").json
    assert (recorded["cases"], recorded["is_complete"]) == (5, False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_who_ends_the_command_ends_its_child(cli: Cli, number: signal.Signals) -> None:
    (cli.toy.task / "eval_toy.py").write_text(STANDS + RIGHT)
    process, child = standing(cli.toy, *EVAL)
    assert child != process.pid
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == -number
    limit = time.monotonic() + 10
    while is_alive(child):
        assert time.monotonic() < limit
        time.sleep(0.02)
    assert "recovered 5 scores" in cli("runs").err


def test_a_crash_that_somebody_asks_for_is_shown_and_is_the_end(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text(STANDS + RIGHT)
    process, _ = standing(cli.toy, *EVAL)
    process.send_signal(signal.SIGABRT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGABRT
    assert "eval_toy.py" in err  # where it stood
    assert "begins again" not in err


def test_an_eval_that_was_stopped_too_long_is_called_again(cli: Cli) -> None:
    """As with Ctrl-Z: the time that it took says nothing of it."""
    write(
        cli,
        "import itertools, os\nfrom pathlib import Path\n"
        "def test_right(case, reply):\n"
        "    if case.id == 'c5' and not Path('stands').exists():\n"
        "        Path('stands').write_text(str(os.getpid()))\n"
        "        sum(itertools.repeat(0, 10**9))\n" + RIGHT,  # some seconds
        conftest=AT_ONCE,
    )
    process, child = standing(cli.toy, *EVAL)
    os.kill(child, signal.SIGSTOP)
    time.sleep(2)
    os.kill(child, signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert "The command was stopped (Ctrl-Z) for longer than an eval may take." in err
    assert "12 passed" in out


class Terminal:
    """A command at a terminal of its own."""

    def __init__(self, toy: Toy, *command: str) -> None:
        self.shown = ""
        self.pid, self._handle = pty.fork()
        if self.pid == 0:
            os.chdir(toy.root)
            os.execve(sys.executable, [sys.executable, "-m", *command], toy.environment())

    def type(self, text: str) -> None:
        os.write(self._handle, text.encode())

    def wait_for(self, text: str) -> None:
        limit = time.monotonic() + 30
        while text not in self.shown:
            assert time.monotonic() < limit, self.shown
            if select.select([self._handle], [], [], 0.1)[0]:
                self.shown += os.read(self._handle, 4096).decode()

    def end(self) -> int:
        """Read to the end; return the exit code."""
        with suppress(OSError):  # the other end is closed
            self.wait_for("never said")
        _, status = os.waitpid(self.pid, 0)
        os.close(self._handle)
        return os.waitstatus_to_exitcode(status)


def test_at_a_terminal_ctrl_c_comes_once(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text(HEARS)
    terminal = Terminal(cli.toy, *EVAL)
    child = who_stands(cli.toy, lambda: is_alive(terminal.pid))
    assert child != terminal.pid
    terminal.type("\x03")
    assert terminal.end() == 130, terminal.shown
    assert (cli.toy.root / "heard").read_text() == "once"


def test_at_a_terminal_a_debugger_reads_what_is_typed(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text(
        "def test_right(case, reply):\n    if case.id == 'c3':\n        breakpoint()\n" + RIGHT
    )
    terminal = Terminal(cli.toy, *EVAL)
    terminal.wait_for("(Pdb) ")
    terminal.type("p case.id + '!'\n")
    terminal.wait_for("'c3!'")
    terminal.type("c\n")
    assert terminal.end() == 0, terminal.shown

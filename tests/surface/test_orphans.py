"""What evals had begun, where their process or their command ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.surface.inprocess import Cli
from tests.surface.test_handed_on import Terminal, is_alive, standing
from tests.surface.test_parent import EVAL
from tests.surface.test_time_limits import RIGHT, write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no parent")
SERVER = """
import os, signal, subprocess, time, pytest
from pathlib import Path
@pytest.fixture(scope="session")
def server():
    before = Path("servers").read_text().split() if Path("servers").exists() else []
    if any(Path(f"/proc/{pid}").exists() for pid in before):
        raise RuntimeError("address already in use")
    with subprocess.Popen(["sleep", "60"]) as process:
        with open("servers", "a") as file:
            file.write(f"{process.pid}\\n")
        yield
        process.terminate()
def test_right(case, reply, server):
"""
ENDS = "    if case.id == 'c5':\n        os._exit(3)\n"
STANDS = (
    "    if case.id == 'c5':\n"
    "        open('stands', 'w').write(str(os.getpid()))\n"
    "        time.sleep(60)\n"
)


def servers(cli: Cli) -> list[int]:
    return [int(pid) for pid in (cli.toy.root / "servers").read_text().split()]


def all_end(pids: list[int]) -> bool:
    until = time.monotonic() + 10
    while any(map(is_alive, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(is_alive, pids))


@pytest.mark.parametrize("has_terminal", [True, False])
def test_what_a_process_had_begun_ends_before_the_run_begins_again(
    cli: Cli, has_terminal: bool
) -> None:
    """Else a server would keep the port of the next, and every eval after it would fail."""
    write(cli, SERVER + ENDS + RIGHT)
    if has_terminal:
        terminal = Terminal(cli.toy, *EVAL)
        code, shown = terminal.end(), terminal.shown
    else:
        done = cli.toy.run(*EVAL)
        code, shown = done.returncode, done.stdout + done.stderr
    assert code == 1, shown
    assert "11 passed" in shown
    assert "1 program that it had begun ended with it." in shown
    assert len(servers(cli)) == 2
    assert all_end(servers(cli))


def test_ctrl_c_ends_a_command_that_has_no_child_just_then(cli: Cli) -> None:
    """What an eval had begun may take its time to end."""
    write(cli, SERVER.replace('["sleep", "60"]', '["sh", "-c", STAYS]') + ENDS + RIGHT)
    with (cli.toy.task / "eval_toy.py").open("a") as file:
        file.write("STAYS = 'trap : TERM; while :; do sleep 0.1; done'\n")
    terminal = Terminal(cli.toy, *EVAL)
    terminal.wait_for("begins again")
    terminal.type("\x03")
    assert terminal.end() == -signal.SIGINT, terminal.shown
    assert all_end(servers(cli))


def test_what_was_there_before_the_command_is_left_alone(cli: Cli) -> None:
    """As of a script that begins a server and then becomes the command."""
    write(cli, SERVER + ENDS + RIGHT)
    script = 'sleep 60 >/dev/null 2>&1 & echo $! >beside; exec "$@"'
    words = ["sh", "-c", script, "sh", sys.executable, "-m", *EVAL]
    done = subprocess.run(words, cwd=cli.toy.root, env=cli.toy.environment(), capture_output=True)
    beside = int((cli.toy.root / "beside").read_text())
    try:
        assert b"1 program that it had begun" in done.stderr
        assert is_alive(beside)
    finally:
        os.kill(beside, signal.SIGKILL)


def test_what_an_eval_leaves_running_outlives_the_command(cli: Cli) -> None:
    write(
        cli,
        "import subprocess\ndef test_right(case, reply):\n"
        "    if case.id == 'c5':\n"
        "        nothing = subprocess.DEVNULL\n"
        "        left = subprocess.Popen(['sleep', '60'], stdout=nothing, stderr=nothing)\n"
        "        open('servers', 'w').write(str(left.pid))\n"
        "        left.returncode = 0\n" + RIGHT,  # else Python warns
    )
    done = cli.toy.run(*EVAL)
    assert done.returncode == 0, done.stdout + done.stderr
    [left] = servers(cli)
    time.sleep(0.2)
    assert is_alive(left)
    os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_who_ends_the_group_of_the_command_ends_what_its_evals_began(
    cli: Cli, number: signal.Signals
) -> None:
    """As a CI runner does, or `timeout`."""
    (cli.toy.task / "eval_toy.py").write_text(SERVER + STANDS + RIGHT)
    process, child = standing(cli.toy, *EVAL)
    os.killpg(process.pid, number)
    process.communicate(timeout=30)
    assert process.returncode == -number
    assert all_end([child, *servers(cli)])


def test_a_hangup_that_nobody_hears_does_not_keep_the_run_from_beginning_again(cli: Cli) -> None:
    """As with `nohup`, once the terminal is closed."""
    (cli.toy.task / "eval_toy.py").write_text(
        "import os, time\nfrom pathlib import Path\n"
        "def test_right(case, reply):\n"
        "    if case.id == 'c5':\n"
        "        open('stands', 'w').write(str(os.getpid()))\n"
        "        while not Path('go').exists():\n            time.sleep(0.02)\n"
        "        os._exit(3)\n" + RIGHT
    )
    process, _ = standing(cli.toy, *EVAL, hears_hangup=False)
    process.send_signal(signal.SIGHUP)
    (cli.toy.root / "go").touch()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1, out + err
    assert "1 failed, 11 passed" in out

"""What hangs costs its own case, whatever it swallows and in whichever phase it runs."""

from __future__ import annotations

import re
import signal
import sys
import threading
from typing import Any

import pytest

from harness.surface import alarm
from tests.surface.inprocess import Cli
from tests.surface.test_bad_evals import LIMIT, QUICK, faults, run_of, values, write_evals

LIMITED = "did not end within 0.3 s (`eval_timeout_s` in task.toml)"
RIGHT = "    assert reply.text == case.reference\n"


def write(cli: Cli, evals: str, *, conftest: str = "") -> None:
    write_evals(cli, evals, settings=LIMIT)
    (cli.toy.task / "conftest.py").write_text(conftest)


def only_c5_is_a_fault(run: dict[str, Any], said: str) -> None:
    assert list(faults(run)) == ["c5"]
    assert said in faults(run)["c5"]["message"]
    assert [v for c, v in values(run).items() if c != "c5"] == [1.0] * 11
    assert run["is_complete"] is True


# ---------------------------------------------------------------- fixtures


@pytest.mark.parametrize("place", ["eval_toy.py", "conftest.py"])
def test_a_fixture_that_hangs_before_the_eval_is_a_fault_of_its_case(cli: Cli, place: str) -> None:
    fixture = (
        "import pytest, time\n"
        "@pytest.fixture\ndef slow(case):\n"
        "    time.sleep(30 if case.id == 'c5' else 0)\n"
    )
    evals = f"def test_right(case, reply, slow):\n{RIGHT}"
    is_beside = place == "conftest.py"
    write(cli, evals if is_beside else fixture + evals, conftest=fixture if is_beside else "")
    only_c5_is_a_fault(run_of(cli), f"right: c5: a fixture before the eval {LIMITED}")


def test_a_fixture_that_hangs_after_the_eval_fails_the_run_and_takes_no_score(cli: Cli) -> None:
    write(
        cli,
        "import pytest, time\n"
        "@pytest.fixture\ndef slow(case):\n"
        "    yield\n"
        "    time.sleep(30 if case.id == 'c5' else 0)\n"
        f"def test_right(case, reply, slow):\n{RIGHT}",
    )
    said = cli("eval", "toy", "--candidate", "shots", **QUICK)
    assert said.code == 1
    assert re.search(
        r"ERROR .*test_right\[shots-c5\] - .*c5: a fixture after it did not end", said.out
    )
    assert values(run_of(cli)) == {f"c{i}": 1.0 for i in range(12)}  # it was measured before


def test_a_fixture_of_the_whole_run_may_take_its_time_to_come_and_to_go(cli: Cli) -> None:
    """As one that loads a model; the limit holds for what each case does with it."""
    write(
        cli,
        "import time\n"
        "def test_right(case, reply, model, request):\n"
        "    request.getfixturevalue('late')\n"
        "    time.sleep(30 if case.id == 'c5' else 0)\n"
        f"{RIGHT}",
        conftest="import pathlib, pytest, time\n"
        "@pytest.fixture(scope='session')\ndef model():\n"
        "    time.sleep(0.5)\n"
        "    yield\n"
        "    time.sleep(0.5)\n"
        "    pathlib.Path('gone').touch()\n"
        "@pytest.fixture(scope='module')\ndef late():\n"
        "    time.sleep(0.5)\n",
    )
    only_c5_is_a_fault(run_of(cli), f"right: c5: the eval {LIMITED}")
    assert (cli.toy.root / "gone").exists()


@pytest.mark.parametrize(
    ("scope", "phase", "case"), [("class", "there", 0), ("session", "gone", 11)]
)
def test_a_fixture_without_a_limit_that_takes_longer_is_named_once(
    cli: Cli, scope: str, phase: str, case: int
) -> None:
    waits = "    time.sleep(1)\n"
    before, after = (waits, "") if phase == "there" else ("", waits)
    brief = 0 if before else 0.06  # of all cases together, longer than the limit
    write(
        cli,
        f"import pytest, time\n@pytest.fixture(scope={scope!r})\ndef model():\n"
        f"{before}    yield\n{after}    print('loaded')\n"
        "class TestAll:\n    def test_right(self, case, reply, model):\n"
        f"        time.sleep({brief})\n    {RIGHT}",
    )
    asked = ("toy", "--candidate", "shots")
    for done in (
        cli.toy.pytest("evals/toy", *asked[1:], "-n", "1"),
        cli.toy.harness("eval", *asked),
    ):
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr.count(" waits: ") == 1
        assert (
            f"\nright[shots-c{case}] waits: the fixture 'model' (scope {scope}) is not {phase} "
            "yet, after 0.3 s (`eval_timeout_s` in task.toml). Fixtures of this scope have no time "
            "limit; Ctrl-C ends the run\n"
        ) in done.stderr


# ---------------------------------------------------------------- what swallows everything

SWALLOWING = {
    "loop": "while True:\n        try: time.sleep(1)\n        except BaseException: pass",
    "nested": "while True:\n        try: once()\n        except BaseException: pass",
    "suppress": "while True:\n        with suppress(BaseException): time.sleep(1)",
    "finally": "while True:\n        try: time.sleep(1)\n        finally: continue",
    "pure": "while True:\n        try:\n            while True: pass\n"
    "        except BaseException: pass",
    "once": "try: time.sleep(30)\n    except BaseException: pass",
    "async": "while True:\n        try: await asyncio.sleep(1)\n        except BaseException: pass",
    "async blocking": "while True:\n        try: time.sleep(1)\n        except BaseException: pass",
    "shown": "assert Shown() == 1",
}
HELPERS = """
import asyncio, time
from contextlib import suppress
def once():
    while True:
        try: time.sleep(1)
        except BaseException: pass
class Shown:
    def __repr__(self): once()
"""


@pytest.mark.parametrize("kind", SWALLOWING)
def test_an_eval_that_swallows_even_its_end_is_ended(
    cli: Cli, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_async = "async " if kind.startswith("async") else ""
    write(
        cli,
        f"{HELPERS}\n{is_async}def hang():\n    {SWALLOWING[kind]}\n"
        f"{is_async}def test_right(case, reply):\n"
        f"    if case.id == 'c5':\n        {'await ' if is_async else ''}hang()\n{RIGHT}",
    )
    monkeypatch.setattr("harness.surface.eval_calls.AGAIN_S", 0.1)
    before = (sys.gettrace(), sys.getprofile(), signal.getitimer(signal.ITIMER_REAL))
    run = run_of(cli)
    only_c5_is_a_fault(run, f"right: c5: the eval {LIMITED}")
    assert (sys.gettrace(), sys.getprofile(), signal.getitimer(signal.ITIMER_REAL)) == before


RECURSING = {
    "twice": "def f():\n    for _ in 'ab':\n        try: f()\n        except {}: pass\n",
    "for ever": "def f():\n    while True:\n        try: f()\n        except {}: pass\n",
    "through C": "def f(_=0):\n    for _ in 'ab':\n        try: list(map(f, 'ab'))\n"
    "        except {}: pass\n",
    "suppress": "def f():\n    for _ in 'ab':\n        with suppress({}): f()\n",
    "async": "async def f():\n    for _ in 'ab':\n"
    "        try: await f()\n        except {}: pass\n",
}


@pytest.mark.parametrize(
    ("kind", "swallows"),
    [
        *(("twice", e) for e in ("RecursionError", "Exception", "BaseException", "")),
        *((kind, "BaseException") for kind in RECURSING if kind != "twice"),
        ("for ever", "RecursionError"),
    ],
)
def test_recursion_that_swallows_its_own_error_is_ended(
    cli: Cli, kind: str, swallows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call of the alarm's handler is one too many there: room is made for it."""
    is_async = "async " if kind == "async" else ""
    write(
        cli,
        f"from contextlib import suppress\n{RECURSING[kind].format(swallows)}"
        f"{is_async}def test_right(case, reply):\n"
        f"    {'await ' if is_async else ''}f() if case.id == 'c5' else 0\n{RIGHT}",
    )
    _ended(cli, f"right: c5: the eval {LIMITED}", monkeypatch)


def test_a_fixture_whose_recursion_swallows_its_own_error_is_ended(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        cli,
        RECURSING["twice"].format("BaseException")
        + "import pytest\n@pytest.fixture\ndef deep(case):\n    f() if case.id == 'c5' else 0\n"
        f"def test_right(case, reply, deep):\n{RIGHT}",
    )
    _ended(cli, f"right: c5: a fixture before the eval {LIMITED}", monkeypatch)


def _ended(cli: Cli, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.surface.eval_calls.AGAIN_S", 0.1)
    monkeypatch.setattr("harness.surface.alarm.TICK_S", 0.1)
    before = (sys.gettrace(), sys.getprofile(), sys.getrecursionlimit(), threading.active_count())
    only_c5_is_a_fault(run_of(cli), said)
    after = (sys.gettrace(), sys.getprofile(), sys.getrecursionlimit(), threading.active_count())
    assert after == before


# ---------------------------------------------------------------- recursion


@pytest.mark.parametrize("place", ["check", "fixture", "repr", "plugin"])
def test_recursion_without_end_is_a_fault_of_its_case(cli: Cli, place: str) -> None:
    uses = {
        "check": ("", "deep() if case.id == 'c5' else 0"),
        "fixture": (", deeper", "deeper"),
        "repr": ("", "assert case.id != 'c5' or Deep() == 1"),
        "plugin": ("", "checks.negate(deep_check)(reply) if case.id == 'c5' else 0"),
    }
    fixture, use = uses[place]
    write(
        cli,
        "import pytest\nfrom harness import checks\n"
        "def deep(): return deep()\n"
        "def deep_check(reply): return deep()\n"
        "class Deep:\n"
        "    def __repr__(self): return repr(self)\n"
        "    def __eq__(self, other): return self == other\n"
        "@pytest.fixture\ndef deeper(case):\n    return deep() if case.id == 'c5' else 0\n"
        f"def test_right(case, reply{fixture}):\n    {use}\n{RIGHT}",
    )
    only_c5_is_a_fault(run_of(cli), "right: RecursionError")


def test_what_cannot_be_shown_still_is_the_miss_that_it_is(cli: Cli) -> None:
    write(
        cli,
        "class Deep:\n    def __repr__(self): return repr(self)\n"
        "def test_right(case, reply):\n    assert case.id != 'c5' or Deep() == 1\n",
    )
    run = run_of(cli)
    assert faults(run) == {}
    assert values(run) == {f"c{i}": float(i != 5) for i in range(12)}


def test_a_limit_that_ends_an_eval_between_two_lines_can_be_shown(cli: Cli) -> None:
    """An alarm rings at any instruction, and some stand on no line: pytest failed to show one."""
    write(
        cli,
        "import sys\nfrom types import TracebackType\n"
        "from harness.surface.eval_calls import EvalTimeout\n"
        "def test_right(case, reply):\n"
        "    try:\n        len(case.id)\n    except ValueError as exc:\n        del exc\n"
        "    finally:\n        frame = sys._getframe()\n"
        "    if case.id == 'c5':\n"
        "        nowhere = [at for at, _, line in frame.f_code.co_lines() if line is None][-1]\n"
        "        trace = TracebackType(None, frame, nowhere, -1)\n"
        "        assert trace.tb_lineno is None\n"
        f"        raise EvalTimeout('late').with_traceback(trace)\n{RIGHT}",
    )
    only_c5_is_a_fault(run_of(cli), "right: late")


# ---------------------------------------------------------------- imports

SLOW = "import time\nfor _ in range(5): time.sleep(0.1)\n"


def write_slow(cli: Cli, evals: str, *, conftest: str = "", slow: str = SLOW) -> None:
    """Write evals, and a module that takes more than their limit, with another in its midst."""
    write(cli, evals, conftest="import sys\nsys.modules.pop('slow', None)\n" + conftest)
    (cli.toy.root / "site/slow.py").write_text(f"{slow}import slower\nREADY = slower.READY\n")
    (cli.toy.root / "site/slower.py").write_text(f"{slow}READY = True\n")


IN_EVAL = "def test_right(case, reply):\n    import slow\n    assert slow.READY\n"
IN_FIXTURE = (
    "import pytest\n@pytest.fixture\ndef module(case):\n    import slow\n    return slow\n"
    "def test_right(case, reply, module):\n    assert module.READY\n"
)


@pytest.mark.parametrize(
    "evals", [IN_EVAL, f"async {IN_EVAL}", IN_FIXTURE], ids=["eval", "async", "fixture"]
)
def test_the_time_of_an_import_is_no_time_of_an_eval(cli: Cli, evals: str) -> None:
    """One that is left half done fails in every later case, too, or crashes."""
    write_slow(cli, evals + RIGHT)
    run = run_of(cli)
    assert faults(run) == {}
    assert values(run) == {f"c{i}": 1.0 for i in range(12)}


def test_a_limit_begins_anew_where_an_import_is_over(cli: Cli) -> None:
    loop = "    if case.id == 'c5':\n        import slow\n        while slow.READY: pass\n"
    write_slow(cli, f"def test_right(case, reply):\n{loop}{RIGHT}")
    only_c5_is_a_fault(run_of(cli), f"right: c5: the eval {LIMITED}")


def test_a_module_that_swallows_what_its_import_raises_is_imported_whole(cli: Cli) -> None:
    swallowing = "import time\nfor _ in range(5):\n    try: time.sleep(0.1)\n    except: END = 1\n"
    write_slow(cli, f"{IN_EVAL}    assert not hasattr(slow, 'END')\n{RIGHT}", slow=swallowing)
    assert faults(run_of(cli)) == {}


def test_a_module_that_loops_for_ever_is_ended(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarm, "IMPORT_S", 0.5)
    evals = f"def test_right(case, reply):\n    if case.id == 'c5':\n        import slow\n{RIGHT}"
    write_slow(cli, evals, slow="while True:\n    try: pass\n    except BaseException: pass\n")
    only_c5_is_a_fault(run_of(cli), f"right: c5: the eval {LIMITED}")

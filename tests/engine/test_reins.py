"""A clock without Python is put off as long as all is well, and stopped when nothing is asked."""

from __future__ import annotations

import faulthandler
import threading
import time
from contextlib import suppress
from types import CellType, FunctionType
from typing import Any

import pytest

from harness.core.frames import under
from harness.engine import reins
from harness.engine.reins import LEAST_S, NAMED, Reins


class Clock:
    """In the place of `faulthandler`'s: the seconds it was set to, None where it was stopped."""

    def __init__(self) -> None:
        self.set_to: list[float | None] = []

    def begin(self, seconds: float, **_: Any) -> None:
        self.set_to.append(seconds)

    def stop(self) -> None:
        self.set_to.append(None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(faulthandler, "dump_traceback_later", clock.begin)
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", clock.stop)
    monkeypatch.setattr(reins, "TICK_S", 0.01)
    return clock


def until(seconds: float) -> Any:
    at = time.monotonic() + seconds
    return lambda: at


def test_it_is_set_to_the_last_limit_and_put_off_while_the_interpreter_is_free(
    clock: Clock,
) -> None:
    held = Reins()
    held.stack_fd = 2
    held.take()
    with held.hold("a", until(2.0)):
        assert clock.set_to == [pytest.approx(2.0 + reins.HOLD_S, abs=0.1)]
        with held.hold("b", until(600.0)):  # it may hold the interpreter for so long
            assert clock.set_to[-1] == pytest.approx(600.0 + reins.HOLD_S, abs=0.1)
            time.sleep(0.1)
            assert len(clock.set_to) > 3
            assert clock.set_to[-1] == pytest.approx(600.0 + reins.HOLD_S, abs=0.3)
        time.sleep(0.1)
        assert clock.set_to[-1] == pytest.approx(2.0 + reins.HOLD_S, abs=0.4)
    time.sleep(0.1)
    assert clock.set_to[-1] is None  # nothing is under way, though the loop runs
    assert clock.set_to.count(None) == 1
    held.let_go()
    count = len(clock.set_to)
    time.sleep(0.1)
    assert len(clock.set_to) == count


def test_what_is_past_its_limit_and_was_left_behind_puts_it_off_all_the_same(clock: Clock) -> None:
    held = Reins()
    held.stack_fd = 2
    held.take()
    with held.hold("a", until(-5.0)):
        time.sleep(0.1)
        assert set(clock.set_to) == {reins.HOLD_S}
    held.let_go()
    assert clock.set_to[-1] is None


def test_many_requests_set_it_once(clock: Clock) -> None:
    """To set it begins a thread: 50 us, for each of a thousand."""
    held = Reins()
    held.stack_fd = 2
    held.take()
    for i in range(100):
        with held.hold(str(i), until(2.0)):
            pass
    assert len(clock.set_to) < 10
    held.let_go()


@pytest.mark.parametrize(("fd", "loops"), [(None, 1), (2, 0)])
def test_nothing_is_ended_where_nobody_said_so_or_no_loop_runs(
    clock: Clock, fd: int | None, loops: int
) -> None:
    held = Reins()
    held.stack_fd = fd
    for _ in range(loops):
        held.take()
    with held.hold("a", until(0.0)):
        time.sleep(0.05)
    for _ in range(loops):
        held.let_go()
    assert clock.set_to == []


def test_a_loop_that_goes_on_watches_over_what_is_still_under_way(clock: Clock) -> None:
    held = Reins()
    held.stack_fd = 2
    held.take()
    with held.hold("a", until(2.0)):
        held.let_go()
        assert clock.set_to[-1] is None
        held.take()
        assert clock.set_to[-1] == pytest.approx(2.0 + max(reins.HOLD_S, LEAST_S), abs=0.3)
    held.let_go()


def test_a_call_that_was_left_behind_is_watched_when_no_loop_runs_any_more(clock: Clock) -> None:
    """It may hold the interpreter later: then nothing else would end the process."""
    held, over = Reins(), threading.Event()
    held.stack_fd = 2
    held.take()
    with held.hold("a", until(2.0)):
        thread = threading.Thread(target=held.call, args=(over.wait,), daemon=True)
        thread.start()
    held.let_go()
    time.sleep(0.1)
    assert clock.set_to[-1] == reins.HOLD_S
    assert clock.set_to.count(reins.HOLD_S) > 3
    over.set()
    thread.join()
    time.sleep(0.1)
    assert clock.set_to[-1] is None
    count = len(clock.set_to)
    time.sleep(0.1)
    assert len(clock.set_to) == count
    held.take()  # and the next one begins anew
    with held.hold("b", until(2.0)):
        assert clock.set_to[-1] == pytest.approx(2.0 + reins.HOLD_S, abs=0.1)
    held.let_go()
    assert clock.set_to[-1] is None


def test_a_clock_that_is_lent_is_left_alone_until_it_is_back(clock: Clock) -> None:
    held, over = Reins(), threading.Event()
    held.stack_fd = 2
    held.take()
    with held.hold("a", until(2.0)):
        thread = threading.Thread(target=held.call, args=(over.wait,), daemon=True)
        thread.start()
    held.let_go()
    held.lend(77.0, 2)
    time.sleep(0.1)
    assert clock.set_to[-1] == 77.0
    held.lend(None, 2)
    assert clock.set_to[-2:] == [None, reins.HOLD_S]  # at once: the next moment may be too late
    held.lend(77.0, 2)
    over.set()
    thread.join()
    time.sleep(0.1)
    assert clock.set_to[-1] == 77.0
    held.lend(None, 2)
    assert clock.set_to[-1] is None


def test_who_takes_back_its_place_to_write_is_not_ended(clock: Clock) -> None:
    held, over = Reins(), threading.Event()
    held.stack_fd = 2
    held.take()
    with held.hold("a", until(2.0)):
        thread = threading.Thread(target=held.call, args=(over.wait,), daemon=True)
        thread.start()
    held.let_go()
    held.stack_fd = None
    time.sleep(0.1)
    assert clock.set_to[-1] is None
    over.set()
    thread.join()


@pytest.mark.parametrize(("module", "is_put_off"), [("app", False), ("pdb", True)])
def test_a_coroutine_past_its_limit_is_not_put_off_for_but_at_a_prompt(
    clock: Clock, module: str, is_put_off: bool
) -> None:
    """No loop turns for as long as it stays where it is, though other threads do."""
    held, over = Reins(), threading.Event()
    held.stack_fd = 2
    stay = FunctionType(
        (lambda: over.wait()).__code__, {"__name__": module}, closure=(CellType(over),)
    )

    async def answer() -> None:
        stay()

    def run() -> None:
        with suppress(StopIteration):
            under("a", answer, name=NAMED)().send(None)

    held.take()
    with held.hold("a", until(-5.0)):
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        time.sleep(0.02)
        count = len(clock.set_to)
        time.sleep(0.1)
        assert (len(clock.set_to) > count) is is_put_off
        over.set()
        thread.join()
    held.let_go()

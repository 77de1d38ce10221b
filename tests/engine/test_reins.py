"""A clock without Python is put off as long as all is well, and stopped when nothing is asked."""

from __future__ import annotations

import faulthandler
import time
from typing import Any

import pytest

from harness.engine import reins
from harness.engine.reins import LEAST_S, Reins


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

"""The alarm clock of a process: stopped while somebody else is waited for, and, where code swallows
what it raises, the way out of that code. Knows no evals.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

HOLD_S = 10.0
"""Seconds beyond its limit after which code that never comes back to Python is given up."""
_MACHINERY = ("_pytest.", "pluggy.", "harness.surface.")


def stop() -> tuple[float, float]:
    """Stop the clock; return what was left of it, for `go`."""
    WATCH.close()
    return signal.setitimer(signal.ITIMER_REAL, 0) if hasattr(signal, "setitimer") else (0.0, 0.0)


def go(left: tuple[float, float]) -> None:
    """Let the clock run on with what `stop` found left."""
    left_s, again_s = left
    if left_s:
        signal.setitimer(signal.ITIMER_REAL, left_s, again_s)
        WATCH.open(left_s)


@contextmanager
def unlimited() -> Iterator[None]:
    """Stop the clock of an eval's time limit, as while a backend is asked: it has its own."""
    left = stop()
    try:
        yield
    finally:
        go(left)


# ---------------------------------------------------------------- code that swallows errors


class Escape:
    """Raises an error in code that swallows it, again at each line, until every frame was left.

    An error that a signal handler raises can be caught where it comes up, and the loop around it
    goes on. So the interpreter is asked to stop at each line: the first one of the `except` that
    caught it raises again, outside of what that `except` guards. Python takes the stop away once it
    raised; as the frame ends, the next one outside gets its own.
    """

    def __init__(self, frame: FrameType, error: Callable[[], BaseException]) -> None:
        self._error = error
        self._is_over = False
        self._before = (sys.gettrace(), sys.getprofile())
        self._begin(frame)

    def watch(self, frame: FrameType) -> None:
        """Raise in this frame too, when it goes on."""
        frame.f_trace = self._line

    def end(self) -> None:
        """Give the interpreter back as it was."""
        if not self._is_over:
            self._is_over = True
            trace, profile = self._before
            sys.settrace(trace)
            sys.setprofile(profile)

    def _begin(self, frame: FrameType) -> None:
        each: FrameType | None = frame
        while each is not None and not _is_machinery(each):
            if not _is_of_a_loop(each):
                self.watch(each)
            each = each.f_back
        sys.setprofile(self._left)
        sys.settrace(self._line)

    def _line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if self._is_over or _is_machinery(frame) or _is_of_a_loop(frame):
            return None
        if event == "line":
            raise self._error()
        return self._line

    def _left(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event != "return" or self._is_over or _is_machinery(frame):
            return
        if frame.f_back is None or _is_machinery(frame.f_back):
            self.end()  # all that pytest called was left
        else:
            self._begin(frame.f_back)


def leave(coroutine: object, error: Callable[[], BaseException]) -> None:
    """End a coroutine that waits still, though its loop is over: one that swallows its end would
    do so for ever once it is collected, where no alarm rings.
    """
    frames = list(_suspended(coroutine))
    if not frames or not isinstance(coroutine, Coroutine):
        return
    first = error()
    escape = Escape(frames[-1], error)
    try:
        for frame in frames:
            escape.watch(frame)
        coroutine.throw(first)
    except BaseException:  # noqa: BLE001, S110 - border: whatever it says, it is over
        pass
    finally:
        escape.end()


def _suspended(waiting: object) -> Iterator[FrameType]:
    while isinstance(frame := getattr(waiting, "cr_frame", None), FrameType):
        yield frame
        waiting = getattr(waiting, "cr_await", None)


def _is_of_a_loop(frame: FrameType) -> bool:
    """Whether a frame is asyncio's own: it passes errors on, and its `finally` must run, or no
    other loop runs in this thread.
    """
    return f"{frame.f_globals.get('__name__', '')}.".startswith("asyncio.")


def _is_machinery(frame: FrameType) -> bool:
    return f"{frame.f_globals.get('__name__', '')}.".startswith(_MACHINERY)


# ---------------------------------------------------------------- code that never comes back


@dataclass(slots=True, eq=False)
class Watch:
    """A thread without Python (`faulthandler`): it tells on standard error where the interpreter
    is held, where no handler of a signal comes to run; `ends` the process too, where a controller
    makes another one.
    """

    error_fd: int | None = None
    ends: bool = False
    _opened_at: float | None = field(default=None, init=False)

    def open(self, limit_s: float) -> None:
        """Begin to watch, or go on: one thread serves what begins within a second."""
        if self.error_fd is None:
            return
        now = time.monotonic()
        if self._opened_at is None or now - self._opened_at > 1.0:
            faulthandler.dump_traceback_later(
                limit_s + HOLD_S + 1.0, file=self.error_fd, exit=self.ends
            )
            self._opened_at = now

    def close(self) -> None:
        """Watch no more."""
        if self._opened_at is not None:
            faulthandler.cancel_dump_traceback_later()
            self._opened_at = None

    def take(self, *, ends: bool) -> None:
        """Write to what is standard error now, before pytest captures it."""
        self.give_back()
        try:
            self.error_fd = os.dup(2)
        except OSError:  # there is none
            self.error_fd = None
        self.ends = ends

    def give_back(self) -> None:
        """Close what `take` opened."""
        self.close()
        if self.error_fd is not None:
            os.close(self.error_fd)
            self.error_fd = None


WATCH = Watch()
"""Of the process: there is one thread, and one standard error."""

"""Ends a process that a request does not give back. Knows no backends and no replies.

Code in C that holds the interpreter lets no alarm, no thread and no loop of Python move: no time
limit is heard. A thread without Python (`faulthandler`) has a clock of its own, and is put off as
long as all is well. Once nobody could put it off until `HOLD_S` after the last limit of what is
under way, it shows where each thread stands, in frames that name its request, and ends the process.
"""

from __future__ import annotations

import faulthandler
import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

HOLD_S = 10.0
"""Seconds beyond its limit after which a request that never comes back is given up."""
TICK_S = 0.25
"""How often the thread is put off."""
LEAST_S = 1.0
"""For how long at least: nobody is given up for a moment's delay."""
NAMED = "harness_request"
"""The function, in a frame, of which the file is the name of a request."""
DEBUGGERS = ("bdb", "pdb", "pydevd", "_pydevd_bundle", "debugpy")


class Reins:
    """Of the process, since there is one such thread.

    `stack_fd` is where it writes to. While that is None nothing is ended, as in a program of
    somebody else, or where pytest has a use for that thread (`faulthandler_timeout`).
    """

    def __init__(self) -> None:
        self.stack_fd: int | None = None
        self._limits: dict[str, Callable[[], float | None]] = {}
        self._loops = 0  # so many run now
        self._calls = 0  # so many threads are at a request, those that were given up too
        self._armed_until: float | None = None
        self._is_lent = False
        self._lock = threading.RLock()  # an alarm may ring within
        self._over: threading.Event | None = None  # of the thread that puts it off

    @contextmanager
    def hold(self, name: str, until: Callable[[], float | None]) -> Iterator[None]:
        """Have an end for a request, `until` a time of `time.monotonic`, as long as a loop runs."""
        self._limits[name] = until
        try:
            self._expect(until() or 0.0)
            yield
        finally:
            self._limits.pop(name, None)

    def call(self, function: Callable[[], Any]) -> Any:
        """Call a function in a thread, which may be left behind: it can hold the interpreter later,
        when no loop runs any more.
        """
        with self._lock:
            self._calls += 1
        try:
            return function()
        finally:
            with self._lock:
                self._calls -= 1

    def take(self) -> None:
        """A loop begins to run."""
        with self._lock:
            self._loops += 1
        if self._limits:
            self._expect(self._last())

    def let_go(self) -> None:
        """It stands still: what it asked holds up nobody, and others may have a use for threads."""
        with self._lock:
            self._loops -= 1
        if self._over is not None:
            self._end_if_idle(self._over)

    def lend(self, in_s: float | None, stack_fd: int) -> None:
        """Have the thread end the process in `in_s`, for somebody else; None gives it back."""
        with self._lock:
            self._is_lent = in_s is not None
            self._armed_until = None
            if in_s is not None:
                faulthandler.dump_traceback_later(in_s, file=stack_fd, exit=True)
                return
            faulthandler.cancel_dump_traceback_later()
            if self._over is not None:
                self._arm(self._last(), self._over)

    def _last(self) -> float:
        return max((until() or 0.0 for until in list(self._limits.values())), default=0.0)

    def _expect(self, until: float) -> None:
        if not self._loops or self.stack_fd is None:
            return
        if self._over is None:
            self._over = over = threading.Event()
            self._arm(until, over)
            threading.Thread(
                target=self._run, args=(over,), name="harness-reins", daemon=True
            ).start()
        elif self._armed_until is None or until > self._armed_until + LEAST_S / 2:
            self._arm(until, self._over)

    def _run(self, over: threading.Event) -> None:
        while not (over.wait(TICK_S) or self._end_if_idle(over)):
            if not any(map(self._is_late, sys._current_frames().values())):
                self._arm(self._last(), over)

    def _end_if_idle(self, over: threading.Event) -> bool:
        with self._lock:
            if self._loops or self._calls or over.is_set():
                return over.is_set()
            over.set()
            self._over = None
            self._disarm()
            return True

    def _arm(self, until: float, over: threading.Event) -> None:
        in_s = max(until - time.monotonic(), 0.0) + max(HOLD_S, LEAST_S)
        with self._lock:
            if over.is_set() or self._is_lent:
                return
            if self.stack_fd is not None and (self._limits or self._calls):
                self._armed_until = until
                faulthandler.dump_traceback_later(in_s, file=self.stack_fd, exit=True)
            else:
                self._disarm()

    def _disarm(self) -> None:
        if self._armed_until is not None:
            self._armed_until = None
            faulthandler.cancel_dump_traceback_later()

    def _is_late(self, frame: FrameType | None) -> bool:
        """Whether a thread stands in a coroutine that should be over by now: others may still have
        the interpreter, but no loop turns. Nobody is late at a debugger's prompt.
        """
        is_late = False
        while frame is not None:
            if str(frame.f_globals.get("__name__", "")).partition(".")[0] in DEBUGGERS:
                return False
            code = frame.f_code
            if code.co_name == NAMED and code.co_flags & inspect.CO_COROUTINE:
                until = self._limits.get(code.co_filename)
                is_late |= until is not None and time.monotonic() > (until() or 0.0)
            frame = frame.f_back
        return is_late


REINS = Reins()

"""The alarm clock of a process: stopped while somebody else is waited for, and, where code swallows
what it raises, leaves it no room, or never comes back, the way out of that code. Knows no evals.
"""

from __future__ import annotations

import faulthandler
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from harness.engine.reins import DEBUGGERS, REINS

HOLD_S = 10.0
"""Seconds beyond its limit after which code that never comes back to Python is given up."""
WRITE_S = 1.0
"""How long before that a thread begins to keep what there is, where the code lets threads run."""
END_S = 30
"""How long that may take."""
IMPORT_S = 120.0
"""How long an alarm waits for an import: one that is left half done fails for all who come after it
in the process.
"""
TICK_S = 0.25
"""How often `Watch` looks."""
handler_of: Callable[[int], object] = getattr(signal, "_signal", signal).getsignal
"""As `signal.getsignal`, which tries to make an enum of what is found: 2 us, five times an item."""
ROOM, MOST_ROOM = 200, 2000
"""How many calls deeper than the limit of recursions code may go, so that an alarm can be heard in
it: for each ring, and for all of them.
"""
_IMPORTS = "<frozen importlib._bootstrap"
_MACHINERY = ("_pytest.", "pluggy.", "harness.surface.")


def stop() -> tuple[float, float]:
    """Stop the clock; return what was left of it, for `go`."""
    WATCH.pause()
    return signal.setitimer(signal.ITIMER_REAL, 0) if hasattr(signal, "setitimer") else (0.0, 0.0)


def go(left: tuple[float, float]) -> None:
    """Let the clock run on with what `stop` found left."""
    left_s, again_s = left
    if left_s:
        WATCH.expect(left_s)
        signal.setitimer(signal.ITIMER_REAL, left_s, again_s)


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
            __tracebackhide__ = True
            raise self._error() from None  # else each is told with all that were raised before it
        return self._line

    def _left(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event != "return" or self._is_over or _is_machinery(frame):
            return
        if frame.f_back is None or _is_machinery(frame.f_back):
            self.end()  # all that pytest called was left
            return
        if not _is_of_a_loop(frame.f_back):
            self.watch(frame.f_back)
        sys.settrace(self._line)


def is_debugged() -> bool:
    """Tell whether a debugger has this thread: what stands at a breakpoint does not hang."""
    trace = sys.gettrace()
    if trace is not None:
        return str(getattr(trace, "__module__", "")).split(".")[0] in DEBUGGERS
    monitoring: Any = getattr(sys, "monitoring", None)  # since 3.12, of debuggers too
    return monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID) is not None


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


def _is_importing(frame: FrameType | None) -> bool:
    """Whether an import is under way in what pytest called; pytest may be imported itself."""
    while frame is not None and frame.f_globals.get("__name__") != "_pytest.runner":
        if frame.f_code.co_filename.startswith(_IMPORTS):
            return True
        frame = frame.f_back
    return False


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


# ---------------------------------------------------------------- code that hears nothing


class Watch:
    """A thread that looks after the one in which evals run, where no handler of a signal can.

    Where code recurses to the very limit, the call of the handler is one too many, and what that
    raises is swallowed: so it makes room, and rings again. Code in C that never comes back lets no
    handler run: the process ends. Where it lets threads run, `last_will` is called first; where it
    does not, a thread without Python (`faulthandler`) is to show on standard error where the
    process is held, and to end it, and is put off as long as all is well.
    """

    def __init__(self) -> None:
        self.error_fd: int | None = None
        self._stack_fd: int | None = None  # where it is shown what holds the process
        self._before_fd: int | None = None  # where it was, of a request
        self.handler: object = None  # of the alarm, as long as it is ours
        self.last_will: Callable[[], None] | None = None  # it ends the process
        self._due_at: float | None = None  # when the alarm rings; None while nothing is limited
        self._armed_for: float | None = None
        self._import_until: float | None = None  # when an import was waited for long enough
        self._is_put_off = False
        self._depth = 0  # the limit of recursions before room was made
        self._word: tuple[float, str] | None = None  # when to say what, where nothing is limited
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._ending = threading.RLock()  # an alarm rings within an alarm
        self._is_ending = False

    @property
    def is_due(self) -> bool:
        """Whether it is time to ring: a ring that was sent for an eval before this one is not."""
        due_at = self._due_at
        return due_at is not None and (self._is_put_off or time.monotonic() > due_at - 0.05)

    @property
    def _is_ours(self) -> bool:
        return self.handler is not None and handler_of(signal.SIGALRM) is self.handler

    def expect(self, in_s: float) -> None:
        """Begin to watch, or go on: the alarm rings in so many seconds."""
        if not self._is_ours:
            return
        self._due_at = time.monotonic() + in_s
        if self._armed_for is None:
            self._arm()
        if self._thread is None:
            self._over.clear()
            self._thread = threading.Thread(target=self._run, name="harness-watch", daemon=True)
            self._thread.start()

    def puts_off(self, frame: FrameType | None, *, limit_s: float, again_s: float) -> bool:
        """Tell, in the handler, that the alarm is not to be heard now: `frame` is within an import.
        Once that is over, it rings after `limit_s`: an import is no time of an eval's own.
        """
        with self._ending:
            until = self._import_until or time.monotonic() + IMPORT_S
            may_wait = time.monotonic() < until and not self._is_ending
            if may_wait and _is_importing(frame):
                self._import_until, self._is_put_off = until, True
                self._due_at = until  # a thread, or one without Python, would end the process
                signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
                return True
            if self._is_put_off:
                self._is_put_off = False
                in_s = limit_s if may_wait else again_s
                self.expect(in_s)
                signal.setitimer(signal.ITIMER_REAL, in_s, again_s)
                return may_wait
            return False

    def hear(self, again_s: float) -> None:
        """Take note, in the handler, that the alarm is heard; it rings again in so many seconds."""
        with self._ending:
            if not self._is_ending:
                self._make_room()
                self._due_at = time.monotonic() + again_s
                return
        while True:  # it came back too late: nothing may change under what is being kept
            time.sleep(1.0)

    def end(self) -> None:
        """What was watched is over; the thread does the rest, where nothing else begins."""
        self._due_at = self._import_until = None
        self._is_put_off = False
        if self._depth:
            sys.setrecursionlimit(self._depth)
            self._depth = 0

    def pause(self) -> None:
        """Watch nothing until something is expected: it may take its time, in C too."""
        self._due_at = None
        if self._armed_for is not None:
            self._arm()

    def say_in(self, in_s: float, text: str) -> None:
        """Say something on standard error, once, unless `say_no_more` comes before it is time."""
        self._word = (time.monotonic() + in_s, text)

    def say_no_more(self) -> None:
        """What was waited for is there."""
        self._word = None

    def take(self, stack_fd: int | None = None) -> None:
        """Write to what is standard error now, before pytest captures it; what holds the process is
        shown in `stack_fd`, where one is given.
        """
        self.give_back()
        try:
            self.error_fd = os.dup(2)
        except OSError:  # there is none
            self.error_fd = None
        self._stack_fd = self.error_fd if stack_fd is None else stack_fd
        self._before_fd, REINS.stack_fd = REINS.stack_fd, self._stack_fd

    def show_crashes(self, stack_fd: int) -> None:
        """Let a crash be shown in `stack_fd`, if at all; that of a process which code forks, where
        it would be without.
        """
        if faulthandler.is_enabled():
            faulthandler.enable(file=stack_fd)
            os.register_at_fork(after_in_child=self._show_crashes_here)

    def _show_crashes_here(self) -> None:
        with suppress(OSError, ValueError):  # there is no standard error, or it was closed
            faulthandler.enable(file=2 if self.error_fd is None else self.error_fd)

    def give_back(self) -> None:
        """End the thread, and close what `take` opened."""
        self.pause()
        self.say_no_more()
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._thread = None
        if self.error_fd is not None:
            os.close(self.error_fd)
            self.error_fd = None
        if self._stack_fd is not None:
            self._stack_fd, REINS.stack_fd = None, self._before_fd

    def _run(self) -> None:
        while not self._over.wait(TICK_S):
            word = self._word
            if word is not None and time.monotonic() > word[0]:
                self.say_no_more()
                self._say(word[1])
            if self._due_at is not None and not self._is_ours:
                self.pause()  # the eval has an alarm of its own
            if self._due_at != self._armed_for:
                self._arm()
            due_at = self._due_at
            if due_at is not None and time.monotonic() > due_at + max(HOLD_S - WRITE_S, TICK_S):
                self._end_process(due_at)
            if due_at is not None and time.monotonic() > due_at + TICK_S:
                self._make_room()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def _end_process(self, due_at: float) -> None:
        with self._ending:
            if self.last_will is None or self.error_fd is None or self._due_at != due_at:
                return
            self._is_ending = True
        faulthandler.dump_traceback_later(END_S, file=self.error_fd, exit=True)
        self.last_will()

    def _say(self, text: str) -> None:
        if self.error_fd is None:
            return
        with suppress(OSError):  # nobody reads it any more
            os.write(self.error_fd, f"\n{text}\n".encode("utf-8", "backslashreplace"))

    def _make_room(self) -> None:
        depth = sys.getrecursionlimit()
        self._depth = self._depth or depth
        if depth < self._depth + MOST_ROOM:
            sys.setrecursionlimit(depth + ROOM)

    def _arm(self) -> None:
        if self._stack_fd is None:
            return
        with self._lock:
            self._armed_for = self._due_at
            in_s = None
            if self._armed_for is not None:
                in_s = math.ceil(max(self._armed_for - time.monotonic(), 0.0) + HOLD_S)
            REINS.lend(in_s, self._stack_fd)


WATCH = Watch()
"""Of the process: there is one alarm, and one standard error."""

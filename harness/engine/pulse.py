"""Watches over the loop that asks: a coroutine that blocks holds up no other request for good.

Knows no lanes and no replies. While the loop runs, an alarm rings four times a second and asks it
for a sign of life. Where none came since the last ring, somebody's `async def answer` blocks: who,
tells the context that the handler of the alarm runs in, and where, its frames. Past its time limit
an error is raised in it, the only way out of a call that never comes back. Time in which the loop
stood still counts for nobody else's limit.

Only in the main thread, where the platform has SIGALRM and nobody else's timer runs. What was
there before is put back whenever the loop stands still, so that evals have their own alarm.
"""

from __future__ import annotations

import inspect
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from harness.engine.reins import DEBUGGERS, REINS
from harness.errors import BackendError

if TYPE_CHECKING:
    import asyncio  # a run from the cache needs none

TICK_S = 0.25
"""How often the loop is asked for a sign of life."""
HELD_S = 1.0
"""Who holds up the loop for longer is at fault; so long also lies between two errors in it."""
FIRST_S = 5.0
"""How long it may do so once without being told of: what a first call loads is no habit."""
HELD = "held up"
CURE = "make it a plain `def`, which runs in a thread, or await what it waits for"
T = TypeVar("T")
_signal: Any = getattr(signal, "_signal", signal)  # makes no enum of what it finds: 2 us a call


class LetGo(BaseException):
    """Ends a coroutine that holds up the loop past its limit; no `except Exception` keeps it."""


class HeldUp(BackendError):
    """What came of such a request: the backend did not answer, and nobody else had a turn."""


@dataclass(slots=True, eq=False)
class Asked:
    """A request that a backend is at. `held_at` is where its coroutine held up the loop, if it did;
    `told` what was said of the backend already.
    """

    name: str
    limit: asyncio.Timeout
    loop: asyncio.AbstractEventLoop
    told: set[str]
    held_at: str = ""

    @property
    def why_late(self) -> str:
        """Where it held up the loop, to be put behind what it led to; "" where it did not."""
        return self.held_at and f": its `async def` blocks at {self.held_at}; {CURE}"

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Let the alarm find it: here, and in the tasks that begin here."""
        before = _ASKED.get()
        _ASKED.set(self)
        _UNDER_WAY.add(self)
        try:
            yield
        finally:
            _UNDER_WAY.discard(self)
            _ASKED.set(before)  # by no token: who is collected ends in another context


_ASKED: ContextVar[Asked | None] = ContextVar("harness_asked", default=None)
_UNDER_WAY: set[Asked] = set()


class Pulse:
    """A context manager around each stretch that the loop runs for.

    `note` is told of a coroutine that holds up the loop, `late` that it stood still just now.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        note: Callable[[str], None],
        late: Callable[[], None],
    ) -> None:
        self.is_over = False  # nobody waits for a reply any more
        self._loop = loop
        self._note = note
        self._late = late
        self._main: asyncio.Task[Any] | None = None
        self._before: Any = None
        self._is_on = False
        self._rung_at = 0.0
        self._asked_at: float | None = None  # for a sign of life that has not come yet
        self._asked: Asked | None = None  # whose coroutine ran at the last ring
        self._since = 0.0
        self._times: Counter[str] = Counter()

    async def of(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`: what a Ctrl-C cancels."""
        import asyncio

        self._main = asyncio.current_task()
        return await work

    def __enter__(self) -> None:
        self._asked_at = self._main = None
        self._rung_at = self._loop.time()
        REINS.take()
        if not _is_free():
            return
        self._before = _signal.getsignal(signal.SIGALRM)
        if self._before is not None:  # else it was not set by Python, and cannot be put back
            self._is_on = True
            _signal.signal(signal.SIGALRM, self._ring)
            _signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        REINS.let_go()
        if self._is_on:
            self._is_on = False
            _signal.setitimer(signal.ITIMER_REAL, 0)
            _signal.signal(signal.SIGALRM, self._before)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if frame is None or not self._is_on or not self._loop.is_running():
            return
        now = self._loop.time()
        asked = None if _is_at_a_prompt(frame) else _ASKED.get()
        rung_at, self._rung_at = self._rung_at, now
        if self._asked_at is None:
            # none rings within C, as while a commit waits for a lock, nor in a process that is
            # stopped: it stood still since the last one
            self._asked_at = now if now - rung_at < HELD_S else rung_at
            self._loop.call_soon_threadsafe(self._live)
            self._asked, self._since = asked, now
        elif asked is not self._asked:  # a thread in C may have held up both: nobody's fault yet
            self._asked, self._since = asked, now
        elif asked is not None:
            self._hold(asked, frame, now)

    def _hold(self, asked: Asked, frame: FrameType, now: float) -> None:
        """Say who holds up the loop, and end it where its time is over, or a person ends all."""
        if self._main is not None and self._main.cancelling():
            raise KeyboardInterrupt  # asyncio keeps it until the loop turns
        if self.is_over:
            raise LetGo
        if now - self._since < HELD_S:
            return
        if not asked.held_at:
            asked.held_at = _place(frame)
            self._times[asked.name] += 1
        if (self._times[asked.name] > 1 or now - self._since > FIRST_S) and HELD not in asked.told:
            asked.told.add(HELD)
            with suppress(RuntimeError):  # it is within a print of its own
                self._note(f"{asked.name} holds up all other requests at {asked.held_at}: {CURE}")
        if asked in _UNDER_WAY and now > (asked.limit.when() or 0.0):
            self._since = now
            raise LetGo

    def _live(self) -> None:
        """The loop turns. Timers that are due by now run after this."""
        if self._asked_at is None:
            return
        stood_s = self._loop.time() - self._asked_at
        self._asked_at = None
        if stood_s < HELD_S:
            return
        self._late()
        for asked in list(_UNDER_WAY):
            is_innocent = asked.loop is self._loop and not asked.held_at
            if is_innocent and not asked.limit.expired():
                asked.limit.reschedule((asked.limit.when() or 0.0) + stood_s)


def _is_free() -> bool:
    """Tell whether there is an alarm, and nobody waits for it."""
    if not hasattr(signal, "setitimer") or (
        threading.current_thread() is not threading.main_thread()
    ):
        return False
    return not any(_signal.getitimer(signal.ITIMER_REAL))


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_at_a_prompt(frame: FrameType) -> bool:
    """Whether a person looks into it with a debugger."""
    names = (str(each.f_globals.get("__name__", "")) for each in _outwards(frame))
    return any(name.partition(".")[0] in DEBUGGERS for name in names)


def _place(frame: FrameType) -> str:
    """Return the line of the innermost coroutine, which should have awaited, and what it called."""
    called = (f for f in _outwards(frame) if f.f_code.co_flags & inspect.CO_COROUTINE)
    awaits = next(called, frame)
    place = f"{_file(awaits)}:{awaits.f_lineno}"
    if awaits is frame:
        return place
    is_same = awaits.f_code.co_filename == frame.f_code.co_filename
    return f"{place} ({'line ' if is_same else f'in {_file(frame)}:'}{frame.f_lineno})"


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename.removeprefix(f"{Path.cwd()}{os.sep}")

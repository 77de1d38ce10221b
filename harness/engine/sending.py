"""Requests on their way: begun, moved on while somebody waits for them, and ended.

Knows nothing of evals or scores, nor of tries and pauses, which are of `harness.engine.lanes`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from harness.engine.batches import need_batches, pause_s
from harness.engine.boundary import cross, stay_inside
from harness.engine.fetch import Ask, Outcome, Progress
from harness.engine.lanes import Lanes, backoff
from harness.engine.pulse import Pulse
from harness.errors import HarnessError, UsageError
from harness.records import Reply
from harness.store.store import Store

if TYPE_CHECKING:
    from harness.engine.spending import Spending

LONG_S = 0.01
"""Who stood still for longer cannot tell how long the replies took that came meanwhile."""
TURNS = 12
"""From a reply in the socket to the next request in it, in turns of the loop."""
T = TypeVar("T")


def send(
    asks: Sequence[Ask],
    known: Mapping[str, Reply],
    *,
    store: Store,
    progress: Progress,
    wait: Callable[[int], float] | None = None,
    spending: Spending | None = None,
    is_batch: bool = False,
    pause: Callable[[int], float] | None = None,
    override_boundary: str | None = None,
) -> Sending:
    """Begin to ask for each of `asks` that is not `known`; arguments as of `fetch`."""
    missing = [ask for ask in asks if ask.key not in known]
    if refused := next((ask.refusal for ask in missing if ask.refusal), ""):
        raise UsageError(refused)
    if override_boundary is None:
        stay_inside(missing)
    else:
        for told in cross(missing, reason=override_boundary, store=store):
            progress.note(told)
    for live in {id(ask.live): ask.live for ask in missing}.values():
        live.ready()  # all of them, before one is paid for
        live.tell_once(live.unpriced, progress.note)
    if is_batch:
        need_batches(ask.live for ask in missing)
    if spending is not None:
        spending.note = progress.note
    lanes = Lanes(store=store, progress=progress, wait=wait or backoff, spending=spending)
    look = (pause or pause_s) if is_batch else None
    return Sending(lanes, asks, known, pause=look)


class Sending:
    """Requests on their way. They move on only while one of its methods runs: in between, what
    arrives waits, and nothing more is sent.

    Every method but `close` raises the HarnessError that ended all of it; `close` raises StoreError
    where the last replies could not be stored.
    """

    def __init__(
        self,
        lanes: Lanes,
        asks: Collection[Ask],
        known: Mapping[str, Reply],
        *,
        pause: Callable[[int], float] | None,
    ) -> None:
        self._lanes = lanes
        # its own factory, so that it is nobody's current loop while it stands still; and one that
        # watches sockets, as libcurl needs it, on every platform
        self._runner = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
        self._loop = self._runner.get_loop()
        self._task = self._loop.create_task(lanes.everything(asks, known, pause=pause))
        self._left_at = self._loop.time()
        self._pulse = Pulse(self._loop, note=lanes.progress.note, late=self._stood_still)
        self.is_settled = False

    @property
    def stood_s(self) -> float:
        """For how long it has stood still."""
        return self._loop.time() - self._left_at

    def outcome(self, key: str) -> Outcome:
        """Return what came of a request, as soon as it is known."""
        found = self._lanes.found
        if key not in found and self.is_settled:  # it may be among those that went out before
            self._run(self._lanes.until(lambda: key in found or self._is_idle, self._task))
        if key not in found:
            self.go_on()
            self._run(self._lanes.until(lambda: key in found, self._task))
        return found[key] if key in found else self.finish()[key]

    def turn(self) -> None:
        """Take in what arrived, and send what has its turn."""
        self._run(_let_others())

    def hold(self) -> None:
        """Send no more than is on its way: at the beginning, what may be in flight at once."""
        if not self._lanes.lanes:
            self.turn()
        self.is_settled = True
        for lane in self._lanes.lanes.values():
            lane.limiter.hold()

    def comes_within(self, key: str, seconds: float) -> bool:
        """Tell whether the outcome of a request is known, waiting for so long at most."""
        found = self._lanes.found
        return self._run(self._lanes.until(lambda: key in found, self._task, at_most_s=seconds))

    def settle(self, within_s: float) -> bool:
        """Send nothing more; tell whether nothing is on its way, waiting for so long at most."""
        self.hold()
        return self._run(self._lanes.until(lambda: self._is_idle, self._task, at_most_s=within_s))

    @property
    def _is_idle(self) -> bool:
        return not any(lane.limiter.in_flight for lane in self._lanes.lanes.values())

    def go_on(self) -> None:
        """Send again, after `hold` or `settle`."""
        if not self.is_settled:
            return
        self.is_settled = False
        for lane in self._lanes.lanes.values():
            lane.limiter.release()

    def finish(self) -> dict[str, Outcome]:
        """Return what came of each request, once all of them are done."""
        self.go_on()
        return self._run(_result(self._task))

    def close(self) -> None:
        """Stop what is under way; what arrived is stored."""
        try:
            if not self._task.done():
                self._task.cancel()
                self._pulse.is_over = True
                for lane in self._lanes.lanes.values():
                    lane.limiter.hold()  # who had no turn yet would begin before it is cancelled
                with suppress(asyncio.CancelledError):
                    self._run(_result(self._task))
        finally:
            self._runner.close()

    def _stood_still(self) -> None:
        self._lanes.held_at = self._loop.time()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self.stood_s > LONG_S:
            self._lanes.stood_at = self._left_at
        watched = self._pulse.of(work)
        try:
            with self._pulse:
                done = self._runner.run(watched)
            if self._task.done():
                self._task.result()
            return done
        except* HarnessError as group:
            raise _first(group) from None
        finally:
            for one in (watched, work):  # a Ctrl-C may have come before they began
                if inspect.getcoroutinestate(one) == inspect.CORO_CREATED:
                    one.close()
            self._left_at = self._loop.time()


async def _result(task: asyncio.Task[T]) -> T:
    return await task


async def _let_others() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def _first(group: BaseExceptionGroup[HarnessError]) -> HarnessError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, HarnessError)
    return error

"""Runs plain functions one after the other, each for a bounded time. Knows nothing of evals.

Signals end a call only in the main thread, which a server's guard does not run in. So the calls
run on a daemon thread beside, and the caller watches the clock: one that does not end in time is
left behind with its thread (which ends with the call, or with the process), and a fresh thread
goes on with the next. A hand-over costs some 10 microseconds for a batch, not for each call.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Batch(Generic[T]):
    """Calls in order, and what came of them so far. `started` is when the newest began. They see
    the context variables of the caller: tracers live there.
    """

    calls: Sequence[Callable[[], T]]
    results: list[T] = field(default_factory=list)
    started: float = 0.0
    is_abandoned: bool = False
    context: Context = field(default_factory=copy_context)


class _Worker(Generic[T]):
    """One thread. `jobs` takes a batch; `done` tells that it ended, or why it could not."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[_Batch[T] | None] = SimpleQueue()
        self.done: SimpleQueue[BaseException | None] = SimpleQueue()
        threading.Thread(target=self._work, name="harness-evals", daemon=True).start()

    def _work(self) -> None:
        while (batch := self.jobs.get()) is not None:
            try:
                batch.started = time.monotonic()
                for call in batch.calls:
                    result = batch.context.run(call)
                    if batch.is_abandoned:
                        return
                    batch.started = time.monotonic()  # of the next, before its turn is seen
                    batch.results.append(result)
            except BaseException as exc:  # noqa: BLE001 - border: it belongs to the caller
                self.done.put(exc)
            else:
                self.done.put(None)
            del batch  # an idle thread shall keep no reply alive


class Bounded(Generic[T]):
    """Threads that are used again. Safe to use from several threads at once."""

    def __init__(self, *, timeout_s: float, overdue: Callable[[], T]) -> None:
        """`overdue` gives what stands in for the result of a call that did not end in time."""
        self.timeout_s = timeout_s
        self._overdue = overdue
        self._idle: deque[_Worker[T]] = deque()
        self._is_closed = False

    def run(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Return what each call returned. What one raises is raised here, and ends the batch."""
        results: list[T] = []
        while len(results) < len(calls):
            batch = _Batch(calls[len(results) :])
            ended = self._watch(batch)
            results += batch.results[:ended]
            if ended < len(batch.calls):
                results.append(self._overdue())
        return results

    def _watch(self, batch: _Batch[T]) -> int:
        """Run the batch; return how many calls ended before one that did not."""
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker()
        worker.jobs.put(batch)
        left_s = self.timeout_s
        while True:
            try:
                error = worker.done.get(timeout=left_s)
            except Empty:
                ended = len(batch.results)
                left_s = self.timeout_s - (time.monotonic() - (batch.started or time.monotonic()))
                if left_s > 0:  # another call has begun since
                    continue
                batch.is_abandoned = True
                worker.jobs.put(None)
                return ended
            except BaseException:  # Ctrl-C: the thread ends after the call that it is in
                batch.is_abandoned = True
                worker.jobs.put(None)
                raise
            self._idle.append(worker)
            if self._is_closed:
                self.close()
            if error is not None:
                raise error
            return len(batch.calls)

    def close(self) -> None:
        """Let every idle thread end, and those in use after their batch."""
        self._is_closed = True
        while True:
            try:
                self._idle.pop().jobs.put(None)
            except IndexError:
                return

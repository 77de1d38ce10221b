"""Gathers what is asked at once and has one thread answer it. Knows nothing of models.

Asks that arrive within a moment of each other are handed over together; while a round
is being answered, the next one gathers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")

# The company of a row can tip a near tie, so a run's requests should travel in the same batches
# each time: wait until none came for long enough that the asker is surely done, not just slow.
_QUIET_S = 0.05
_LONGEST_S = 5.0


@dataclass(slots=True)
class Pending(Generic[A, R]):
    """An ask and where its answer goes."""

    ask: A
    future: Future[R] = field(default_factory=Future)


class Batcher(Generic[A, R]):
    """One worker thread over a queue. `work` answers a round by resolving its futures."""

    def __init__(self, work: Callable[[Sequence[Pending[A, R]]], None], *, name: str) -> None:
        self._work = work
        self._name = name
        self._waiting: list[Pending[A, R]] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def submit(self, ask: A) -> Future[R]:
        """Queue an ask. Its future fails with RuntimeError once the batcher is closed."""
        pending: Pending[A, R] = Pending(ask)
        with self._changed:
            if self._is_closed:
                raise RuntimeError(f"{self._name} is closed")
            self._waiting.append(pending)
            if self._thread is None:
                # A daemon: a run that is stopped does not wait for a batch of minutes.
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()
        return pending.future

    def close(self) -> None:
        """Cancel what waits, let the round in hand end soon, and stop the thread."""
        with self._changed:
            self._is_closed = True
            waiting, self._waiting = self._waiting, []
            self._changed.notify()
        for pending in waiting:
            pending.future.cancel()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=30)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called: a round in hand asks, and stops early."""
        return self._is_closed

    def _run(self) -> None:
        while True:
            round_ = self._gather()
            if not round_:
                return
            try:
                self._work(round_)
            except BaseException as exc:  # noqa: BLE001 - border: a worker's last line; whoever waits is told
                for pending in round_:
                    if not pending.future.done():
                        pending.future.set_exception(exc)

    def _gather(self) -> list[Pending[A, R]]:
        """Wait for asks, then until none came for a moment; empty once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            began, seen = time.monotonic(), 0
            while len(self._waiting) != seen and time.monotonic() - began < _LONGEST_S:
                seen = len(self._waiting)
                self._changed.wait(_QUIET_S)
            round_, self._waiting = self._waiting, []
        return [pending for pending in round_ if not pending.future.cancelled()]

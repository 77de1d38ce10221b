"""Runs plain functions beside an event loop. Knows nothing of what they do.

`asyncio.to_thread` is not used: its threads are waited for when the loop ends and again when the
process does, so that one call that hangs would hold up a time-out or a Ctrl-C for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any


class Threads:
    """Daemon threads that are used again; a new one starts only where none is free."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._free = 0
        self._started = 0

    async def run(self, function: Callable[[], Any]) -> Any:
        """Return what `function` returns, or raise what it raises; cancelling leaves it behind.

        It sees the context variables of who asks, as in `asyncio.to_thread`: tracers live there.
        """
        import asyncio  # a run from the cache needs none

        future: Future[Any] = Future()
        with self._lock:
            needs_one = self._free == 0
            self._free -= 0 if needs_one else 1
            self._started += needs_one
        self._jobs.put((future, partial(copy_context().run, function)))
        if needs_one:
            threading.Thread(target=self._work, name="harness-backend", daemon=True).start()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let every thread end after what it does now."""
        for _ in range(self._started):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            tell = _called(*job)
            with self._lock:  # before it is told: who asks at once finds this thread free
                self._free += 1
            tell()


def _called(future: Future[Any], function: Callable[[], Any]) -> Callable[[], None]:
    """Call `function`, and return what tells the future of it."""
    if not future.set_running_or_notify_cancel():
        return lambda: None
    try:
        return partial(future.set_result, function())
    except StopIteration as exc:  # no future may hold one
        return partial(future.set_exception, RuntimeError(f"StopIteration: {exc}"))
    except BaseException as exc:  # noqa: BLE001 - border: it belongs to the caller
        return partial(future.set_exception, exc)

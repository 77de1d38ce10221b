"""An event loop on a thread of its own, for programs with and without one. Knows no backends.

A backend's connections belong to the loop that opened them: with one loop for good they are kept,
whoever calls, and a call from inside a running loop nests no second one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from harness.engine.limiter import Limiter
from harness.errors import UsageError

T = TypeVar("T")


class LoopThread:
    """Starts at its first use. `limiter` holds what runs on it to the limit that was set."""

    def __init__(self, *, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self.limiter = Limiter(16)

    def limit(self, ceiling: int) -> None:
        """Let at most `ceiling` bodies of `limiter` be open at once."""
        self.limiter = Limiter(ceiling)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what `coroutine` returns; Ctrl-C cancels it."""
        future = self._submit(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def arun(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what `coroutine` returns, awaited from another loop."""
        return await asyncio.wrap_future(self._submit(coroutine))

    def close(self) -> None:
        """Cancel what runs, and end the thread."""
        with self._lock:
            self._is_closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout=10.0)

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if self._is_closed:
                coroutine.close()
                raise UsageError("this guard is closed")
            if self._loop is None:
                self._loop = asyncio.SelectorEventLoop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name=self._name, daemon=True
                )
                self._thread.start()
            loop = self._loop
        return asyncio.run_coroutine_threadsafe(coroutine, loop)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        open_tasks = asyncio.all_tasks(loop)
        for task in open_tasks:
            task.cancel()
        if open_tasks:
            loop.run_until_complete(asyncio.gather(*open_tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()

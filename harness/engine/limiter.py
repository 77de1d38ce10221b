"""How many requests a backend gets at once: additive increase, multiplicative decrease.

Knows nothing of requests. Source of the rule: Chiu & Jain (1989), Computer Networks 17:1-14.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType


class Limiter:
    """An async context manager that holds at most `limit` bodies open; `limit` adapts.

    A success adds 1/limit (so one more for each round of replies), a rate limit halves it; those
    that were in flight already when it was halved do not halve it again. It starts at `ceiling`,
    and stays between 1 and `ceiling`. All of it belongs to one event loop.
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.limit = float(ceiling)
        self.in_flight = 0
        self.peak = 0
        self._sent_before = 0
        self._is_held = False
        # no asyncio.Condition: its lock is taken four times a request, and one loop needs none
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if not self._waiting and self._has_room():
            self._take_place()
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._call_next()  # those before it may have been cancelled: nobody else would call
        try:
            await turn  # whoever ends it gives it a place, so that nobody comes in between
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it has a place already, and is the next's
                self.in_flight -= 1
                self._call_next()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.in_flight -= 1
        self._sent_before -= 1
        self._call_next()

    def grow(self) -> None:
        """A reply came back."""
        self.limit = min(float(self.ceiling), self.limit + 1 / max(1.0, self.limit))
        self._call_next()

    def shrink(self) -> None:
        """The backend said that it is too much."""
        if self._sent_before < 0:
            self.limit = max(1.0, self.limit / 2)
            self._sent_before = self.in_flight

    def hold(self) -> None:
        """Let nobody in until `release`."""
        self._is_held = True

    def release(self) -> None:
        """Let those in who wait, as far as there is room."""
        self._is_held = False
        self._call_next()

    def _has_room(self) -> bool:
        return not self._is_held and self.in_flight < max(1, int(self.limit))

    def _take_place(self) -> None:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)

    def _call_next(self) -> None:
        while self._waiting and self._has_room():
            turn = self._waiting.popleft()
            if not turn.done():
                self._take_place()
                turn.set_result(None)

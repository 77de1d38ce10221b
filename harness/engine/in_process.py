"""Requests that this process answers by itself, and that may take it with them. Knows no tries.

A callable of somebody's, or a model that is loaded here, can hold the interpreter in C, crash, or
end the process. Where a parent waits for that (`harness.engine.life`), it is told which requests
are under way, and the next process asks each of those alone, until it is known which one it was:
that one is not asked again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from harness.engine.fetch import Ask
from harness.engine.life import End, life
from harness.errors import BackendError
from harness.records import Reply

if TYPE_CHECKING:
    from harness.engine.spending import Spending

LAST = (
    "was under way: where the process ends here, one such request did not come back in time, and "
    "what was answered is kept;"
)
AGAIN = "the run began again without it"


class Lost(BackendError):
    """A request that ended a process before this one; `has_answered` where its backend had
    answered others.
    """

    def __init__(self, message: str, *, has_answered: bool) -> None:
        super().__init__(message, is_systemic=True)
        self.has_answered = has_answered


class InProcess:
    """Of one fetch."""

    def __init__(self, *, spending: Spending | None) -> None:
        self._life = life()
        self._spending = spending
        self._under_way: dict[str, str] = {}
        self._turn = asyncio.Lock()

    def in_order(self, asks: Sequence[Ask]) -> Sequence[Ask]:
        """Return the asks with those first that are asked alone: then the others need not wait."""
        suspects = self._life.suspects if self._life is not None else ()
        return sorted(asks, key=lambda ask: ask.key not in suspects) if suspects else asks

    async def answer(self, ask: Ask) -> Reply:
        """Return the reply to one of the asks. Raises BackendError, and Lost where it ended a
        process before.
        """
        if ask.live.only_waits:
            return await ask.live.answer(ask.request)
        name = f"{ask.case or 'a request'} of {ask.live.name}"
        if self._life is None:
            return await ask.live.answer(ask.request, name=f"{name} {LAST} {ask.key}")
        if (end := self._life.lost.get(ask.key)) is not None:
            has_answered = ask.live.name in self._life.answered
            raise Lost(_words(ask, end), has_answered=has_answered)
        async with self._told(ask.key, name):
            reply = await ask.live.answer(ask.request, name=f"{ask.key} {name}")
        if ask.live.name not in self._life.answered:
            self._life.answered |= {ask.live.name}
        return reply

    def tell_spent(self) -> None:
        """Have a process after this one know what was spent, where there is a cap."""
        if self._life is not None and self._spending is not None:
            self._life.spent = json.dumps(self._spending.known)

    @asynccontextmanager
    async def _told(self, key: str, name: str) -> AsyncIterator[None]:
        """Have the parent know of a request while it is under way: alone, if need be."""
        assert self._life is not None
        is_alone = bool(self._life.suspects)
        if is_alone:
            await self._turn.acquire()
        try:
            self._under_way[key] = name
            self._life.ask(self._under_way)
            yield
        finally:
            self._under_way.pop(key, None)
            self._life.ask(self._under_way)
            if is_alone:
                self._life.suspects.discard(key)
                self._turn.release()


def _words(ask: Ask, end: End) -> str:
    if end.did:
        return f"{ask.live.name} {end.did}{end.place and f', at {end.place}'}; {AGAIN}"
    where = f"it did not come back from {end.place}" if end.place else "it did not come back"
    return (
        f"{ask.live.name}: no reply within {ask.live.timeout_s:g} s: {where}, and its process was "
        f"ended; {AGAIN}"
    )

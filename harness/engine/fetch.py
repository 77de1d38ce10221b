"""Gets replies: from the store where they are known, else from backends, all at once.

Knows nothing of evals or scores. A reply is stored as soon as it arrives (in batches of a few
milliseconds), so that a kill loses at most what was in flight, and a second run sends the rest.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from harness.engine.backends import LiveBackend
from harness.engine.limiter import Limiter
from harness.errors import BackendError, HarnessError
from harness.records import Fault, Reply, Request
from harness.store.store import Store, StoredReply

TRIES = 4
LONGEST_WAIT_S = 60.0
FIRST_WAIT_S = 0.5
GIVE_UP_AFTER = 3  # requests that spent every try while none was ever answered
FLUSH_EVERY_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request to one backend, under the key that its reply is stored by."""

    key: str
    request: Request
    live: LiveBackend


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an ask: a reply or a fault (or neither, where a case without a reference asks
    for the reference's reply). `is_cached` where no backend was asked.
    """

    key: str
    reply: Reply | None = None
    fault: Fault | None = None
    is_cached: bool = False


class Progress(Protocol):
    """Told of what happens while replies are fetched."""

    def begin(self, backend: str, total: int) -> None:
        """`total` requests will be sent to `backend`."""

    def advance(self, backend: str) -> None:
        """One of them is done, well or badly."""

    def note(self, text: str) -> None:
        """Something that a person should know: a retry, a backend that is down."""


class Silence:
    """A Progress that shows nothing."""

    def begin(self, backend: str, total: int) -> None:
        """Say nothing."""

    def advance(self, backend: str) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


def fetch(
    asks: Sequence[Ask],
    *,
    store: Store,
    progress: Progress,
    is_offline: bool = False,
    wait: Callable[[int], float] | None = None,
) -> dict[str, Outcome]:
    """Return the outcome of every ask, by key. Equal keys are asked once.

    `wait` gives the seconds before try n (2, 3, ...), for tests. KeyboardInterrupt passes
    through after every reply that arrived was stored.
    """
    unique = {ask.key: ask for ask in asks}
    known = store.known_replies(list(unique))
    outcomes = {k: Outcome(key=k, reply=r, is_cached=True) for k, r in known.items()}
    missing = [ask for key, ask in unique.items() if key not in known]
    if is_offline:
        fault = Fault(
            origin="harness", message="no recorded reply (run without --offline)", is_missing=True
        )
        return outcomes | {a.key: Outcome(key=a.key, fault=fault) for a in missing}
    if missing:
        fetching = _Fetching(store=store, progress=progress, wait=wait or _backoff)
        try:
            outcomes |= asyncio.run(fetching.all(missing))
        except* HarnessError as group:
            raise _first(group) from None
    return outcomes


def _first(group: BaseExceptionGroup[HarnessError]) -> HarnessError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, HarnessError)
    return error


def _backoff(attempt: int) -> float:
    # jitter: many clients that were refused together must not come back together
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (attempt - 2)) * random.uniform(0.5, 1.5)


@dataclass(slots=True, kw_only=True)
class _Lane:
    """One backend's way: its limiter, and whether it ever answered.

    Once a request failed and none was answered, a few find out whether anybody is there; the
    others wait, so that a backend that is down costs no more than those few.
    """

    limiter: Limiter
    has_answered: bool = False
    has_failed: bool = False
    under_way: int = 0
    exhausted: int = 0
    down: str | None = None
    noted: set[tuple[str, int]] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_in_doubt(self) -> bool:
        is_unknown = self.has_failed and not self.has_answered and self.down is None
        return is_unknown and self.under_way >= GIVE_UP_AFTER

    async def know(self) -> None:
        while self.is_in_doubt:
            self.changed.clear()
            await self.changed.wait()


@dataclass(slots=True, kw_only=True)
class _Fetching:
    store: Store
    progress: Progress
    wait: Callable[[int], float]
    lanes: dict[int, _Lane] = field(default_factory=dict)
    unsaved: list[StoredReply] = field(default_factory=list)
    earlier: dict[str, Reply] = field(default_factory=dict)

    async def all(self, asks: Sequence[Ask]) -> Mapping[str, Outcome]:
        counts: dict[str, int] = {}
        for ask in asks:
            counts[ask.live.name] = counts.get(ask.live.name, 0) + 1
            if id(ask.live) not in self.lanes:
                self.lanes[id(ask.live)] = _Lane(limiter=Limiter(ask.live.concurrency))
        for name, total in counts.items():
            self.progress.begin(name, total)
        try:
            async with asyncio.TaskGroup() as group:
                saver = group.create_task(self._save_often())
                tasks = [group.create_task(self._one(ask)) for ask in asks]
                await asyncio.wait(tasks)
                saver.cancel()
        finally:
            self._save()
        found = {task.result().key: task.result() for task in tasks}
        # another process stored a reply first: that one stands, and is the one that is scored
        earlier = {k: Outcome(key=k, reply=r, is_cached=True) for k, r in self.earlier.items()}
        return found | earlier

    async def _one(self, ask: Ask) -> Outcome:
        lane = self.lanes[id(ask.live)]
        while (outcome := await self._try(ask, lane)) is None:
            await lane.know()
        self.progress.advance(ask.live.name)
        return outcome

    async def _try(self, ask: Ask, lane: _Lane) -> Outcome | None:
        """Return what came of `ask`, or None where it was not sent because of doubt."""
        has_begun, pause = False, 0.0
        try:
            for attempt in range(1, TRIES + 1):
                await asyncio.sleep(pause)
                async with lane.limiter:
                    if lane.down:
                        return _failed(ask, lane.down, is_missing=True)
                    if not has_begun and lane.is_in_doubt:
                        return None
                    lane.under_way += not has_begun
                    has_begun = True
                    try:
                        reply = await ask.live.answer(ask.request)
                    except BackendError as exc:
                        error = exc
                    else:
                        return await self._keep(ask, reply, lane)
                if not error.is_retryable:
                    lane.has_answered = True  # badly, but somebody is there
                    return _failed(ask, str(error), is_missing=not error.is_systemic)
                lane.has_failed = True
                await lane.limiter.shrink()
                pause = min(LONGEST_WAIT_S, max(error.retry_after_s or 0.0, self.wait(attempt + 1)))
                if attempt < TRIES and (str(error), attempt) not in lane.noted:
                    lane.noted.add((str(error), attempt))  # once, not once for each in flight
                    self.progress.note(
                        f"{ask.live.name}: {error} "
                        f"(try {attempt} of {TRIES}, again in {pause:.1f} s)"
                    )
            self._give_up(ask, lane, error)
            return _failed(ask, f"{error} ({TRIES} tries)", is_missing=True)
        finally:
            if has_begun:
                lane.under_way -= 1
                lane.changed.set()

    async def _keep(self, ask: Ask, reply: Reply, lane: _Lane) -> Outcome:
        lane.has_answered = True
        lane.changed.set()
        self.unsaved.append(
            StoredReply(key=ask.key, request=ask.request, reply=reply, backend=ask.live.name)
        )
        await lane.limiter.grow()
        return Outcome(key=ask.key, reply=reply)

    def _give_up(self, ask: Ask, lane: _Lane, error: BackendError) -> None:
        lane.exhausted += 1
        if not lane.has_answered and lane.exhausted >= GIVE_UP_AFTER and not lane.down:
            lane.down = f"{ask.live.name} is down: {error}"
            self.progress.note(f"{lane.down}; the other requests to it are not sent")

    async def _save_often(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            self._save()

    def _save(self) -> None:
        rows, self.unsaved = self.unsaved, []
        if not rows:
            return
        try:
            self.earlier |= self.store.add_replies(rows)
        except BaseException:  # a busy store, or a second Ctrl-C: the last save tries again
            self.unsaved = rows + self.unsaved
            raise


def _failed(ask: Ask, message: str, *, is_missing: bool) -> Outcome:
    fault = Fault(origin="backend", message=message, is_missing=is_missing)
    return Outcome(key=ask.key, fault=fault)

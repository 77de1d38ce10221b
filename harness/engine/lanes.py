"""Sends requests, each backend's in a lane of its own: tries, pauses, and what is kept of it.

Knows nothing of evals or scores. A reply keeps its place among those in flight until it is stored
(those that arrive together in one commit), so that a kill loses at most what was in flight, and a
second run sends the rest.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.engine.batches import Batches, held_by, settle_interrupted
from harness.engine.fetch import Ask, Outcome, Progress, was_not_asked
from harness.engine.in_process import InProcess, Lost
from harness.engine.limiter import Limiter
from harness.engine.pulse import HeldUp
from harness.errors import BackendError
from harness.records import Fault, Reply
from harness.store.store import Store, StoredReply

if TYPE_CHECKING:
    from harness.engine.spending import Forecast, Later, Spending

TRIES = 4
LONGEST_WAIT_S = 60.0
FIRST_WAIT_S = 0.5
GIVE_UP_AFTER = 3  # requests that spent every try while none was ever answered
REST_S = 0.1
AT_ONCE = 1024
"""So many of a backend's requests are looked after at once, in flight or between two tries: each
takes 3 kB, and a run may have 100,000."""


def backoff(attempt: int) -> float:
    """Return the seconds before try `attempt` (2, 3, ...)."""
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

    def has_told(self, error: BackendError) -> bool:
        """Tell whether a note said already what went wrong: then another need not."""
        return any(told == str(error) for told, _ in self.noted)

    async def know(self) -> None:
        while self.is_in_doubt:
            self.changed.clear()
            await self.changed.wait()


@dataclass(slots=True, kw_only=True)
class Lanes:
    """The lanes of one fetch, and what came of its requests so far."""

    store: Store
    progress: Progress
    wait: Callable[[int], float]
    spending: Spending | None = None
    in_process: InProcess = field(init=False)
    lanes: dict[int, _Lane] = field(default_factory=dict)
    unsaved: list[StoredReply] = field(default_factory=list)
    unsaid: list[asyncio.Future[None]] = field(default_factory=list)
    earlier: dict[str, Reply] = field(default_factory=dict)
    found: dict[str, Outcome] = field(default_factory=dict)
    stood_at: float = -math.inf
    held_at: float = -math.inf  # a coroutine held up the loop until then
    here: tuple[Callable[[], bool], asyncio.Future[None]] | None = None

    def __post_init__(self) -> None:
        self.in_process = InProcess(spending=self.spending)

    async def until(
        self,
        is_so: Callable[[], bool],
        task: asyncio.Task[Any],
        *,
        at_most_s: float | None = None,
    ) -> bool:
        """Wait until something is so that an outcome can make so, all is over, or `at_most_s`
        have passed; tell whether it is so.
        """
        if not is_so() and not task.done():
            here = asyncio.get_running_loop().create_future()
            self.here = (is_so, here)
            await asyncio.wait((task, here), timeout=at_most_s, return_when=asyncio.FIRST_COMPLETED)
            self.here = None
            here.cancel()
        return is_so()

    async def everything(
        self,
        asks: Collection[Ask],
        known: Mapping[str, Reply],
        *,
        pause: Callable[[int], float] | None,
    ) -> dict[str, Outcome]:
        """Return what came of the asks that are not `known`: in batches where `pause` is given."""
        missing = [ask for ask in asks if ask.key not in known]
        if pause is not None:
            settle_interrupted(self.store, self.progress)
        held = held_by(missing, self.store) if any(a.live.batch_size for a in missing) else []
        if held and pause is None:
            count = sum(len(some) for _, some in held)
            self.progress.note(
                f"{count} of these requests wait in batch {held[0][0].id} of {held[0][0].backend}: "
                "they are asked again, and paid twice; --batch waits for it instead"
            )
        if pause is not None:
            waiting = {ask.key for _, some in held for ask in some}
            missing = [ask for ask in missing if ask.key not in waiting]
        found: dict[str, Outcome] = {}
        if self.spending is not None and missing:
            found |= await self._pilot(
                missing, asks, known, spending=self.spending, is_batch=pause is not None
            )
            missing = [ask for ask in missing if ask.key not in found]
        if pause is None:
            return found | dict(await self.all(missing) if missing else {})
        batches = Batches(store=self.store, progress=self.progress, paid=self._paid, pause=pause)
        await batches.all(missing, held)
        found |= {k: Outcome(key=k, fault=f) for k, f in batches.faults.items()}
        return found | {k: Outcome(key=k, reply=r) for k, r in batches.replies.items()}

    async def _pilot(
        self,
        missing: Sequence[Ask],
        asks: Collection[Ask],
        known: Mapping[str, Reply],
        *,
        spending: Spending,
        is_batch: bool,
    ) -> dict[str, Outcome]:
        """Ask a few, and tell what the rest will cost. Raises UsageError above the cap."""
        spending.begin()
        spending.refuse_unpriced(missing)
        if spending.is_forecast:
            return {}
        here = {ask.key for ask in missing}
        pilot, counts = spending.pilot([a for a in asks if a.key in here or a.key in known], known)
        found = dict(await self.all(pilot)) if pilot else {}
        sent = [ask for ask in pilot if not was_not_asked(found[ask.key].fault)]
        made = spending.forecasts(sent, counts)
        unknown: list[str] = []
        if spending.later is not None:
            come = {k: Outcome(key=k, reply=r, is_cached=True) for k, r in known.items()} | found
            more, unknown = await self._pilot_of_later(spending.later(come), spending)
            made += more
        for line in [*(one.line() for one in made), *unknown]:
            self.progress.note(line)
        cases = len({ask.case or ask.key for ask in missing})
        spending.stop_above(made, cases=cases, is_whole=is_batch, is_all=not unknown)
        return found

    async def _pilot_of_later(
        self, some: Sequence[Later], spending: Spending
    ) -> tuple[list[Forecast], list[str]]:
        """Ask judges about the first replies; their verdicts are stored, and found when wanted."""
        known = self.store.known_replies([ask.key for one in some for ask in one.asks])
        pilot, counts = spending.later_pilot(some, known)
        spending.refuse_unpriced(pilot)
        for live in {id(ask.live): ask.live for ask in pilot}.values():
            live.ready()
        found = await self.all(pilot) if pilot else {}
        sent = [ask for ask in pilot if not was_not_asked(found[ask.key].fault)]
        return spending.forecasts(sent, counts), spending.unknown(counts)

    def _paid(self, reply: Reply) -> None:
        """Count a batch's reply."""
        if self.spending is not None:
            self.spending.take(reply)
        if reply.cost_usd is not None:
            self.progress.spend(reply.cost_usd)

    async def all(self, asks: Sequence[Ask]) -> Mapping[str, Outcome]:
        """Send each of `asks`, and return what came of it."""
        counts: dict[str, int] = {}
        for ask in asks:
            counts[ask.live.name] = counts.get(ask.live.name, 0) + 1
            if id(ask.live) not in self.lanes:
                self.lanes[id(ask.live)] = _Lane(limiter=Limiter(ask.live.concurrency))
        for name, total in counts.items():
            self.progress.begin(name, total)
        try:
            async with asyncio.TaskGroup() as group:
                for waiting, count in _by_lane(self.in_process.in_order(asks)):
                    for _ in range(count):
                        group.create_task(self._each(waiting))
        finally:
            self._save()
        return {ask.key: self.found[ask.key] for ask in asks}

    async def _each(self, waiting: Iterator[Ask]) -> None:
        for ask in waiting:
            self.found[ask.key] = await self._one(ask)
            if self.here is not None and self.here[0]() and not self.here[1].done():
                self.here[1].set_result(None)

    async def _one(self, ask: Ask) -> Outcome:
        lane = self.lanes[id(ask.live)]
        while (outcome := await self._try(ask, lane)) is None:
            await lane.know()
        self.progress.advance(ask.live.name, is_reply=outcome.reply is not None)
        return outcome

    async def _try(self, ask: Ask, lane: _Lane) -> Outcome | None:
        """Return what came of `ask`, or None where it was not sent because of doubt."""
        has_begun, pause = False, 0.0
        try:
            for attempt in range(1, TRIES + 1):
                if attempt > 1:
                    await asyncio.sleep(pause)
                async with lane.limiter:
                    if lane.down:
                        return _failed(ask, lane.down, is_missing=True)
                    if not has_begun and lane.is_in_doubt:
                        return None
                    lane.under_way += not has_begun
                    has_begun = True
                    room = 0.0 if self.spending is None else await self.spending.admit(ask)
                    if room is None:
                        assert self.spending is not None
                        return Outcome(key=ask.key, fault=self.spending.fault(ask))
                    began = asyncio.get_running_loop().time()
                    try:
                        reply = await self.in_process.answer(ask)
                    except BackendError as exc:
                        error = exc
                        if self.spending is not None:
                            self.spending.settle(ask, room, exc)
                        if isinstance(exc, HeldUp):
                            await self._rest(ask, lane, exc)
                        elif isinstance(exc, Lost) and not exc.has_answered:
                            self._give_up(ask, lane, exc)
                    else:
                        is_late = ask.live.only_waits and began <= self.held_at
                        if is_late or began <= self.stood_at:  # nobody knows how long it lay there
                            reply = replace(reply, latency_s=None, first_token_s=None)
                        outcome = await self._keep(ask, reply, lane)
                        if self.spending is not None:
                            self.spending.settle(ask, room, reply)
                            self.in_process.tell_spent()
                        return outcome
                if not error.is_retryable:
                    # badly, but somebody is there
                    lane.has_answered |= not isinstance(error, HeldUp | Lost)
                    return _failed(ask, str(error), is_missing=not error.is_systemic)
                lane.has_failed = True
                if _is_too_much(error):
                    lane.limiter.shrink()
                asked = (error.retry_after_s or 0.0) * random.uniform(1.0, 1.25)
                pause = min(LONGEST_WAIT_S, max(asked, self.wait(attempt + 1)))
                if attempt < TRIES and (str(error), attempt) not in lane.noted:
                    what = f"try {attempt} of {TRIES}, again in {pause:.1f} s{_longer(error)}"
                    what = what if lane.has_told(error) else f"{error} ({what})"
                    lane.noted.add((str(error), attempt))  # once, not once for each in flight
                    self.progress.note(f"{ask.live.name}: {what}")
            self._give_up(ask, lane, error)
            message = f"{error} ({TRIES} tries{_longer(error)})"
            return _failed(ask, message, is_missing=not error.is_systemic)
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
        if reply.cost_usd is not None:
            self.progress.spend(reply.cost_usd)
        elif self.spending is None and ask.live.cost_hint:  # a cap says it in its refusal
            why = f"what {ask.live.name} costs is not known: {ask.live.cost_hint}"
            ask.live.tell_once(why, self.progress.note)
        elif self.spending is not None and self.spending.knows_cost(ask):
            why = (
                f"{ask.live.name}: a reply came without a cost; it counts as the dearest before it"
            )
            ask.live.tell_once(why, self.progress.note)
        await self._stored()
        lane.limiter.grow()
        if ask.key in self.earlier:  # another process was first: its reply is the one to score
            return Outcome(key=ask.key, reply=self.earlier[ask.key], is_cached=True)
        return Outcome(key=ask.key, reply=reply)

    async def _rest(self, ask: Ask, lane: _Lane, error: HeldUp) -> None:
        """Let the others have a turn after a request that held them up: the next one may, too."""
        lane.has_failed = True
        lane.limiter.limit = 1.0
        self._give_up(ask, lane, error)
        await asyncio.sleep(REST_S)

    def _give_up(self, ask: Ask, lane: _Lane, error: BackendError) -> None:
        lane.exhausted += 1
        if not lane.has_answered and lane.exhausted >= GIVE_UP_AFTER and not lane.down:
            lane.down = f"{ask.live.name} is down: {error}{_longer(error)}"
            down = f"{ask.live.name} is down" if lane.has_told(error) else lane.down
            self.progress.note(f"{down}; the other requests to it are not sent")

    async def _stored(self) -> None:
        """Wait until what arrived is stored: once for all that the loop finds arrived by then."""
        loop = asyncio.get_running_loop()
        if not self.unsaid:
            loop.call_soon(self._save_and_tell)
        mine = loop.create_future()  # of its own: one that is cancelled takes no other with it
        self.unsaid.append(mine)
        await mine

    def _save_and_tell(self) -> None:
        told, self.unsaid = self.unsaid, []
        error: Exception | None = None
        try:
            self._save()
        except Exception as exc:  # noqa: BLE001 - those who wait must hear of it, or wait forever
            error = exc
        for one in told:
            if one.cancelled():
                continue
            if error is None:
                one.set_result(None)
            else:
                one.set_exception(error)

    def _save(self) -> None:
        rows, self.unsaved = self.unsaved, []
        if not rows:
            return
        try:
            self.earlier |= self.store.add_replies(rows)
        except BaseException:  # a busy store, or a second Ctrl-C: the last save tries again
            self.unsaved = rows + self.unsaved
            raise


def _by_lane(asks: Sequence[Ask]) -> list[tuple[Iterator[Ask], int]]:
    """Return each backend's asks, and how many of them are looked after at once."""
    lanes: dict[int, list[Ask]] = {}
    for ask in asks:
        lanes.setdefault(id(ask.live), []).append(ask)
    return [
        (iter(some), min(len(some), max(AT_ONCE, 2 * some[0].live.concurrency)))
        for some in lanes.values()
    ]


def _longer(error: BackendError) -> str:
    """Return that a backend asks to be left alone for longer than anybody waits here."""
    asked_s = error.retry_after_s or 0.0
    return f"; it asks to wait {asked_s:,.0f} s" if asked_s > LONGEST_WAIT_S else ""


def _is_too_much(error: BackendError) -> bool:
    # a lost connection says nothing about how many requests the backend can take
    if error.is_overload is not None:
        return error.is_overload
    return error.retry_after_s is not None


def _failed(ask: Ask, message: str, *, is_missing: bool) -> Outcome:
    fault = Fault(origin="backend", message=message, is_missing=is_missing)
    return Outcome(key=ask.key, fault=fault)

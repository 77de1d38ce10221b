"""Has a provider's batch API answer requests, and waits for it across processes.

Knows nothing of evals or prices. What is handed in is written down before anything is waited for:
Ctrl-C or a kill loses nothing, and the next run of the same requests finds the batch and goes on
looking at it. Looks come 5 s apart at first, and a minute apart later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

from harness.engine.backends import LiveBackend
from harness.errors import BackendError, UsageError
from harness.ports.backends import BatchState
from harness.records import Fault, Reply
from harness.store.batches import (
    BatchRow,
    begin_batch,
    end_batch,
    open_batch,
    waiting_batches,
)
from harness.store.store import Store, StoredReply

if TYPE_CHECKING:
    from harness.engine.fetch import Ask, Progress

FIRST_LOOK_S = 5.0
LONGEST_LOOK_S = 60.0


def pause_s(look: int) -> float:
    """Return the seconds before look 1, 2, ... at a batch."""
    return float(min(LONGEST_LOOK_S, FIRST_LOOK_S * 1.5 ** min(look - 1, 30)))


def need_batches(lives: Iterable[LiveBackend]) -> None:
    """Raise UsageError naming the backends that take no batches."""
    without = sorted({live.name for live in lives if live.batch_size is None})
    if without:
        raise UsageError(
            f"--batch: {', '.join(without)} takes no batches (`harness plugins` lists backends). "
            "Leave out --batch, or ask only candidates whose backend has a batch API."
        )


def held_by(asks: Sequence[Ask], store: Store) -> list[tuple[BatchRow, list[Ask]]]:
    """Return the waiting batches that hold some of `asks`, and which."""
    found, left = [], {ask.key: ask for ask in asks}
    for row in waiting_batches(store) if asks else ():
        mine = [left.pop(key) for key in row.keys if key in left]
        if mine:
            found.append((row, mine))
    return found


@dataclass(slots=True, kw_only=True)
class Batches:
    """The batches of one fetch. `pause` gives the seconds before each look; `paid` is told of each
    new reply.
    """

    store: Store
    progress: Progress
    paid: Callable[[Reply], None]
    pause: Callable[[int], float] = pause_s
    replies: dict[str, Reply] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)

    async def all(
        self, asks: Sequence[Ask], held: Sequence[tuple[BatchRow, Sequence[Ask]]]
    ) -> None:
        """Wait for the batches in `held`, hand in the other `asks`, and wait for these."""
        counts: dict[str, int] = {}
        for ask in [*asks, *(a for _, some in held for a in some)]:
            counts[ask.live.name] = counts.get(ask.live.name, 0) + 1
        for name, total in counts.items():
            self.progress.begin(name, total)
        async with asyncio.TaskGroup() as group:
            for row, some in held:
                self.progress.note(
                    f"{row.backend}: waiting for batch {row.id} of {len(row.keys)} requests, "
                    f"handed in at {row.at}"
                )
                group.create_task(self._wait(row.seq, row.id, some))
            for some in _portions(asks):
                group.create_task(self._hand_in(some))

    async def _hand_in(self, asks: Sequence[Ask]) -> None:
        live, at = asks[0].live, datetime.now(UTC).isoformat(timespec="seconds")
        seq = begin_batch(self.store, backend=live.name, keys=[a.key for a in asks], at=at)
        try:
            name = await live.submit_batch({a.key: a.request for a in asks})
        except BackendError as exc:  # no second try: the first may have arrived, and costs
            end_batch(self.store, seq, state="unknown")
            self._lose(asks, f"the batch could not be handed in: {exc}")
            return
        open_batch(self.store, seq, id=name)
        self.progress.note(
            f"{live.name}: batch {name} of {len(asks)} requests is handed in. It may take hours: "
            "Ctrl-C loses nothing, and the same command goes on waiting for it"
        )
        await asyncio.sleep(self.pause(1))
        await self._wait(seq, name, asks)

    async def _wait(self, seq: int, name: str, asks: Sequence[Ask]) -> None:
        live, look, said = asks[0].live, 1, ""
        left = {ask.key: ask for ask in asks}
        while True:
            try:
                state = await live.collect_batch(name)
            except BackendError as exc:
                if not exc.is_retryable:
                    self._lose(list(left.values()), f"batch {name} cannot be collected: {exc}")
                    return  # it stays open: a wrong key today is no reason to pay twice
                if str(exc) != said:
                    said = str(exc)
                    self.progress.note(f"{live.name}: batch {name}: {said}; looking again")
            else:
                self._take(state, left)
                if state.is_done:
                    self._lose(list(left.values()), f"batch {name} ended without an answer to it")
                    end_batch(self.store, seq, state="done")
                    return
            look += 1
            await asyncio.sleep(self.pause(look))

    def _take(self, state: BatchState, left: dict[str, Ask]) -> None:
        """Store what is new in `state`, and take it off `left`."""
        new = {k: r for k, r in state.replies.items() if k in left}
        rows = [
            StoredReply(key=k, request=left[k].request, reply=r, backend=left[k].live.name)
            for k, r in new.items()
        ]
        # another process may have stored one first: that one stands
        self.replies |= new | (self.store.add_replies(rows) if rows else {})
        for key, reply in new.items():
            self.paid(reply)
            self.progress.advance(left.pop(key).live.name)
        for key, error in state.errors.items():
            if key in left:
                self._lose([left.pop(key)], str(error), is_missing=not error.is_systemic)

    def _lose(self, asks: Sequence[Ask], message: str, *, is_missing: bool = True) -> None:
        for ask in asks:
            self.faults[ask.key] = Fault(origin="backend", message=message, is_missing=is_missing)
            self.progress.advance(ask.live.name, is_reply=False)


def settle_interrupted(store: Store, progress: Progress) -> None:
    """Give up the batches at whose handing in a process died: nobody knows their ids."""
    for row in waiting_batches(store):
        if row.state == "submitting":
            end_batch(store, row.seq, state="unknown")
            progress.note(
                f"{row.backend}: a run was killed while it handed in {len(row.keys)} requests at "
                f"{row.at}. They are handed in again: cancel the first batch if the provider has it"
            )


def _portions(asks: Sequence[Ask]) -> Iterator[Sequence[Ask]]:
    """Yield what makes one batch: the asks of one backend, at most as many as it takes."""
    for _, group in groupby(sorted(asks, key=lambda a: id(a.live)), key=lambda a: id(a.live)):
        some = list(group)
        size = some[0].live.batch_size or len(some)
        for start in range(0, len(some), size):
            yield some[start : start + size]

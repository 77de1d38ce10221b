from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import BatchState
from harness.engine.backends import describe
from harness.engine.batches import pause_s
from harness.engine.fetch import Ask, Outcome, fetch
from harness.engine.spending import Spending
from harness.errors import BackendError, StoreError, UsageError
from harness.records import Message, Reply, Request
from harness.store.batches import begin_batch, waiting_batches
from harness.store.store import Store
from harness.testing import ScriptedBackend, temporary_store
from tests.engine.test_fetch import Told, at_once


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with temporary_store(tmp_path) as opened:
        yield opened


class Provider:
    """Keeps batches as a provider does; each is done after `looks` looks at it."""

    is_external = True

    def __init__(self, *, looks: int = 1, size: int = 10_000, cost: float = 0.005) -> None:
        self.looks, self.batch_size, self.cost = looks, size, cost
        self.batches: dict[str, Mapping[str, Request]] = {}
        self.looked: dict[str, int] = {}
        self.answered = 0
        self.troubles: list[BaseException] = []
        self.bad: dict[str, BackendError] = {}
        self.loses: set[str] = set()

    async def answer(self, request: Request) -> Reply:
        self.answered += 1
        return Reply(text="at once", cost_usd=2 * self.cost)

    def submit_batch(self, requests: Mapping[str, Request]) -> str:
        name = f"batch-{len(self.batches) + 1}"
        self.batches[name] = dict(requests)
        return name

    async def collect_batch(self, batch_id: str) -> BatchState:
        if self.troubles:
            raise self.troubles.pop(0)
        self.looked[batch_id] = self.looked.get(batch_id, 0) + 1
        named = self.batches[batch_id]
        if self.looked[batch_id] < self.looks:
            return BatchState(is_done=False, total=len(named), done=0)
        said = {name: r.messages[-1].content for name, r in named.items()}
        return BatchState(
            is_done=True,
            total=len(named),
            done=len(named),
            replies={
                name: Reply(text=f"re: {text}", cost_usd=self.cost)
                for name, text in said.items()
                if text not in self.bad and text not in self.loses
            },
            errors={name: self.bad[text] for name, text in said.items() if text in self.bad},
        )


def asks(backend: Any, n: int, *, name: str = "p:m") -> list[Ask]:
    live = describe(backend, name=name)
    requests = [Request(messages=(Message(role="user", content=f"q{k}"),)) for k in range(n)]
    return [Ask(key=live.key(r, base_url=None, repeat=0), request=r, live=live) for r in requests]


def hand_in(
    store: Store, some: list[Ask], told: Told | None = None, **more: Any
) -> dict[str, Outcome]:
    options: dict[str, Any] = {"is_batch": True, "pause": at_once} | more
    return fetch(some, store=store, progress=told or Told(), **options)


def test_a_batch_answers_and_its_replies_are_those_of_any_other_run(store: Store) -> None:
    told, backend = Told(), Provider(looks=3)
    found = hand_in(store, asks(backend, 20), told)
    assert [o.reply.text for o in found.values() if o.reply] == [f"re: q{k}" for k in range(20)]
    assert (backend.answered, list(backend.looked.values())) == (0, [3])
    assert told.begun == [("p:m", 20)]
    assert told.advanced["p:m"] == 20
    assert sum(told.spent) == pytest.approx(0.1)
    assert "batch batch-1 of 20 requests is handed in" in told.notes[0]
    again = fetch(asks(backend, 20), store=store, progress=Told())
    assert all(o.is_cached for o in again.values())
    assert waiting_batches(store) == []


def test_no_batch_is_larger_than_the_provider_takes(store: Store) -> None:
    backend = Provider(size=8)
    hand_in(store, asks(backend, 20))
    assert [len(b) for b in backend.batches.values()] == [8, 8, 4]


def test_who_takes_no_batches_is_named(store: Store) -> None:
    some = asks(Provider(), 2) + asks(ScriptedBackend([]), 2, name="local:tiny")
    with pytest.raises(UsageError, match="--batch: local:tiny takes no batches"):
        hand_in(store, some)
    assert waiting_batches(store) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), StoreError("the disk is full")])
def test_a_stop_while_waiting_loses_nothing_and_the_next_run_hands_in_only_what_is_new(
    store: Store, stop: BaseException
) -> None:
    backend = Provider()
    backend.troubles = [stop]
    with pytest.raises(type(stop)):
        hand_in(store, asks(backend, 12))
    [waiting] = waiting_batches(store)
    assert (waiting.id, waiting.state, len(waiting.keys)) == ("batch-1", "open", 12)
    told = Told()
    found = hand_in(store, asks(backend, 15), told)
    assert all(o.reply for o in found.values())
    assert [len(b) for b in backend.batches.values()] == [12, 3]
    assert told.notes[0].startswith("p:m: waiting for batch batch-1 of 12 requests")


def test_without_batch_an_open_one_is_told_of(store: Store) -> None:
    backend = Provider()
    backend.troubles = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        hand_in(store, asks(backend, 12))
    told = Told()
    fetch(asks(backend, 3), store=store, progress=told)
    [note] = told.notes
    assert note == (
        "3 of these requests wait in batch batch-1 of p:m: they are asked again, and paid twice; "
        "--batch waits for it instead"
    )


def test_trouble_that_may_pass_is_told_once_and_looked_past(store: Store) -> None:
    told, backend = Told(), Provider()
    backend.troubles = [BackendError("HTTP 503", is_retryable=True) for _ in range(3)]
    found = hand_in(store, asks(backend, 4), told)
    assert all(o.reply for o in found.values())
    assert [n for n in told.notes if "503" in n] == ["p:m: batch batch-1: HTTP 503; looking again"]


def test_a_refused_look_leaves_the_batch_open_for_the_next_run(store: Store) -> None:
    """A wrong key today is no reason to hand in, and pay, again."""
    backend = Provider()
    backend.troubles = [BackendError("HTTP 401")]
    faults = [o.fault for o in hand_in(store, asks(backend, 4)).values()]
    assert [f.message for f in faults if f] == ["batch batch-1 cannot be collected: HTTP 401"] * 4
    found = hand_in(store, asks(backend, 4))
    assert all(o.reply for o in found.values())
    assert len(backend.batches) == 1


def test_errors_are_faults_of_their_case_and_only_these_are_handed_in_again(store: Store) -> None:
    backend = Provider()
    backend.bad = {
        "q1": BackendError("content filter", is_systemic=True),
        "q2": BackendError("expired", is_retryable=True),
    }
    backend.loses = {"q3"}
    some = asks(backend, 6)
    found = hand_in(store, some)
    faults = [f for a in some if (f := found[a.key].fault)]
    assert [(f.message, f.is_missing) for f in faults] == [
        ("content filter", False),
        ("expired", True),
        ("batch batch-1 ended without an answer to it", True),
    ]
    backend.bad, backend.loses = {}, set()
    assert all(o.reply for o in hand_in(store, asks(backend, 6)).values())
    assert [len(b) for b in backend.batches.values()] == [6, 3]


def test_a_batch_that_is_refused_is_a_fault_and_is_not_handed_in_twice(store: Store) -> None:
    class Refuses(Provider):
        def submit_batch(self, requests: Mapping[str, Request]) -> str:
            super().submit_batch(requests)
            raise BackendError("lost on the way", is_retryable=True)

    backend = Refuses()
    faults = [o.fault for o in hand_in(store, asks(backend, 3)).values()]
    assert {f.message for f in faults if f} == {"the batch could not be handed in: lost on the way"}
    assert all(f.is_missing for f in faults if f)
    assert len(backend.batches) == 1


def test_a_run_that_died_while_handing_in_is_told_and_what_it_held_is_handed_in(
    store: Store,
) -> None:
    told, backend = Told(), Provider()
    some = asks(backend, 3)
    begin_batch(store, backend="p:m", keys=[a.key for a in some], at="2026-01-01")
    found = hand_in(store, some, told)
    assert all(o.reply for o in found.values())
    assert "a run was killed while it handed in 3 requests at 2026-01-01" in told.notes[0]


@pytest.mark.parametrize(
    ("name", "returns", "why"),
    [
        ("submit_batch", 7, "submit_batch returned 7, not an id"),
        ("submit_batch", "", "submit_batch returned '', not an id"),
        ("collect_batch", None, "collect_batch returned a NoneType"),
    ],
)
def test_what_a_stranger_returns_is_checked(
    store: Store, name: str, returns: Any, why: str
) -> None:
    backend = Provider()
    setattr(backend, name, lambda _: returns)
    faults = [o.fault for o in hand_in(store, asks(backend, 2)).values()]
    assert all(f and why in f.message for f in faults)


def test_a_reply_that_cannot_be_stored_is_a_fault_of_its_case(store: Store) -> None:
    class Odd(Provider):
        async def collect_batch(self, batch_id: str) -> BatchState:
            names = list(self.batches[batch_id])
            replies: Any = {names[0]: "text", names[1]: Reply(text="x")}
            return BatchState(is_done=True, total=2, done=2, replies=replies)

    some = asks(Odd(), 2)
    found = hand_in(store, some)
    fault = found[some[0].key].fault
    assert fault is not None
    assert "answered a str, not a Reply" in fault.message
    assert found[some[1].key].reply == Reply(text="x")


@pytest.mark.parametrize(("cap", "is_handed_in"), [(0.5, False), (5.0, True)])
def test_with_a_cap_the_pilot_is_asked_at_once_and_the_upper_end_must_fit(
    store: Store, cap: float, is_handed_in: bool
) -> None:
    backend = Provider()
    spending = Spending(cap_usd=cap)
    call: Callable[[], Any] = lambda: hand_in(store, asks(backend, 100), spending=spending)  # noqa: E731
    if is_handed_in:
        call()
        assert spending.spent_usd == pytest.approx(10 * 0.01 + 90 * 0.005)
    else:
        with pytest.raises(UsageError, match="--max-cost is"):
            call()
    assert backend.answered == 10
    assert [len(b) for b in backend.batches.values()] == ([90] if is_handed_in else [])


def test_looks_come_five_seconds_apart_at_first_and_a_minute_later() -> None:
    waits = [pause_s(n) for n in range(1, 60)]
    assert waits[0] == 5
    assert waits == sorted(waits)
    assert waits[-1] == 60

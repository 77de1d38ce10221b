from __future__ import annotations

import asyncio
import itertools
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.engine import lanes
from harness.engine.backends import LiveBackend, describe
from harness.engine.fetch import Ask, Outcome, Silence, fetch
from harness.engine.lanes import TRIES
from harness.errors import BackendError, StoreError, UsageError
from harness.records import Message, Reply, Request
from harness.store.store import Store
from harness.testing import ScriptedBackend, temporary_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with temporary_store(tmp_path) as opened:
        yield opened


def asks(backend: Any, n: int, *, first: int = 0, name: str = "s:m") -> list[Ask]:
    """Return `n` asks of one backend, whose messages are q0, q1, ..."""
    live = backend if isinstance(backend, LiveBackend) else describe(backend, name=name)
    requests = [
        Request(messages=(Message(role="user", content=f"q{k}"),)) for k in range(first, first + n)
    ]
    return [Ask(key=live.key(r, base_url=None, repeat=0), request=r, live=live) for r in requests]


def echo(request: Request) -> str:
    return f"re: {request.messages[-1].content}"


class Told:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.advanced: Counter[str] = Counter()
        self.got = 0
        self.notes: list[str] = []
        self.spent: list[float] = []

    def begin(self, backend: str, total: int) -> None:
        self.begun.append((backend, total))

    def advance(self, backend: str, *, is_reply: bool = True) -> None:
        self.advanced[backend] += 1
        self.got += is_reply

    def spend(self, cost_usd: float) -> None:
        self.spent.append(cost_usd)

    def note(self, text: str) -> None:
        self.notes.append(text)


def at_once(attempt: int) -> float:
    return 0.0


def ask_for(store: Store, some: list[Ask], told: Any = None, **options: Any) -> dict[str, Outcome]:
    return fetch(some, store=store, progress=told or Silence(), wait=at_once, **options)


# ---------------------------------------------------------------- known and unknown


def test_what_is_stored_is_not_asked_again(store: Store) -> None:
    backend = ScriptedBackend(echo)
    first = ask_for(store, asks(backend, 3))
    again = ask_for(store, asks(backend, 5))
    assert len(backend.requests) == 5
    assert [o.is_cached for o in first.values()] == [False] * 3
    assert Counter(o.is_cached for o in again.values()) == {True: 3, False: 2}
    assert {o.reply.text for o in again.values() if o.reply} == {f"re: q{k}" for k in range(5)}


def test_equal_keys_are_asked_once(store: Store) -> None:
    backend = ScriptedBackend(echo)
    ask_for(store, asks(backend, 4) * 3)
    assert len(backend.requests) == 4


def test_offline_asks_nobody_and_says_what_is_missing(store: Store) -> None:
    backend = ScriptedBackend(echo)
    ask_for(store, asks(backend, 2))
    found = ask_for(store, asks(backend, 4), is_offline=True)
    faults = [o.fault for o in found.values() if o.fault]
    assert len(backend.requests) == 2
    assert [f.message for f in faults] == ["no recorded reply (run without --offline)"] * 2
    assert all(f.is_missing and f.origin == "harness" for f in faults)


def test_the_reply_that_another_process_stored_first_is_the_one_that_is_given(
    store: Store,
) -> None:
    """So that a score and the reply that its key finds are always the same."""

    def answer(request: Request) -> str:
        [rival] = asks(ScriptedBackend(lambda r: "theirs"), 1)
        ask_for(store, [rival])
        return "ours"

    class Plain:
        def answer(self, request: Request) -> Reply:
            return Reply(text=answer(request))

    [ask] = asks(Plain(), 1)
    outcome = ask_for(store, [ask])[ask.key]
    assert outcome.reply is not None
    assert outcome.reply.text == "theirs"
    assert store.known_replies([ask.key])[ask.key].text == "theirs"


# ---------------------------------------------------------------- how many at once


def test_two_hundred_requests_reach_thirty_two_in_flight(store: Store) -> None:
    backend = ScriptedBackend(echo, latency_s=0.003, concurrency=32)
    found = ask_for(store, asks(backend, 200))
    assert backend.max_in_flight == 32
    assert sum(o.reply is not None for o in found.values()) == 200


@pytest.mark.parametrize("concurrency", [1, 7, 32])
def test_in_flight_reaches_what_the_backend_likes_and_no_more(
    store: Store, concurrency: int
) -> None:
    backend = ScriptedBackend(echo, latency_s=0.005, concurrency=concurrency)
    ask_for(store, asks(backend, 80))
    assert backend.max_in_flight == concurrency


def test_two_backends_are_asked_at_once(store: Store) -> None:
    """One waits for the other: were they asked in turn, this would be a time-out."""
    met = asyncio.Event()

    async def waits(request: Request) -> str:
        await asyncio.wait_for(met.wait(), 5)
        return "met"

    def comes(request: Request) -> str:
        met.set()
        return "came"

    some = asks(ScriptedBackend(waits), 1, name="a:m") + asks(ScriptedBackend(comes), 1, name="b:m")
    assert [o.reply.text for o in ask_for(store, some).values() if o.reply] == ["met", "came"]


def test_a_plain_def_answers_in_as_many_threads_as_it_likes(store: Store) -> None:
    """A barrier that only opens once all of them wait at it."""
    barrier = threading.Barrier(12)

    class Plain:
        concurrency = 12

        def answer(self, request: Request) -> Reply:
            barrier.wait(10)
            return Reply(text="x")

    found = ask_for(store, asks(Plain(), 24))
    assert all(o.reply for o in found.values())


# ---------------------------------------------------------------- retries


def busy(times: int, **error: Any) -> Callable[[Request], str]:
    """A script that refuses each request `times` times and then answers."""
    seen: Counter[str] = Counter()

    def answer(request: Request) -> str:
        name = request.messages[-1].content
        seen[name] += 1
        if seen[name] <= times:
            raise BackendError("429 slow down", is_retryable=True, **error)
        return "at last"

    return answer


def test_what_may_pass_is_tried_again_and_told(store: Store) -> None:
    told = Told()
    backend = ScriptedBackend(busy(TRIES - 1))
    found = ask_for(store, asks(backend, 1), told)
    assert [o.reply.text for o in found.values() if o.reply] == ["at last"]
    assert len(backend.requests) == TRIES
    assert told.notes == [
        "s:m: 429 slow down (try 1 of 4, again in 0.0 s)",
        "s:m: try 2 of 4, again in 0.0 s",
        "s:m: try 3 of 4, again in 0.0 s",
    ]


def test_retries_are_bounded_and_the_fault_is_missing_not_failed(store: Store) -> None:
    told = Told()
    backend = ScriptedBackend(busy(99))
    [outcome] = ask_for(store, asks(backend, 1), told).values()
    assert len(backend.requests) == TRIES
    assert outcome.fault is not None
    assert outcome.fault.message == "429 slow down (4 tries)"
    assert outcome.fault.is_missing
    assert len(told.notes) == TRIES - 1
    assert told.advanced["s:m"] == 1


def test_what_cannot_pass_is_not_tried_again(store: Store) -> None:
    def answer(request: Request) -> str:
        raise BackendError("context overflow", is_systemic=True)

    backend = ScriptedBackend(answer)
    [outcome] = ask_for(store, asks(backend, 1)).values()
    assert len(backend.requests) == 1
    assert outcome.fault is not None
    assert (outcome.fault.message, outcome.fault.is_missing) == ("context overflow", False)


def test_a_rate_limit_shrinks_what_is_in_flight(store: Store) -> None:
    """A server that takes two at a time: what it refuses is soon less than what it answers."""
    refused = 0
    backend: ScriptedBackend

    def answer(request: Request) -> str:
        nonlocal refused
        if backend.in_flight > 2:
            refused += 1
            raise BackendError("429", is_retryable=True, is_overload=True)
        return "ok"

    backend = ScriptedBackend(answer, latency_s=0.003, concurrency=16)
    found = fetch(asks(backend, 60), store=store, progress=Silence(), wait=lambda n: 0.02 * n)
    in_flight_first = backend.max_in_flight
    assert in_flight_first == 16
    assert sum(o.reply is not None for o in found.values()) >= 55
    assert refused < 60


@pytest.mark.parametrize(
    ("error", "is_too_much"),
    [
        ({}, False),  # a lost connection says nothing about how much is too much
        ({"is_overload": False, "retry_after_s": 0.01}, False),
        ({"retry_after_s": 0.01}, True),
        ({"is_overload": True}, True),
    ],
)
def test_only_what_says_too_much_makes_the_engine_send_less(
    store: Store, error: dict[str, Any], is_too_much: bool
) -> None:
    come, most = 0, 0
    backend: ScriptedBackend

    def answer(request: Request) -> str:
        nonlocal come, most
        come += 1
        if come <= 16:  # all that were in flight at first
            raise BackendError("not now", is_retryable=True, **error)
        most = max(most, backend.in_flight)
        return "ok"

    backend = ScriptedBackend(answer, latency_s=0.02, concurrency=16)
    found = fetch(asks(backend, 48), store=store, progress=Silence(), wait=lambda n: 0.001)
    assert all(o.reply for o in found.values())
    assert most <= 13 if is_too_much else most == 16  # from 8 it grows by one a round of replies


def test_retry_after_is_honoured(store: Store) -> None:
    begun = time.monotonic()
    ask_for(store, asks(ScriptedBackend(busy(1, retry_after_s=0.2)), 1))
    assert time.monotonic() - begun >= 0.2


def test_those_that_were_told_the_same_wait_do_not_come_back_together(store: Store) -> None:
    seen: Counter[str] = Counter()
    came: list[float] = []

    def answer(request: Request) -> str:
        seen[request.messages[-1].content] += 1
        if seen[request.messages[-1].content] == 1:
            raise BackendError("429", is_retryable=True, retry_after_s=0.4)
        came.append(time.monotonic())
        return "at last"

    ask_for(store, asks(ScriptedBackend(answer, concurrency=8), 8))
    assert max(came) - min(came) > 0.02


def test_no_answer_in_time_is_the_systems_own_failure_even_where_it_was_tried_again(
    store: Store,
) -> None:
    def answer(request: Request) -> str:
        raise BackendError("no answer within 1 s", is_systemic=True, is_retryable=True)

    [outcome] = ask_for(store, asks(ScriptedBackend(answer), 1)).values()
    assert outcome.fault is not None
    assert (outcome.fault.message, outcome.fault.is_missing) == (
        "no answer within 1 s (4 tries)",
        False,
    )


def test_retry_after_has_a_ceiling(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "LONGEST_WAIT_S", 0.05)
    begun = time.monotonic()
    ask_for(store, asks(ScriptedBackend(busy(1, retry_after_s=3600)), 1))
    assert 0.05 <= time.monotonic() - begun < 10


def test_a_wait_that_is_longer_than_anybody_waits_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "LONGEST_WAIT_S", 0.01)
    told = Told()
    backend = ScriptedBackend(busy(9, retry_after_s=3600))
    found = ask_for(store, asks(backend, 4), told)
    messages = {o.fault.message for o in found.values() if o.fault}
    assert any(m.endswith("(4 tries; it asks to wait 3,600 s)") for m in messages), messages
    assert told.notes[0].endswith("(try 1 of 4, again in 0.0 s; it asks to wait 3,600 s)")
    assert any("is down: " in m and m.endswith("; it asks to wait 3,600 s") for m in messages)


def test_waits_grow_with_jitter_and_stay_below_the_ceiling() -> None:
    for attempt, middle in [(2, 0.5), (3, 1.0), (4, 2.0)]:
        waits = [lanes.backoff(attempt) for _ in range(200)]
        assert middle / 2 <= min(waits) < max(waits) <= middle * 1.5
    assert lanes.backoff(40) <= 1.5 * lanes.LONGEST_WAIT_S


# ---------------------------------------------------------------- a backend that is down


def test_a_backend_that_never_answered_is_given_up_early(store: Store) -> None:
    def answer(request: Request) -> str:
        raise BackendError("connection refused", is_retryable=True)

    told = Told()
    backend = ScriptedBackend(answer, concurrency=8)
    found = ask_for(store, asks(backend, 100), told)
    faults = [o.fault for o in found.values() if o.fault]
    assert len(faults) == 100
    assert all(f.is_missing for f in faults)
    assert len(backend.requests) <= 8 * TRIES
    assert "s:m is down: connection refused" in {f.message for f in faults}
    assert told.notes[-1] == "s:m is down; the other requests to it are not sent"
    assert sum("connection refused" in note for note in told.notes) == 1
    assert told.advanced["s:m"] == 100


def test_a_backend_that_answered_once_is_not_given_up(store: Store) -> None:
    def answer(request: Request) -> str:
        if request.messages[-1].content in {"q0", "q30"}:
            return "here"
        raise BackendError("connection refused", is_retryable=True)

    backend = ScriptedBackend(answer, concurrency=1)
    found = ask_for(store, asks(backend, 31))
    assert sum(o.reply is not None for o in found.values()) == 2


@pytest.mark.parametrize("last", ["answers", "fails for good", "is retried in vain"])
def test_doubt_about_a_backend_ends_whatever_the_first_requests_come_to(
    store: Store, last: str
) -> None:
    """The requests that wait for the first few are never forgotten."""
    seen: Counter[str] = Counter()

    def answer(request: Request) -> str:
        name = request.messages[-1].content
        seen[name] += 1
        is_first = name in list(seen)[:2]
        if is_first and (seen[name] == 1 or last == "is retried in vain"):
            raise BackendError("try later", is_retryable=True)
        if is_first and last == "fails for good":
            raise BackendError("context overflow", is_systemic=True)
        return "here"

    found = ask_for(store, asks(ScriptedBackend(answer, concurrency=2), 50))
    assert len(seen) == 50
    assert sum(o.reply is not None for o in found.values()) == (50 if last == "answers" else 48)


def test_a_backend_that_is_down_does_not_stop_another(store: Store) -> None:
    def answer(request: Request) -> str:
        raise BackendError("connection refused", is_retryable=True)

    some = asks(ScriptedBackend(answer), 20, name="down:m")
    some += asks(ScriptedBackend(echo), 20, name="up:m")
    found = ask_for(store, some)
    assert sum(o.reply is not None for o in found.values()) == 20


# ---------------------------------------------------------------- faults


def test_a_strangers_exception_is_a_fault_of_its_case_alone(store: Store) -> None:
    def answer(request: Request) -> str:
        if request.messages[-1].content == "q2":
            raise KeyError("boom")
        return "fine"

    some = asks(ScriptedBackend(answer), 5)
    found = ask_for(store, some)
    fault = found[some[2].key].fault
    assert fault is not None
    assert fault.message == "s:m: KeyError: 'boom'"
    assert sum(o.reply is not None for o in found.values()) == 4


def test_a_usage_error_stops_the_run_and_keeps_what_was_answered(store: Store) -> None:
    async def answer(request: Request) -> str:
        if request.messages[-1].content == "q9":
            await asyncio.sleep(0.05)
            raise UsageError("no key in OPENAI_API_KEY")
        return "fine"

    some = asks(ScriptedBackend(answer, concurrency=10), 10)
    with pytest.raises(UsageError, match="no key in OPENAI_API_KEY"):
        ask_for(store, some)
    assert len(store.known_replies([a.key for a in some])) == 9


def test_a_store_that_fails_stops_the_run_instead_of_asking_on_unsaved(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replies cost money: none is fetched that cannot be kept."""
    backend = ScriptedBackend(echo, latency_s=0.02, concurrency=1)

    def full(rows: object) -> dict[str, Reply]:
        raise StoreError("the disk is full")

    monkeypatch.setattr(store, "add_replies", full)
    with pytest.raises(StoreError, match="disk is full"):
        ask_for(store, asks(backend, 500))
    assert len(backend.requests) <= 2  # the next one had its turn when the first one fell


def test_a_store_that_was_busy_once_loses_no_reply(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = store.add_replies
    fails = iter([True])

    def busy_once(rows: Any) -> dict[str, Reply]:
        if next(fails, False):
            raise StoreError("the store is locked")
        return add(rows)

    monkeypatch.setattr(store, "add_replies", busy_once)
    some = asks(ScriptedBackend(echo, latency_s=0.03, concurrency=2), 8)
    with pytest.raises(StoreError):
        ask_for(store, some)
    assert len(store.known_replies([a.key for a in some])) >= 2


# ---------------------------------------------------------------- Ctrl-C


@pytest.mark.parametrize("is_async", [True, False])
def test_ctrl_c_keeps_every_reply_that_arrived(store: Store, is_async: bool) -> None:
    """And does not wait for a plain `def` that is still busy."""
    release = threading.Event()
    number = itertools.count(1)

    def answer_at_once(n: int) -> bool:
        if n == 9:
            time.sleep(0.05)  # so that the six have arrived
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return n <= 6

    class Plain:
        concurrency = 4

        def answer(self, request: Request) -> Reply:
            if not answer_at_once(next(number)):
                release.wait(30)
            return Reply(text="x")

    class Awaits:
        concurrency = 4

        async def answer(self, request: Request) -> Reply:
            if not answer_at_once(next(number)):
                await asyncio.sleep(30)
            return Reply(text="x")

    some = asks(Awaits() if is_async else Plain(), 40)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ask_for(store, some)
    spent = time.monotonic() - begun
    release.set()
    assert spent < 10
    assert len(store.known_replies([a.key for a in some])) == 6


def test_replies_are_stored_while_others_are_on_their_way(store: Store) -> None:
    """So that a kill loses only what was in flight."""
    some: list[Ask] = []
    arrived: list[Request] = []
    seen = []

    async def answer(request: Request) -> str:
        arrived.append(request)
        if len(arrived) == 6:
            await asyncio.sleep(0.1)
            seen.append(len(store.known_replies([a.key for a in some])))
        return "x"

    some += asks(ScriptedBackend(answer, concurrency=1), 6)
    ask_for(store, some)
    assert seen == [5]


def test_no_more_is_ever_unsaved_than_is_in_flight(store: Store) -> None:
    """A kill -9 at any moment loses at most what was in flight, however fast replies come."""
    some: list[Ask] = []
    number = itertools.count()
    unsaved = []

    async def answer(request: Request) -> str:
        sent = next(number) + 1
        if sent % 20 == 0:  # here the process might be killed
            unsaved.append(sent - len(store.known_replies([a.key for a in some])))
        await asyncio.sleep(0.001 * (sent % 3))
        return "x"

    some += asks(ScriptedBackend(answer, concurrency=8), 400)
    ask_for(store, some)
    assert len(unsaved) == 20
    assert max(unsaved) <= 8


def test_progress_is_told_of_every_request_whatever_came_of_it(store: Store) -> None:
    told = Told()
    some = asks(ScriptedBackend(["a", KeyError("b"), BackendError("c"), "d"]), 4)
    ask_for(store, some, told)
    assert told.begun == [("s:m", 4)]
    assert told.advanced == {"s:m": 4}


def test_one_that_is_cancelled_while_its_reply_is_stored_takes_no_other_with_it(
    store: Store,
) -> None:
    made = lanes.Lanes(store=store, progress=Silence(), wait=at_once)

    async def three() -> list[object]:
        tasks = [asyncio.create_task(made._stored()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)

    lost, *others = asyncio.run(three())
    assert isinstance(lost, asyncio.CancelledError)
    assert others == [None, None]

"""Requests on their way move on only while somebody asks for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.engine import sending
from harness.engine.fetch import Silence
from harness.engine.sending import Sending, send
from harness.errors import UsageError
from harness.records import Reply, Request
from harness.store.store import Store
from harness.testing import temporary_store
from tests.engine.test_fetch import asks


class Teller:
    """Says when each request came, and answers after 5 ms."""

    concurrency = 4

    def __init__(self) -> None:
        self.came: list[str] = []

    async def answer(self, request: Request) -> Reply:
        text = request.messages[-1].content
        self.came.append(text)
        began = time.perf_counter()
        await asyncio.sleep(0.005)
        took = time.perf_counter() - began
        return Reply(text=text, latency_s=took, first_token_s=took)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with temporary_store(tmp_path) as opened:
        yield opened


def begin(teller: Teller, store: Store, n: int = 20) -> tuple[Sending, list[str]]:
    some = asks(teller, n)
    return send(some, {}, store=store, progress=Silence()), [ask.key for ask in some]


def test_an_outcome_comes_before_the_later_requests_are_sent(store: Store) -> None:
    teller = Teller()
    on_the_way, keys = begin(teller, store)
    with closing(on_the_way):
        assert teller.came == []
        assert on_the_way.outcome(keys[0]).reply is not None
        assert 4 <= len(teller.came) < 12
        assert keys[0] in store.known_replies(keys), "stored before anybody hears of it"
        assert set(on_the_way.finish()) == set(keys)
    assert teller.came == [f"q{n}" for n in range(20)]


def test_held_from_the_beginning_what_may_be_in_flight_at_once_goes_out(store: Store) -> None:
    teller = Teller()
    on_the_way, keys = begin(teller, store)
    with closing(on_the_way):
        on_the_way.hold()
        assert on_the_way.outcome(keys[3]).reply is not None
        assert on_the_way.settle(5)
        assert (len(teller.came), on_the_way.is_settled) == (4, True)
        assert on_the_way.outcome(keys[4]).reply is not None, "who needs one need not release it"
        assert len(teller.came) > 4


def test_settled_nothing_is_on_its_way_until_it_goes_on(store: Store) -> None:
    teller = Teller()
    on_the_way, keys = begin(teller, store)
    with closing(on_the_way):
        on_the_way.outcome(keys[0])
        assert on_the_way.settle(5)
        sent = len(teller.came)
        known = store.known_replies(keys)
        assert len(known) == sent, "each that was sent has its reply"
        on_the_way.turn()
        assert (len(teller.came), on_the_way.is_settled) == (sent, True)
        on_the_way.go_on()
        on_the_way.turn()
        assert len(teller.came) == sent + 4
        assert on_the_way.settle(5)
        assert on_the_way.outcome(keys[19]).reply is not None, "who needs one need not release it"
        assert not on_the_way.is_settled


def test_who_waits_for_one_reply_waits_no_longer_than_it_said(store: Store) -> None:
    teller = Teller()
    on_the_way, keys = begin(teller, store)
    with closing(on_the_way):
        on_the_way.hold()
        assert not on_the_way.comes_within(keys[0], 0.0)
        assert not on_the_way.settle(0.0)
        assert on_the_way.comes_within(keys[0], 5.0)
        assert set(on_the_way.finish()) == set(keys)


def test_replies_that_lay_there_while_it_stood_still_have_no_latency(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "LONG_S", 0.25)  # of a busy machine
    teller = Teller()
    on_the_way, keys = begin(teller, store)
    with closing(on_the_way):
        on_the_way.outcome(keys[0])
        in_flight = set(teller.came) - {f"q{n}" for n in range(len(store.known_replies(keys)))}
        time.sleep(0.3)
        found = on_the_way.finish()
    unknown = {o.reply.text for o in found.values() if o.reply and o.reply.latency_s is None}
    assert unknown == in_flight
    assert all(o.reply and (o.reply.first_token_s is None) == (o.reply.latency_s is None)
               for o in found.values())  # fmt: skip


def test_closed_it_keeps_what_arrived_and_sends_no_more(store: Store) -> None:
    teller = Teller()
    on_the_way, keys = begin(teller, store)
    with closing(on_the_way):
        on_the_way.outcome(keys[5])
    sent = len(teller.came)
    assert 6 <= sent < 20
    assert len(store.known_replies(keys)) >= 6
    again, _ = begin(teller, store)
    again.close()
    assert len(teller.came) == sent, "closed before it began"


def test_an_error_that_ends_it_is_told_to_whoever_asks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Store, rows: object) -> None:
        raise UsageError("the disk is full")

    monkeypatch.setattr(Store, "add_replies", full)
    on_the_way, keys = begin(Teller(), store)
    with closing(on_the_way):
        for ask in (lambda: on_the_way.outcome(keys[0]), on_the_way.turn, on_the_way.finish):
            with pytest.raises(UsageError, match="disk is full"):
                ask()

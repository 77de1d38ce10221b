"""What is asked of a backend before a first request: whether it can send, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import BackendConfig, BackendError, Message, Reply, Request, UsageError
from harness.engine.backends import BackendPool, describe
from harness.engine.fetch import Ask, Outcome, fetch
from harness.ports.manager import Plugins
from harness.records import HANDLING, Candidate
from harness.store.store import Store
from harness.testing import ScriptedBackend, temporary_store
from tests.engine.test_fetch import Told, ask_for, asks, echo


class Locked(ScriptedBackend):
    """A backend that lacks its key, or fails when it is asked for it."""

    def __init__(self, error: Exception | None, unpriced: str | None = None) -> None:
        super().__init__(echo)
        self.error = error
        self.unpriced = unpriced
        self.is_external = True

    def ready(self) -> None:
        if self.error is not None:
            raise self.error


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with temporary_store(tmp_path) as opened:
        yield opened


def test_a_missing_key_is_said_before_any_backend_is_asked(store: Store) -> None:
    other = ScriptedBackend(echo)
    locked = Locked(UsageError("set OPENAI_API_KEY"))
    some = [*asks(other, 3), *asks(locked, 3, name="l:m")]
    with pytest.raises(UsageError, match="set OPENAI_API_KEY"):
        ask_for(store, some)
    assert other.requests == locked.requests == []


def test_recorded_replies_need_no_key(store: Store) -> None:
    locked = Locked(None)
    ask_for(store, asks(locked, 3))
    locked.error = UsageError("set OPENAI_API_KEY")
    found = ask_for(store, asks(locked, 3))
    assert all(o.is_cached for o in found.values())
    offline = ask_for(store, asks(locked, 4), is_offline=True)
    assert sum(o.fault is not None for o in offline.values()) == 1


def test_a_strangers_ready_that_breaks_is_the_backends_failure(store: Store) -> None:
    with pytest.raises(BackendError, match="s:m: KeyError: 'k'"):
        ask_for(store, asks(Locked(KeyError("k")), 1))


def test_an_unknown_price_is_said_once(store: Store) -> None:
    told = Told()
    live = describe(Locked(None, unpriced="no price for l:m"), name="l:m")
    ask_for(store, asks(live, 2), told)
    ask_for(store, asks(live, 4), told)
    assert told.notes == ["no price for l:m"]


# ---------------------------------------------------------------- the real thing


def hosted(pool: BackendPool, **options: object) -> Ask:
    """An ask of the hosted API, as a candidate makes it."""
    candidate = Candidate(name="c", backend="openai:gpt-x", options=options)
    live = pool.get(candidate)
    request = Request(messages=(Message(role="user", content="q"),))
    return Ask(key=live.key(request, base_url=None, repeat=0), request=request, live=live)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[BackendPool]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    plugins = Plugins(disabled=["transformers", "trl"]).load()
    made = BackendPool(plugins, artifact_folder=Path)
    yield made
    made.close()


def test_a_cached_run_of_the_hosted_api_is_scored_without_a_key(
    store: Store, pool: BackendPool
) -> None:
    from harness.store.store import StoredReply

    ask = hosted(pool)
    reply = Reply(text="recorded")
    store.add_replies(
        [StoredReply(key=ask.key, request=ask.request, reply=reply, backend="openai:gpt-x")]
    )
    for is_offline in (True, False):
        found = fetch([ask], store=store, progress=Told(), is_offline=is_offline)
        assert found[ask.key] == Outcome(key=ask.key, reply=reply, is_cached=True)


def test_without_a_key_a_new_request_is_refused_by_the_variables_name(
    store: Store, pool: BackendPool
) -> None:
    with pytest.raises(UsageError, match="set the environment variable OPENAI_API_KEY"):
        fetch([hosted(pool)], store=store, progress=Told())
    fault = fetch([hosted(pool)], store=store, progress=Told(), is_offline=True)
    assert [o.fault.message for o in fault.values() if o.fault] == [
        "no recorded reply (run without --offline)"
    ]


def test_how_it_is_asked_is_no_part_of_what_is_asked(pool: BackendPool) -> None:
    """A streamed reply is the same reply: what is recorded stands."""
    fast = hosted(pool, stream=True, concurrency=3, timeout_s=9, batch_size=5)
    assert {"stream", "concurrency", "timeout_s", "batch_size"} <= HANDLING
    assert getattr(fast.live.backend, "is_streaming", None) is True
    assert (fast.live.concurrency, fast.live.batch_size) == (3, 5)
    assert fast.key == hosted(pool).key
    free = hosted(pool, costs_nothing=True)  # nor does a person's word for it
    assert (free.live.costs_nothing, hosted(pool).live.costs_nothing) == (True, False)
    assert free.key == hosted(pool).key
    plain = Candidate(name="c", backend="openai:gpt-x")
    assert Candidate(name="c", backend="openai:gpt-x", options={"stream": True}).digest == (
        plain.digest
    )
    assert fast.key != hosted(pool, body={"top_k": 1}).key


def test_the_hosted_api_says_which_price_it_lacks(pool: BackendPool) -> None:
    live = hosted(pool).live
    assert live.unpriced is not None
    assert "no price for openai:gpt-x at api.openai.com: cost unknown" in live.unpriced
    assert live.unpriced.endswith("prices.toml")
    from harness_openai.backend import OpenAIBackend

    assert OpenAIBackend(BackendConfig(model="gpt-4.1")).unpriced is None
    here = BackendConfig(model="m", base_url="http://localhost:8000/v1")
    assert OpenAIBackend(here).unpriced is None

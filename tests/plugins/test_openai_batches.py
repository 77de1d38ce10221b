"""The batch API of the `openai:` backend, against a server on this machine that speaks it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from harness_openai import make_backend
from harness_openai.batches import BatchingBackend
from harness_openai.prices import Price

from harness import BackendConfig, BackendError, BatchState, Decoding, Message, Request, UsageError
from harness.engine.backends import describe
from harness.engine.fetch import Ask, Silence, fetch
from harness.ports.backends import AnswersBatches
from harness.testing import temporary_store
from tests.plugins.batch_api import BatchApi, answered
from tests.plugins.loopback import Answer, Loopback, loopback

NAMES = [f"{i:064x}" for i in range(4)]
REQUESTS = {
    name: Request(
        messages=(Message(role="user", content=f"q{i}\u2028\ud800"),),
        decoding=Decoding(max_tokens=5, seed=i, temperature=1.0),
        schema={"type": "object"},
    )
    for i, name in enumerate(NAMES)
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-of-the-test")
    with loopback() as served:
        yield served


def backend(server: Loopback, tail: str = "#openai", **options: Any) -> BatchingBackend:
    made = make_backend(
        BackendConfig(model="m", base_url=f"{server.base_url}{tail}", options=options)
    )
    assert isinstance(made, BatchingBackend)
    return made


def through(
    server: Loopback, asked: BatchingBackend | None = None
) -> tuple[BatchState, BatchState | None]:
    """Hand the requests in, and look until the batch is done: the last look and the one before."""
    handing_in = asked or backend(server)
    batch_id = asyncio.run(handing_in.submit_batch(REQUESTS))
    collecting = asked or backend(server)  # as a later process would: it knows the id alone
    before = None
    for _ in range(5):
        state = asyncio.run(collecting.collect_batch(batch_id))
        if state.is_done:
            return state, before
        before = state
    raise AssertionError("never done")


def test_a_batch_goes_out_as_one_file_and_comes_back_by_name(server: Loopback) -> None:
    api = BatchApi(server=server, looks=1)
    state, before = through(server)
    assert before == BatchState(is_done=False, total=4, done=1)
    assert api.asked == {
        "input_file_id": "file-in",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    first = api.lines[1]
    assert {k: v for k, v in first.items() if k != "body"} == {
        "custom_id": NAMES[1],
        "method": "POST",
        "url": "/v1/chat/completions",
    }
    assert first["body"]["messages"] == [{"role": "user", "content": "q1\u2028\ud800"}]
    assert first["body"]["max_completion_tokens"] == 5
    assert first["body"]["seed"] == 1
    assert first["body"]["response_format"]["type"] == "json_schema"
    assert {n: r.text for n, r in state.replies.items()} == {
        n: f"q{i}\u2028\ud800" for i, n in enumerate(NAMES)
    }
    assert (state.done, state.total, state.errors) == (4, 4, {})
    reply = state.replies[NAMES[0]]
    assert (reply.input_tokens, reply.output_tokens, reply.latency_s) == (7, 3, None)
    assert all(s.headers["Authorization"] == "Bearer sk-of-the-test" for s in server.seen)


def test_each_request_fails_or_succeeds_for_itself(server: Loopback) -> None:
    def outcome(line: Mapping[str, Any]) -> Mapping[str, Any]:
        number = NAMES.index(line["custom_id"])
        said = [
            None,
            (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}),
            (500, {"error": {"message": "we slipped"}}),
            (200, {"no": "choices"}),
        ][number]
        if said is None:
            return answered(line)
        return {"response": {"status_code": said[0], "body": said[1]}}

    BatchApi(server=server, outcome=outcome)
    state, _ = through(server)
    assert set(state.replies) == {NAMES[0]}
    assert "too long" in str(state.errors[NAMES[1]])
    assert [(state.errors[n].is_systemic, state.errors[n].is_retryable) for n in NAMES[1:]] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    assert (state.done, state.total) == (4, 4)


def test_a_failed_batch_fails_every_request_with_the_servers_reasons(server: Loopback) -> None:
    BatchApi(
        server=server,
        status="failed",
        errors=[
            {"code": "invalid", "line": 2, "message": "the key sk-of-the-test is odd"},
            {"code": "model_not_found", "line": None, "message": "no model m"},
        ],
    )
    state, _ = through(server)
    assert state.is_done
    assert set(state.errors) == set(NAMES)
    found = state.errors[NAMES[0]]
    assert "batch_1" in str(found)
    assert "has failed: line 2: the key [key hidden] is odd; no model m" in str(found)
    assert (found.is_retryable, found.is_systemic) == (False, False)


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_what_a_batch_did_before_it_ended_early_is_kept(server: Loopback, status: str) -> None:
    def outcome(line: Mapping[str, Any]) -> Mapping[str, Any] | None:
        number = NAMES.index(line["custom_id"])
        if number == 0:
            return answered(line)
        error = {"code": f"batch_{status}", "message": "could not be executed in time"}
        return {"error": error} if number == 1 else None  # and two are told of nowhere

    BatchApi(server=server, status=status, outcome=outcome)
    state, _ = through(server)
    assert set(state.replies) == {NAMES[0]}
    assert set(state.errors) == set(NAMES[1:])
    assert "in time" in str(state.errors[NAMES[1]])
    word = "expired" if status == "expired" else "been cancelled"
    assert f"has {word}" in str(state.errors[NAMES[3]])
    assert all(e.is_retryable and not e.is_systemic for e in state.errors.values())


def test_a_batch_that_failed_is_done_even_where_its_file_was_deleted(server: Loopback) -> None:
    api = BatchApi(server=server, status="failed")
    batch_id = asyncio.run(backend(server).submit_batch(REQUESTS))
    held = api.answer
    server.answer = lambda seen: (
        Answer(status=404, body={"error": {"message": "no file"}})
        if seen.path.endswith("/content")
        else held(seen)
    )
    state = asyncio.run(backend(server).collect_batch(batch_id))
    assert (state.is_done, state.errors) == (True, {})


def test_the_engine_hands_in_waits_and_keeps_what_comes(server: Loopback, tmp_path: Path) -> None:
    api = BatchApi(server=server, looks=2)
    live = describe(backend(server), name="openai:m")
    assert live.batch_size == 10_000
    asks = [Ask(key=name, request=request, live=live) for name, request in REQUESTS.items()]
    with temporary_store(tmp_path) as store:
        found = fetch(asks, store=store, progress=Silence(), is_batch=True, pause=lambda look: 0.0)
        assert {k: o.reply.text for k, o in found.items() if o.reply} == {
            n: f"q{i}\u2028\ud800" for i, n in enumerate(NAMES)
        }
        assert len(store.known_replies(NAMES)) == 4
    assert [line["custom_id"] for line in api.lines] == NAMES


def test_a_batch_that_is_gone_is_an_error_and_no_state(server: Loopback) -> None:
    BatchApi(server=server)
    with pytest.raises(BackendError, match="HTTP 404") as caught:
        asyncio.run(backend(server).collect_batch("batch_other"))
    assert not caught.value.is_retryable
    server.answer = lambda _: Answer(status=503, body={"error": {"message": "busy"}})
    with pytest.raises(BackendError, match="busy") as caught:
        asyncio.run(backend(server).collect_batch("batch_1"))
    assert caught.value.is_retryable


def test_azures_older_addresses_keep_their_version_and_lose_the_deployment(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a file is waited for: a batch of one that is still read is refused there."""
    monkeypatch.setattr("harness_openai.asking.LOOK_AGAIN_S", 0.01)
    api = BatchApi(server=server, path="/openai", file_states=["pending", "running", "processed"])
    url = server.base_url.removesuffix("/v1") + "/openai/deployments/d?api-version=2024-10-21#azure"
    asked = make_backend(BackendConfig(model="d", base_url=url))
    assert isinstance(asked, BatchingBackend)
    state, _ = through(server, asked)
    assert len(state.replies) == 4
    assert api.asked["endpoint"] == "/chat/completions"
    paths = [s.path for s in server.seen]
    assert paths[:2] == [
        "/openai/files?api-version=2024-10-21",
        "/openai/files/file-in?api-version=2024-10-21",
    ]
    assert paths[3] == "/openai/batches?api-version=2024-10-21"
    assert server.seen[0].headers["api-key"] == "azure-of-the-test"


def test_the_batch_price_is_half_of_the_list_price(server: Loopback) -> None:
    BatchApi(server=server)
    asked = backend(server)
    asked._price = Price(  # no price is known for this machine
        host="x",
        model="m",
        input=1.0,
        output=2.0,
        as_of=None,
        source="",  # type: ignore[arg-type]
    )
    state, _ = through(server, asked)
    assert state.replies[NAMES[0]].cost_usd == pytest.approx((7 * 1.0 + 3 * 2.0) / 1e6 / 2)


def test_only_a_server_with_the_api_is_offered_batches(server: Loopback) -> None:
    kinds = {
        kind: isinstance(
            make_backend(BackendConfig(model="m", base_url=f"{server.base_url}#{kind}")),
            AnswersBatches,
        )
        for kind in ("openai", "azure", "gemini", "openrouter", "vllm", "llama.cpp", "default")
    }
    assert [kind for kind, is_offered in kinds.items() if is_offered] == ["openai", "azure"]
    assert backend(server, batch_size=50).batch_size == 50


def test_nothing_is_handed_in_that_the_server_would_not_take(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness_openai.batches.MOST_BYTES", 100)
    with pytest.raises(BackendError, match="set the backend's option batch_size"):
        asyncio.run(backend(server).submit_batch(REQUESTS))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        asyncio.run(backend(server).submit_batch(REQUESTS))
    assert server.seen == []


def test_the_vendors_own_client_finds_the_server_of_these_tests_in_order(server: Loopback) -> None:
    """So that what the backend is tested against is the API, and not a wish."""
    import io

    import openai

    api = BatchApi(server=server)
    through(server)
    line = api.files["file-in"]
    with openai.OpenAI(base_url=server.base_url, api_key="x", max_retries=0) as client:
        handed = client.files.create(file=io.BytesIO(line), purpose="batch")
        batch = client.batches.create(
            input_file_id=handed.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
        )
        done = client.batches.retrieve(batch.id)
        assert done.status == "completed"
        assert done.request_counts is not None
        assert done.request_counts.completed == 4
        assert done.output_file_id is not None
        text = client.files.content(done.output_file_id).text
    assert text.count("custom_id") == 4
    assert api.files["file-in"] == line

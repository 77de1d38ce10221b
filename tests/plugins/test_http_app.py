"""`http:NAME`: what an endpoint is sent, how its answer is read, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from harness_apps import make_http
from harness_apps.template import fill, placeholders
from hypothesis import given, strategies as st

from harness import BackendConfig, BackendError, Decoding, Message, Reply, Request, UsageError
from harness.testing import conformance
from tests.plugins.loopback_anthropic import Answer, Loopback, loopback

SECRET = "tok-S3NTINEL-0123456789"
SYSTEM = Message(role="system", content="Be brief.")


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback() as served:
        served.answer = lambda _: Answer(body={"answer": {"text": "five"}})
        yield served


def backend(server: Loopback, **options: Any) -> Any:
    table = {
        "url": f"{server.base_url}/ask",
        "body": {"question": "$last_user"},
        "reply": "answer.text",
        **options,
    }
    return make_http(BackendConfig(model="my-app", options=table))


def request(*messages: Message, **given: Any) -> Request:
    decoding = Decoding(**{k: given.pop(k) for k in list(given) if k in Decoding.__slots__})
    user = Message(role="user", content="How many?")
    return Request(messages=messages or (user,), decoding=decoding, **given)


def ask(asked: Any, sent: Request | None = None) -> Reply:
    reply: Reply = asyncio.run(asked.answer(sent or request()))
    return reply


def failure(asked: Any, sent: Request | None = None) -> BackendError:
    with pytest.raises(BackendError) as caught:
        ask(asked, sent)
    return caught.value


def test_a_body_is_filled_in_and_the_reply_found_where_the_paths_say(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_APP_TOKEN", SECRET)
    server.answer = lambda _: Answer(
        body={
            "choices": [{"text": "five", "calls": [{"id": "a"}], "why": "done"}],
            "usage": {"in": 7, "out": 3, "usd": 0.25},
            "model": "mine",
            "trace": {"spans": [{"name": "search", "duration_s": 0.25}]},
        }
    )
    asked = backend(
        server,
        method="put",
        headers={"X-Tenant": "acme"},
        header_env={"Authorization": "MY_APP_TOKEN"},
        body={
            "chat": "$messages",
            "text": "Q: $last_user ($system, $$5)",
            "settings": {"t": "$temperature", "n": "$max_tokens", "seed": "$seed", "s": "$stop"},
            "tools": "$tools",
            "fixed": [1, True, None],
        },
        reply="choices.0.text",
        tool_calls="choices.0.calls",
        spans="trace.spans",
        finish_reason="choices.0.why",
        input_tokens="usage.in",
        output_tokens=["usage", "out"],
        cost_usd="usage.usd",
        model="model",
        honours=["tools", "stop", "seed"],
    )
    sent = request(
        SYSTEM,
        Message(role="user", content="$seed? $$ ✓ \ud800"),
        temperature=0.5,
        max_tokens=9,
        stop=("x",),
        tools=({"name": "look"},),
    )
    reply = ask(asked, sent)
    [seen] = server.seen
    assert (seen.method, seen.path) == ("PUT", "/ask")
    headers = {name.lower(): value for name, value in seen.headers.items()}
    assert (headers["authorization"], headers["x-tenant"]) == (SECRET, "acme")
    user = "$seed? $$ ✓ \ud800"  # what is filled in is text, whatever it looks like
    assert seen.body == {
        "chat": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": user}],
        "text": f"Q: {user} (Be brief., $5)",
        "settings": {"t": 0.5, "n": 9, "s": ["x"]},
        "tools": [{"name": "look"}],
        "fixed": [1, True, None],
    }
    assert (reply.text, reply.finish_reason, reply.tool_calls) == ("five", "done", ({"id": "a"},))
    assert (reply.input_tokens, reply.output_tokens, reply.cost_usd) == (7, 3, 0.25)
    assert reply.model == "mine"
    assert reply.spans == ({"name": "search", "duration_s": 0.25},)
    assert SECRET not in str(asked.identity)


@given(st.text(), st.text())
def test_no_input_is_ever_read_as_a_placeholder(user: str, system: str) -> None:
    sent = Request(
        messages=(
            Message(role="system", content=system),
            Message(role="user", content=user),
        )
    )
    assert fill({"a": "$last_user", "b": "<$system|$last_user>"}, sent) == {
        "a": user,
        "b": f"<{system}|{user}>",
    }


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (request(SYSTEM, Message(role="user", content="q")), r"the system text \(\$system\)"),
        (
            request(
                Message(role="user", content="q"),
                Message(role="assistant", content="a"),
                Message(role="user", content="q2"),
            ),
            r"a dialogue of 3 turns \(\$messages\)",
        ),
        (request(temperature=0.7), "temperature"),
        (request(top_p=0.9), "top_p"),
    ],
)
def test_what_the_body_would_drop_in_silence_is_refused(
    server: Loopback, sent: Request, says: str
) -> None:
    with pytest.raises(BackendError, match=says):
        raise failure(backend(server), sent)
    assert server.seen == []


def test_an_answer_that_is_no_reply_says_what_it_is_instead(server: Loopback) -> None:
    def said(body: Any, **headers: str) -> str:
        server.answer = lambda _: Answer(body=body, headers=headers)
        return str(failure(backend(server, error="error")))

    page = said(b"<html><h1>Sign in</h1>", **{"Content-Type": "text/html"})
    assert "text/html, not JSON: '<html><h1>Sign in</h1>'" in page
    assert "nothing at 'text' of answer, which is an object with 'words'" in said(
        {"answer": {"words": 1}}
    )
    assert "nothing at 'answer' of the answer, which is a list of 2" in said([1, 2])
    assert "answered an error: no documents" in said({"error": "no documents"})
    assert failure(backend(server, error="error")).is_systemic
    assert "not JSON" in said(b"[" * 100_000)


def test_limits_and_trouble_are_told_to_the_engine(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_APP_TOKEN", SECRET)
    server.answer = lambda _: Answer(
        status=429, body={"detail": f"slow down, {SECRET}"}, headers={"Retry-After": "9"}
    )
    found = failure(backend(server, header_env={"X-Key": "MY_APP_TOKEN"}))
    assert (found.is_retryable, found.retry_after_s) == (True, 9)
    assert SECRET not in str(found)
    assert "slow down" in str(found)
    server.answer = lambda _: Answer(status=422, body={"detail": "no question"})
    found = failure(backend(server))
    assert (found.is_retryable, found.is_systemic) == (False, False)


def test_a_reply_that_is_no_text_is_compact_json_and_the_whole_answer_without_a_path(
    server: Loopback,
) -> None:
    server.answer = lambda _: Answer(body={"answer": {"text": {"n": 5}}})
    assert ask(backend(server)).text == '{"n":5}'
    asked = make_http(BackendConfig(model="a", base_url=server.base_url))
    assert ask(asked).text == '{"answer":{"text":{"n":5}}}'
    assert server.seen[-1].body == {"messages": [{"role": "user", "content": "How many?"}]}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": None}, r'write \[backends."http:my-app"\]'),
        ({"tempo": 1}, r"unknown options \['tempo'\]"),
        ({"method": "GET"}, "POST, PUT, PATCH"),
        ({"body": {"q": "$case"}}, r"no placeholder \$case"),
        ({"body": {"q": "at $temperature"}}, r"\$temperature is no text"),
        ({"reply": 3}, "no path"),
        ({"headers": {"X-Api-Key": "x"}}, "looks like a secret"),
        ({"headers": 3}, "not a table"),
        ({"honours": ["seed"]}, "never sends it"),
        ({"honours": ["logprobs"]}, "may honour"),
        ({"honours": ["tools"], "body": {"t": "$tools"}}, "no path `tool_calls`"),
        ({"url": "http://localhost/ask?key=1"}, "has a query"),
    ],
)
def test_a_wrong_table_is_said_when_the_backend_is_made(
    server: Loopback, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        backend(server, **options)


def test_a_secret_is_asked_for_when_something_is_sent_and_never_travels_unencrypted(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_APP_TOKEN", raising=False)
    table = {"header_env": {"Authorization": "MY_APP_TOKEN"}}
    with pytest.raises(UsageError, match="MY_APP_TOKEN, which is not set"):
        backend(server, **table).ready()
    monkeypatch.setenv("MY_APP_TOKEN", SECRET)
    backend(server, **table).ready()
    with pytest.raises(UsageError, match="unencrypted"):
        backend(server, **table, url="http://app.example.com/ask").ready()


def test_it_keeps_the_promises_of_a_backend(server: Loopback) -> None:
    table = {"url": server.base_url, "body": {"q": "$last_user"}, "reply": "answer.text"}
    conformance(make_http, config=BackendConfig(model="my-app", options=table))
    assert not hasattr(backend(server), "is_external")  # it may ask a hosted model itself
    assert backend(server, url="https://app.example.com").is_external
    assert placeholders({"a": ["$last_user", "$$x"]}) == {"last_user"}


def test_what_changes_an_answer_is_its_identity(server: Loopback) -> None:
    plain = backend(server).identity
    assert backend(server).identity == plain
    for change in ({"body": {"q": "$last_user"}}, {"reply": "answer"}, {"headers": {"A": "b"}}):
        assert backend(server, **change).identity != plain

"""What the `anthropic:` backend sends, reads and declares, against a server on this machine.

No hosted API is asked: shapes are those of the vendor's pages (platform.claude.com, 2026-11).
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from harness_anthropic import make_backend
from harness_anthropic.tables import choose_model, cost_usd, load_models, load_prices

from harness import BackendConfig, BackendError, Decoding, Message, Reply, Request, UsageError
from harness.ports.backends import AnswersBatches
from harness.ports.manager import Plugins
from harness.testing import conformance
from tests.plugins.loopback_anthropic import Answer, Loopback, Seen, loopback, message

OLD, TABLED, NEW = "claude-3-5-haiku-20241022", "claude-haiku-4-5", "claude-opus-5"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
PNG = "data:image/png;base64,iVBORw0KGgo="
KEY = "sk-ant-api03-S3NTINEL+/=canary%key~0123456789"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback() as served:
        yield served


def backend(server: Loopback, model: str = TABLED, **options: Any) -> Any:
    return make_backend(BackendConfig(model=model, base_url=server.base_url, options=options))


def request(text: str = "How many?", *before: Message, **given: Any) -> Request:
    decoding = Decoding(**{k: given.pop(k) for k in list(given) if k in Decoding.__slots__})
    messages = (*before, Message(role="user", content=text))
    return Request(messages=messages, decoding=decoding, **given)


def ask(asked: Any, sent: Request) -> Reply:
    reply: Reply = asyncio.run(asked.answer(sent))
    return reply


def failure(asked: Any, sent: Request | None = None) -> BackendError:
    with pytest.raises(BackendError) as caught:
        ask(asked, sent or request())
    return caught.value


# ---------------------------------------------------------------- what is sent


def test_a_request_goes_out_in_the_shape_of_the_messages_api(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    system = Message(role="system", content="Be brief.")
    look = {"name": "look", "description": "Look.", "parameters": SCHEMA, "strict": True}
    ask(
        backend(server),
        request("How many?", system, max_tokens=11, temperature=0.5, stop=("END",), tools=(look,)),
    )
    [seen] = server.seen
    assert seen.path == "/v1/messages"
    headers = {name.lower(): value for name, value in seen.headers.items()}
    assert (headers["x-api-key"], headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert seen.body == {
        "model": TABLED,
        "max_tokens": 11,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "How many?"}],
        "temperature": 0.5,
        "stop_sequences": ["END"],
        "tools": [{"name": "look", "description": "Look.", "input_schema": SCHEMA, "strict": True}],
    }


def test_tool_calls_and_their_results_travel_as_blocks_the_results_in_one_turn(
    server: Loopback,
) -> None:
    call = {"id": "a", "function": {"name": "look", "arguments": {"n": 1}}}
    text_call = {"id": "b", "function": {"name": "look", "arguments": '{"n": 2}'}}
    ask(
        backend(server),
        Request(
            messages=(
                Message(role="user", content="What is it?", images=(PNG,)),
                Message(role="assistant", content="", tool_calls=(call, text_call)),
                Message(role="tool", content="one", tool_call_id="a"),
                Message(role="tool", content="two", tool_call_id="b"),
            )
        ),
    )
    image = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    assert server.seen[0].body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image", "source": image},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "a", "name": "look", "input": {"n": 1}},
                {"type": "tool_use", "id": "b", "name": "look", "input": {"n": 2}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "one"},
                {"type": "tool_result", "tool_use_id": "b", "content": "two"},
            ],
        },
    ]


def test_a_schema_is_structured_output_where_the_model_has_it_and_a_forced_tool_elsewhere(
    server: Loopback,
) -> None:
    effort = {"output_config": {"effort": "low"}}
    ask(backend(server, body=effort), request(schema=SCHEMA))
    shape = {"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "low"}
    assert server.seen[0].body["output_config"] == shape

    made = {"type": "tool_use", "id": "t", "name": "harness_reply", "input": {"n": 3}}
    server.answer = lambda _: Answer(body=message(made, stop_reason="tool_use"))
    reply = ask(backend(server, OLD), request(schema=SCHEMA))
    assert server.seen[1].body["tool_choice"] == {"type": "tool", "name": "harness_reply"}
    assert server.seen[1].body["tools"][0]["input_schema"] == SCHEMA
    assert (reply.text, reply.finish_reason, reply.tool_calls) == ('{"n":3}', "stop", ())


@pytest.mark.parametrize(
    ("model", "decoding", "sent"),
    [
        (OLD, {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        (TABLED, {"temperature": 0.0, "top_p": 0.9}, {"temperature": 0.0}),
        (TABLED, {"temperature": 1.0, "top_p": 0.9}, {"top_p": 0.9}),
        (TABLED, {"temperature": 0.5, "top_p": 0.9}, None),
        (NEW, {"temperature": 0.0}, {}),
        (NEW, {"temperature": 1.0}, {}),
        (NEW, {"temperature": 0.5}, None),
        (NEW, {"temperature": 1.0, "top_p": 0.9}, None),
        ("claude-of-the-future-9", {"temperature": 0.5}, None),
    ],
)
def test_a_temperature_that_the_model_would_not_take_is_refused_not_dropped(
    server: Loopback, model: str, decoding: dict[str, float], sent: dict[str, float] | None
) -> None:
    asked = backend(server, model)
    if sent is None:
        assert "temperature" in str(failure(asked, request(**decoding)))
        assert server.seen == []
        return
    ask(asked, request(**decoding))
    body = server.seen[0].body
    assert {k: body[k] for k in ("temperature", "top_p") if k in body} == sent


@pytest.mark.parametrize(
    ("model", "sent", "says"),
    [
        (OLD, request(schema=SCHEMA, tools=({"name": "look"},)), "place of the tools"),
        (OLD, request(schema={"type": "array"}), "type is object"),
        (OLD, request(tools=({"name": "look", "strict": True},)), "strict"),
        (TABLED, request(stop=("\n",)), "white space"),
        (TABLED, request("a", Message(role="user", content="b", images=("x.png",))), "image"),
        (
            TABLED,
            request("b", Message(role="user", content="a"), Message(role="system", content="c")),
            "before the first turn",
        ),
    ],
)
def test_what_the_api_cannot_do_is_said_before_anything_is_sent(
    server: Loopback, model: str, sent: Request, says: str
) -> None:
    assert says in str(failure(backend(server, model), sent))
    assert server.seen == []


# ---------------------------------------------------------------- what came back


def test_a_reply_has_text_calls_counts_and_cost(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    thought = {"type": "thinking", "thinking": "", "signature": "x"}
    call = {"type": "tool_use", "id": "t1", "name": "look", "input": {"n": 1}}
    text = {"type": "text", "text": "Let me "}
    usage = {"input_tokens": 100, "cache_read_input_tokens": 1000, "output_tokens": 10}
    server.answer = lambda _: Answer(
        body=message(
            thought, text, text | {"text": "look."}, call, stop_reason="tool_use", usage=usage
        )
    )
    asked = backend(server, "claude-opus-5")
    asked._price = load_prices()["api.anthropic.com", "claude-opus-5"]
    reply = ask(asked, request())
    assert reply.text == "Let me look."
    assert reply.tool_calls == (
        {"id": "t1", "type": "function", "function": {"name": "look", "arguments": {"n": 1}}},
    )
    assert (reply.finish_reason, reply.input_tokens, reply.output_tokens) == (
        "tool_calls",
        1100,
        10,
    )
    assert reply.cost_usd == pytest.approx((100 * 5 + 1000 * 0.5 + 10 * 25) / 1e6)
    assert reply.latency_s is not None
    assert reply.model == "served-model"


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "refusal"),
        ("pause_turn", "pause_turn"),
    ],
)
def test_a_stop_reason_becomes_the_word_that_checks_know(
    server: Loopback, reason: str, finish: str
) -> None:
    server.answer = lambda _: Answer(body=message(stop_reason=reason))
    assert ask(backend(server), request()).finish_reason == finish


def test_a_cost_is_unknown_where_a_tariff_is_and_half_in_a_batch() -> None:
    usage = {"input_tokens": 1_000_000, "output_tokens": 0, "service_tier": "standard"}
    price = load_prices()["api.anthropic.com", "claude-sonnet-4-6"]
    assert cost_usd(price, usage) == pytest.approx(3.0)
    assert cost_usd(price, usage, is_batch=True) == pytest.approx(1.5)
    assert cost_usd(price, usage | {"service_tier": "priority"}) is None
    assert cost_usd(price, usage | {"inference_geo": "us"}) is None
    assert cost_usd(price, usage | {"cache_creation_input_tokens": 5}) is None
    assert cost_usd(replace(price, up_to_input_tokens=9), usage) is None
    assert cost_usd(None, usage) is None


# ---------------------------------------------------------------- what goes wrong

PASSING = {"is_retryable": True, "is_systemic": False}
FINAL = {"is_retryable": False, "is_systemic": False}
ANSWER = {"is_retryable": False, "is_systemic": True}  # of the system under test
BROKE = {"details": {"error_code": "enforced_spend_limit_reached"}}


@pytest.mark.parametrize(
    ("status", "kind", "text", "expected"),
    [
        (429, "rate_limit_error", "slow down", PASSING),
        (529, "overloaded_error", "Overloaded", PASSING),
        (500, "api_error", "oops", PASSING),
        (400, "invalid_request_error", "You have reached your specified API usage limits", FINAL),
        (400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", ANSWER),
        (400, "invalid_request_error", "`temperature` is deprecated for this model.", FINAL),
        (401, "authentication_error", "invalid x-api-key", FINAL),
        (404, "not_found_error", "model: claude-x", FINAL),
        (413, "request_too_large", "Request exceeds the maximum size", FINAL),
    ],
)
def test_an_error_is_told_apart_by_what_can_be_done_about_it(
    server: Loopback, status: int, kind: str, text: str, expected: dict[str, bool]
) -> None:
    body = {"type": "error", "error": {"type": kind, "message": text}, "request_id": "r"}
    server.answer = lambda _: Answer(status=status, body=body, headers={"Retry-After": "7"})
    found = failure(backend(server))
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.retry_after_s == 7
    assert str(found).startswith(f"HTTP {status} from {server.base_url}: {text}")


def test_a_monthly_limit_looks_like_a_rate_limit_and_no_waiting_cures_it(server: Loopback) -> None:
    error = {"type": "rate_limit_error", "message": "limit", **BROKE}
    server.answer = lambda _: Answer(status=429, body={"error": error})
    assert not failure(backend(server)).is_retryable


def test_a_page_instead_of_a_message_is_named_with_its_first_characters(server: Loopback) -> None:
    server.answer = lambda _: Answer(
        body=b"<html><h1>Sign in</h1>", headers={"Content-Type": "text/html"}
    )
    found = failure(backend(server))
    assert "text/html, not a message: '<html><h1>Sign in</h1>'" in str(found)
    assert not found.is_retryable
    server.answer = lambda _: Answer(body={"choices": []})
    assert "not a message" in str(failure(backend(server)))


def test_a_key_that_a_server_echoes_is_in_no_message_and_no_frame(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    said = f"no such key {KEY} or {quote(KEY)} or {KEY[:12]}..."
    server.answer = lambda _: Answer(status=401, body={"error": {"message": said}})
    found = failure(backend(server))
    frames, trace = [], found.__traceback__
    while trace is not None:
        if "harness_" in trace.tb_frame.f_code.co_filename:
            frames.append(repr(trace.tb_frame.f_locals))
        trace = trace.tb_next
    assert frames
    for text in (str(found), *frames):
        assert KEY[:12] not in text
    assert "ANTHROPIC_API_KEY is set, and was refused" in str(found)


# ---------------------------------------------------------------- what it declares


def test_it_owns_its_scheme_without_loading_a_library() -> None:
    table = Plugins().load().table("harness_backends")
    assert table["anthropic"] is make_backend
    assert {"http", "python"} <= set(table)
    code = (
        "import sys, harness_anthropic, harness_apps\n"
        "loaded = {'aiohttp', 'botocore'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_keeps_the_promises_of_a_backend(server: Loopback) -> None:
    conformance(make_backend, config=BackendConfig(model=TABLED, base_url=server.base_url))


def test_what_changes_an_answer_is_its_identity(server: Loopback) -> None:
    plain = backend(server).identity
    assert backend(server).identity == plain
    assert backend(server, body={"thinking": {"type": "disabled"}}).identity != plain
    assert backend(server, schema="tool").identity != plain
    assert backend(server, version="2026-10-21").identity != plain
    assert backend(server, batch_size=3).identity == plain


@pytest.mark.parametrize(
    ("model", "base_url", "options", "says"),
    [
        (TABLED, "https://u:p@models.example.com", {}, "user name or password"),
        (TABLED, "http://localhost:1", {"tempo": 1}, "unknown options \\['tempo'\\]"),
        (TABLED, "http://localhost:1", {"schema": "grammar"}, "native, tool"),
        (TABLED, "http://localhost:1", {"honours": ["seed"]}, "known are"),
        ("", "http://localhost:1", {}, "needs a model"),
    ],
)
def test_a_wrong_setting_is_said_when_the_backend_is_made(
    model: str, base_url: str | None, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        make_backend(BackendConfig(model=model, base_url=base_url, options=options))


def test_a_key_is_asked_for_when_something_is_sent_and_never_travels_unencrypted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Recorded replies are scored without one."""
    with pytest.raises(UsageError, match="set the environment variable ANTHROPIC_API_KEY"):
        make_backend(BackendConfig(model=TABLED)).ready()
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    make_backend(BackendConfig(model=TABLED)).ready()
    with pytest.raises(UsageError, match="unencrypted"):
        make_backend(BackendConfig(model=TABLED, base_url="http://models.example.com")).ready()


def test_models_are_told_apart_by_name_also_on_bedrock() -> None:
    kinds = {
        name: (found.schema, found.sampling)
        for name in (OLD, TABLED, NEW, "claude-opus-4-20250514", "claude-opus-4-7", "deepseek-v4")
        for found in [choose_model(name)]
    }
    assert kinds == {
        OLD: ("tool", "free"),
        TABLED: ("native", "one"),
        NEW: ("native", "own"),
        "claude-opus-4-20250514": ("tool", "free"),
        "claude-opus-4-7": ("native", "own"),
        "deepseek-v4": ("native", "free"),
    }
    assert choose_model("eu.anthropic.claude-sonnet-4-5-20250929-v1:0").sampling == "one"
    assert "schema" not in choose_model("deepseek-v4").honours
    assert all(model.checked for model in load_models())


# ---------------------------------------------------------------- batches


def test_a_batch_is_handed_in_and_its_results_are_sorted_by_name(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    text = {"type": "text", "text": "four"}
    errored = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
    long = {"error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}}
    lines = [
        {"custom_id": "b" * 64, "result": {"type": "errored", "error": errored}},
        {"custom_id": "a" * 64, "result": {"type": "succeeded", "message": message(text)}},
        {"custom_id": "c" * 64, "result": {"type": "expired"}},
        {"custom_id": "d" * 64, "result": {"type": "errored", "error": long}},
    ]
    state = {"id": "batch_1", "processing_status": "in_progress"}
    state["request_counts"] = {"processing": 3, "succeeded": 1}

    def answered(seen: Seen) -> Answer:
        if seen.path.endswith("/results"):
            return Answer(body="\n".join(json.dumps(line) for line in lines).encode())
        return Answer(body=state)

    server.answer = answered
    asked = backend(server)
    assert isinstance(asked, AnswersBatches)
    given = {letter * 64: request(letter) for letter in "abcd"}
    assert asyncio.run(asked.submit_batch(given)) == "batch_1"
    first = server.seen[0]
    assert (first.method, first.path) == ("POST", "/v1/messages/batches")
    assert [r["custom_id"] for r in first.body["requests"]] == list(given)
    assert first.body["requests"][1]["params"]["messages"][0]["content"] == "b"
    waiting = asyncio.run(asked.collect_batch("batch_1"))
    assert (waiting.is_done, waiting.total, waiting.done) == (False, 4, 1)

    state |= {"processing_status": "ended", "request_counts": {"succeeded": 1, "errored": 3}}
    found = asyncio.run(asked.collect_batch("batch_1"))
    assert found.is_done
    assert {name[0]: reply.text for name, reply in found.replies.items()} == {"a": "four"}
    kinds = {n[0]: (e.is_retryable, e.is_systemic) for n, e in found.errors.items()}
    assert kinds == {"b": (False, False), "c": (True, False), "d": (False, True)}

    state["results_url"] = "https://elsewhere.example/results"
    with pytest.raises(BackendError, match="another server"):
        asyncio.run(asked.collect_batch("batch_1"))

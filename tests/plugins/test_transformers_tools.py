"""Tools with the `local:` backend: shown by the template, read by the response template."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from harness_transformers.backend import LocalBackend
from harness_transformers.encoding import prompt_ids
from harness_transformers.models import load_tokenizer
from harness_transformers.tool_calls import read_reply, shows_tools

from harness import BackendConfig, Decoding, Message, Reply, Request
from tests.plugins.tiny import CHATML, build_tiny_model

SEARCH = {"name": "search", "parameters": {"type": "object", "properties": {}}}
SHOWS_TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' }}{% for tool in tools %}{{ tool.function.name }};"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endif %}" + CHATML
)
# how this model writes a call: the whole reply is its JSON
WRITES_CALLS = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "tool_calls": {
            "open_pattern": r"(?=\{)",
            "close": "<|im_end|>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close": "<|im_end|>", "content": "text"},
    },
}
CALL = {"name": "search", "arguments": {"query": "x"}}
ASKED = Request(
    messages=(Message(role="user", content="How many?"),),
    decoding=Decoding(max_tokens=60),
    schema={"const": CALL},  # a model of random weights can be made to write a call
    tools=(SEARCH,),
)


def model(folder: Path, *, template: str = SHOWS_TOOLS, response_template: Any = None) -> Path:
    build_tiny_model(folder)
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = template
    tokenizer.response_template = response_template
    tokenizer.save_pretrained(str(folder))
    return folder


def answer(folder: Path, *requests: Request) -> list[Reply]:
    backend = LocalBackend(BackendConfig(model=str(folder)))

    async def together() -> list[Reply]:
        return await asyncio.gather(*(backend.answer(r) for r in requests))

    try:
        return asyncio.run(together())
    finally:
        backend.close()


def test_a_call_is_read_where_the_tokenizer_says_how(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", response_template=WRITES_CALLS)
    plain = Request(messages=ASKED.messages, decoding=ASKED.decoding, schema=ASKED.schema)
    called, told = answer(folder, ASKED, plain)
    assert called.tool_calls == ({"type": "function", "function": CALL},)
    assert called.text == ""
    assert (told.tool_calls, told.text[:8]) == ((), '{"name":')  # nothing was offered


def test_without_a_response_template_a_call_stays_text(tmp_path: Path) -> None:
    (told,) = answer(model(tmp_path / "m"), ASKED)
    assert told.tool_calls == ()
    assert '"search"' in told.text


def test_tools_are_honoured_where_the_template_shows_them(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    shown = LocalBackend(BackendConfig(model=str(model(tmp_path / "m"))))
    hidden = LocalBackend(BackendConfig(model=str(tiny_model_dir)))
    assert shown.honours - hidden.honours == {"tools"}
    assert shown.decode(shown.token_ids(ASKED)).startswith("<|im_start|>system\nsearch;<|im_end|>")
    refusing = "{{ raise_exception('no tools') if tools }}" + CHATML
    assert not shows_tools(load_tokenizer(model(tmp_path / "n", template=refusing)))


def test_a_dialogue_with_tools_is_rendered_with_its_calls_and_results(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}[{{ m.role }}{% for c in m.tool_calls or [] %} "
        "{{ c.function.name }}{{ c.function.arguments.query }}{% endfor %}"
        "{% if m.tool_call_id %} to {{ m.tool_call_id }}{% endif %}] {{ m.content }};{% endfor %}"
    )
    tokenizer = load_tokenizer(model(tmp_path / "m", template=template))
    call = {"id": "c1", "type": "function", "function": CALL}
    turns = [
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="7", tool_call_id="c1"),
    ]
    assert tokenizer.decode(prompt_ids(tokenizer, turns)) == "[assistant searchx] ;[tool to c1] 7;"


@pytest.mark.parametrize("text", ["plain<|im_end|>", "{broken", '{"name": <|im_end|>', ""])
def test_what_is_no_call_is_left_as_it_was_written(tmp_path: Path, text: str) -> None:
    tokenizer = load_tokenizer(model(tmp_path / "m", response_template=WRITES_CALLS))
    ids = tokenizer(text).input_ids
    assert read_reply(tokenizer, ids, prompt_ids=[], tools=[SEARCH]) is None

"""A judge whose backend searches the web, as docs/judges.md has it: what is sent, and the verdict
among the blocks of a search.
"""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness_anthropic import make_backend as make_anthropic
from harness_openai import make_backend as make_openai

from harness import BackendConfig, Case, Reply
from harness.core.judge_verdicts import JudgeVerdict, read_verdict
from harness.core.judging import Judge, judge_requests
from tests.plugins import loopback as chat
from tests.plugins.loopback_anthropic import Answer, Loopback, loopback, message

CASE = Case(id="c1", split="dev", inputs={"question": "What does it cost?"})
VERDICT = json.dumps({"reason": "It is 5 EUR today.", "verdict": "pass"})


def documented(name: str) -> dict[str, Any]:
    """The table of a backend on the page."""
    page = Path("docs/judges.md").read_text(encoding="utf-8")
    block = next(b for b in page.split("```toml\n")[1:] if "web_search" in b).partition("```")[0]
    table: dict[str, Any] = tomllib.loads(block)["backends"][name]
    return table


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    with loopback() as served:
        yield served


def verdict_of(backend: Any, name: str) -> JudgeVerdict:
    judge = Judge(name="current", backend=name, rubric="The price is today's.")
    requests = judge_requests(judge, CASE, Reply(text="5 EUR"), honours=backend.honours)
    replies = [asyncio.run(backend.answer(request)) for request in requests]
    return read_verdict(judge, replies, requests=requests)


def test_anthropic_s_search_stands_beside_the_question_and_the_verdict_after_it(
    server: Loopback,
) -> None:
    options = documented("anthropic:claude-x")
    searched = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    server.answer = lambda _: Answer(
        body=message(
            {"type": "text", "text": "I will look it up."},
            searched,
            found,
            {"type": "text", "text": "As the shop says, "},
            {"type": "text", "text": VERDICT, "citations": []},
        )
    )
    config = BackendConfig(model="claude-haiku-4-5", base_url=server.base_url, options=options)
    verdict = verdict_of(make_anthropic(config), "anthropic:claude-x")
    [seen] = server.seen
    assert seen.body["tools"] == [
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    ]
    assert "output_config" not in seen.body  # text comes before the verdict
    assert (verdict.value, verdict.reason) == (1, "It is 5 EUR today.")


def test_a_plugin_of_a_chat_server_stands_beside_the_question() -> None:
    options = documented("openai:vendor/model")
    with chat.loopback() as served:
        served.answer = lambda _: chat.Answer(
            body={"choices": [{"message": {"content": VERDICT}, "finish_reason": "stop"}]}
        )
        config = BackendConfig(model="vendor/model", base_url=served.base_url, options=options)
        verdict = verdict_of(make_openai(config), "openai:vendor/model")
        assert served.seen[-1].body["plugins"] == [{"id": "web"}]
    assert verdict.value == 1

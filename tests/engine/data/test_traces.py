"""Traces as their tools write them: what was said is there, and nothing is lost in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.examples import Example
from harness.engine.data.reading import Reading, open_examples
from harness.records import Message

ASKED = {"role": "user", "content": "Is it open?"}
TOOL = {"type": "function", "function": {"name": "hours", "parameters": {"type": "object"}}}
PIXEL = "data:image/png;base64,iVBORw0KGgo="
LANGFUSE = {"id": "o1", "input": json.dumps([ASKED]), "output": "Yes."}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(value: Any) -> tuple[Reading, list[Example]]:
    Path("x.json").write_text(json.dumps(value, indent=1), encoding="utf-8")
    reading = open_examples(Path("x.json"))
    return reading, list(reading)


def attributes(plain: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in plain.items()]


def otlp(plain: dict[str, str], *events: tuple[str, dict[str, str]]) -> dict[str, Any]:
    told = [{"name": name, "attributes": attributes(given)} for name, given in events]
    span = {"traceId": "t", "spanId": "s", "attributes": attributes(plain), "events": told}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def asks(example: Example) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in example.messages]


OPENINFERENCE = {
    "llm.input_messages.0.message.role": "user",
    "llm.input_messages.0.message.contents.0.message_content.type": "text",
    "llm.input_messages.0.message.contents.0.message_content.text": "Is it open?",
    "llm.input_messages.0.message.contents.1.message_content.type": "image",
    "llm.input_messages.0.message.contents.1.message_content.image.image.url": PIXEL,
    "llm.output_messages.0.message.content": "Yes.",
    "llm.tools.0.tool.json_schema": json.dumps(TOOL),
}
NESTED = {
    "llm": {
        "input_messages": [
            {
                "message": {
                    "role": "user",
                    "contents": [
                        {"message_content": {"type": "text", "text": "Is it open?"}},
                        {"message_content": {"type": "image", "image": {"image": {"url": PIXEL}}}},
                    ],
                }
            }
        ],
        "output_messages": [{"message": {"role": "assistant", "content": "Yes."}}],
        "tools": [{"tool": {"json_schema": json.dumps(TOOL)}}],
    }
}
PARTS = [
    {
        "role": "user",
        "parts": [
            {"type": "text", "content": "Is it open?"},
            {
                "type": "blob",
                "modality": "image",
                "mime_type": "image/png",
                "content": "iVBORw0KGgo=",
            },
        ],
    }
]
ANSWERED = [
    {
        "role": "assistant",
        "parts": [{"type": "reasoning", "content": "Hm."}, {"type": "text", "content": "Yes."}],
    }
]
CURRENT = {
    "gen_ai.input.messages": json.dumps(PARTS),
    "gen_ai.output.messages": json.dumps(ANSWERED),
    "gen_ai.tool.definitions": json.dumps(
        [{"type": "function", "name": "hours", "parameters": {"type": "object"}}]
    ),
}
CONTEXT = {"name": "chat", "context": {"span_id": "s", "trace_id": "t"}, "span_kind": "LLM"}
WITH_IMAGE = {
    "OpenInference over OTLP": otlp(OPENINFERENCE),
    "OpenTelemetry over OTLP": otlp(CURRENT),
    "an answer of Phoenix": {
        "data": [CONTEXT | {"attributes": OPENINFERENCE}],
        "next_cursor": None,
    },
    "spans of Phoenix, nested": [CONTEXT | {"attributes": NESTED}],
    "an OTLP answer of Phoenix": {
        "data": [{"span_id": "s", "trace_id": "t", "attributes": attributes(OPENINFERENCE)}],
        "next_cursor": "x",
    },
}


@pytest.mark.parametrize("export", WITH_IMAGE.values(), ids=WITH_IMAGE)
def test_text_and_image_in_parts_and_the_tools_that_were_offered_are_read(export: Any) -> None:
    reading, [example] = read(export)
    assert (reading.bad, reading.confidence >= 0.9) == ([], True)
    assert example.messages == (Message(role="user", content="Is it open?", images=(PIXEL,)),)
    assert (example.reference, example.tools) == ("Yes.", (TOOL,))
    assert (example.id, example.cluster, example.tags) == ("s", "t", ("trace",))


EVENTS = {
    "attributes": [
        ("gen_ai.system.message", {"content": "Be brief."}),
        ("gen_ai.user.message", {"content": "Is it open?"}),
        ("gen_ai.choice", {"index": "0", "message": json.dumps({"content": "Yes."})}),
    ],
    "bodies": [
        ("gen_ai.system.message", {"gen_ai.event.content": '{"content": "Be brief."}'}),
        ("gen_ai.user.message", {"gen_ai.event.content": '{"content": "Is it open?"}'}),
        ("gen_ai.choice", {"gen_ai.event.content": '{"message": {"content": "Yes."}}'}),
    ],
    "one list": [
        (
            "gen_ai.content.prompt",
            {"gen_ai.prompt": json.dumps([{"role": "system", "content": "Be brief."}, ASKED])},
        ),
        (
            "gen_ai.content.completion",
            {"gen_ai.completion": json.dumps([{"role": "assistant", "content": "Yes."}])},
        ),
    ],
}


@pytest.mark.parametrize("events", EVENTS.values(), ids=EVENTS)
def test_what_older_conventions_tell_in_events_is_read(
    events: list[tuple[str, dict[str, str]]],
) -> None:
    _, [example] = read(otlp({"gen_ai.request.model": "m"}, *events))
    assert asks(example) == [("system", "Be brief."), ("user", "Is it open?")]
    assert (example.reference, example.other["model"]) == ("Yes.", "m")


@pytest.mark.parametrize(
    ("export", "reason"),
    [
        (otlp({"llm.input_messages.0.message.role": "user"}), "without content"),
        (otlp({}, ("gen_ai.user.message", {"id": "1"})), "is null"),
        (
            otlp({"gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "file"}]}]'}),
            "of type 'file'",
        ),
    ],
)
def test_content_that_was_not_recorded_is_no_empty_text(export: Any, reason: str) -> None:
    reading, found = read(export)
    assert found == []
    assert reason in reading.bad[0].reason


EXPORTS = {
    "an observation of the blob storage": (
        LANGFUSE | {"trace_id": "t", "type": "GENERATION", "provided_model_name": "m"},
        "t",
        "m",
    ),
    "an answer of the second API": (
        {"data": [LANGFUSE | {"traceId": "t", "type": "GENERATION", "model": "m"}], "meta": {}},
        "t",
        "m",
    ),
    "traces of the API": (
        {"data": [LANGFUSE | {"timestamp": "2026", "sessionId": "u", "observations": ["o2"]}]},
        "u",
        None,
    ),
    "an exported table of traces": (
        [LANGFUSE | {"timestamp": "2026", "bookmarked": False, "tags": ["vip"]}],
        "",
        None,
    ),
    "a downloaded trace": (
        {
            "trace": {"id": "t", "input": "x", "output": "y"},
            "observations": [
                {"id": "o0", "traceId": "t", "type": "SPAN", "input": "x", "output": "y"},
                LANGFUSE | {"traceId": "t", "type": "GENERATION", "model": "m"},
            ],
        },
        "t",
        "m",
    ),
}


@pytest.mark.parametrize(("export", "cluster", "model"), EXPORTS.values(), ids=EXPORTS)
def test_each_export_of_langfuse_is_told_and_read(
    export: Any, cluster: str, model: str | None
) -> None:
    reading, [example] = read(export)
    assert (reading.form, reading.bad) == ("langfuse", [])
    assert asks(example) == [("user", "Is it open?")]
    assert (example.id, example.cluster, example.reference) == ("o1", cluster, "Yes.")
    assert example.other.get("model") == model


def test_a_table_of_phoenix_that_holds_lists_as_python_text_gives_the_request_itself() -> None:
    request = {"model": "m", "messages": [ASKED]}
    answer = {"choices": [{"message": {"role": "assistant", "content": "Yes."}}]}
    row = {
        "context.span_id": "s",
        "span_kind": "LLM",
        "attributes.llm.input_messages": "[{'message.role': 'user'}]",
        "attributes.input.value": json.dumps(request),
        "attributes.output.value": json.dumps(answer),
    }
    _, [example] = read([row])
    assert asks(example) == [("user", "Is it open?")]
    assert example.reference == "Yes."


HOURS = {"type": "function", "name": "hours", "parameters": {"type": "object"}}
SDK = {
    "ai.operationId": "ai.generateText.doGenerate",
    "ai.model.id": "m",
    "gen_ai.request.model": "m",
    "gen_ai.input.messages": '[{"role": "user", "parts": []}]',
}
CALLED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Is it open?"}]},
    {
        "role": "assistant",
        "content": [
            {"type": "reasoning", "text": "Hm."},
            {"type": "tool-call", "toolCallId": "c1", "toolName": "hours", "input": {"day": "Mo"}},
        ],
    },
    {
        "role": "tool",
        "content": [
            {
                "type": "tool-result",
                "toolCallId": "c1",
                "toolName": "hours",
                "output": {"type": "json", "value": {"open": 9}},
            }
        ],
    },
]


def ai_sdk(said: list[Any], **more: Any) -> dict[str, Any]:
    """A request of Vercel's AI SDK, with the span of the whole call and of a tool beside it."""
    export = otlp(SDK | {"ai.prompt.messages": json.dumps(said)} | more)
    whole = {"ai.operationId": "ai.generateText", "ai.prompt": "{}", "ai.response.text": "Yes."}
    tool = {"ai.operationId": "ai.toolCall", "ai.toolCall.name": "hours"}
    spans = export["resourceSpans"][0]["scopeSpans"][0]["spans"]
    offered = {"values": [{"stringValue": json.dumps(HOURS)}]}
    spans[0]["attributes"].append({"key": "ai.prompt.tools", "value": {"arrayValue": offered}})
    spans += [{"spanId": n, "attributes": attributes(a)} for n, a in (("w", whole), ("t", tool))]
    return export


def test_a_request_of_vercels_sdk_is_read_once_with_its_tools_calls_and_results() -> None:
    reading, [example] = read(ai_sdk(CALLED, **{"ai.response.text": "Yes."}))
    assert (reading.form, reading.bad, reading.skipped) == ("otlp", [], 2)
    assert asks(example) == [
        ("system", "Be brief."), ("user", "Is it open?"), ("assistant", ""), ("tool", '{"open":9}')
    ]  # fmt: skip
    [call] = example.messages[2].tool_calls
    assert call["function"] == {"name": "hours", "arguments": '{"day":"Mo"}'}
    assert example.messages[3].tool_call_id == "c1"
    assert (example.reference, example.tools, example.other["model"]) == ("Yes.", (TOOL,), "m")


@pytest.mark.parametrize(
    "answer",
    [
        {"ai.response.toolCalls": '[{"toolCallId":"c2","toolName":"hours","input":"{}"}]'},
        {"ai.response.text": "", "ai.response.toolCalls":
         '[{"toolCallId":"c2","toolName":"hours","input":{}}]'},
        {"ai.result.toolCalls": '[{"toolCallType":"function","toolCallId":"c2","toolName":"hours",'
         '"args":"{}"}]'},
    ],
    ids=["version 5", "version 6", "version 3"],
)  # fmt: skip
def test_an_answer_of_vercels_sdk_that_calls_a_tool_is_a_call(answer: dict[str, str]) -> None:
    _, [example] = read(ai_sdk(CALLED[:2], **answer))
    function = {"name": "hours", "arguments": "{}"}
    assert example.reference is None
    assert example.calls == ({"id": "c2", "type": "function", "function": function},)


@pytest.mark.parametrize(
    "image",
    [
        {"type": "image", "image": "iVBORw0KGgo=", "mimeType": "image/png"},
        {"type": "file", "mediaType": "image/png", "data": "iVBORw0KGgo="},
        {"type": "file", "mediaType": "image/*", "data": PIXEL},
    ],
)
def test_images_of_vercels_sdk_are_read_and_other_files_are_refused(image: dict[str, str]) -> None:
    said = [{"role": "user", "content": [{"type": "text", "text": "Open?"}, image]}]
    _, [example] = read(ai_sdk(said, **{"ai.response.object": '{"open": true}'}))
    assert example.messages[0].images == (PIXEL,)
    assert example.reference == '{"open": true}'
    said[0]["content"] = [{"type": "file", "mediaType": "application/pdf", "data": "x"}]
    reading, found = read(ai_sdk(said))
    assert (found, "of type 'file'" in reading.bad[0].reason) == ([], True)

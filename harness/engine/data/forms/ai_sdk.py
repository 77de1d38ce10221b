"""What spans of Vercel's AI SDK tell of a dialogue: `ai.prompt.messages` and so on. Knows no file.

A call is told twice, by a span of the whole (`ai.generateText`) and by one of each request within
(`ai.generateText.doGenerate`): requests are read, so that no row stands twice.
Source: https://ai-sdk.dev/docs/ai-sdk-core/telemetry (versions 3 to 6; version 7 writes
OpenTelemetry's own attributes) and the messages of its language model specification: images are
parts `image` in version 1, `file` since; results of tools are `result`, then `output`; schemas
`parameters`, then `inputSchema`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.engine.data.forms.base import Object, text_of
from harness.engine.data.forms.spans import call_of, content_of, image_part, json_of, text_part
from harness.records import Json

MODELS = ("ai.response.model", "ai.model.id")
REQUESTS = (".doGenerate", ".doStream")


def is_beside(attributes: Object) -> bool:
    """Whether this is a span of the SDK that asked no model: a whole call, a tool, vectors."""
    operation = attributes.get("ai.operationId")
    return (
        isinstance(operation, str)
        and operation.startswith("ai.")
        and not operation.endswith(REQUESTS)
    )


def ai_sdk_messages(attributes: Object) -> tuple[list[Json], list[Json]]:
    """Return what a request said, and the reply, as OpenAI writes messages; nothing where it is no
    span of the SDK. Raises ValueError for a part that no message holds.
    """
    prompt = json_of(attributes.get("ai.prompt.messages"))
    if not isinstance(prompt, list):
        return [], []
    said = [one for message in prompt for one in _messages(message)]
    return said, _reply(attributes)


def ai_sdk_tools(attributes: Object) -> list[Json]:
    """Return the tools that were offered, as OpenAI names their parts."""
    offered = json_of(attributes.get("ai.prompt.tools"))
    found: list[Json] = []
    for one in map(json_of, offered if isinstance(offered, list) else []):
        if isinstance(one, Mapping):
            schema = one.get("inputSchema", one.get("parameters"))
            rest = {k: v for k, v in one.items() if k not in {"inputSchema", "parameters"}}
            found.append({**rest, **({"parameters": schema} if schema is not None else {})})
    return found


def _reply(attributes: Object) -> list[Json]:
    told = [
        _first(attributes, f"ai.response.{name}", f"ai.result.{name}")
        for name in ("text", "object", "toolCalls")
    ]
    text = told[0] if told[0] not in (None, "") else told[1]
    given = json_of(told[2])
    calls = [_call(c) for c in given if isinstance(c, Mapping)] if isinstance(given, list) else []
    if text is None and not calls:
        return []
    message: dict[str, Json] = {"role": "assistant", "content": text if text or not calls else None}
    return [message | ({"tool_calls": calls} if calls else {})]


def _first(attributes: Object, *names: str) -> Json:
    return next((attributes[n] for n in names if attributes.get(n) is not None), None)


def _call(call: Object) -> Json:
    return call_of(call.get("toolCallId"), call.get("toolName"), _first(call, "input", "args"))


def _messages(message: Json) -> Iterator[Json]:
    """Yield a message; of one with the results of several tools, one for each."""
    if not isinstance(message, Mapping):
        raise ValueError("a message of the span is no object")
    role, content = message.get("role"), message.get("content")
    if not isinstance(content, list):
        yield {"role": role, "content": content}
        return
    parts = [part for part in content if isinstance(part, Mapping)]
    if role == "tool":
        yield from map(_result, parts)
        return
    calls = [_call(part) for part in parts if part.get("type") == "tool-call"]
    shown = [one for part in parts if (one := _part(part)) is not None]
    found: dict[str, Json] = {
        "role": role,
        "content": content_of(shown) if shown or not calls else None,
    }
    yield found | ({"tool_calls": calls} if calls else {})


def _part(part: Object) -> Object | None:
    """Return a part that a message shows; None for a call, and for thoughts."""
    kind = part.get("type")
    if kind in {"tool-call", "reasoning", "redacted-reasoning"}:
        return None
    if kind == "text":
        return text_part(part.get("text", ""))
    media = str(_first(part, "mediaType", "mimeType") or "")
    data = part.get("image") if kind == "image" else part.get("data")
    if (kind == "image" or media.startswith("image/")) and isinstance(data, str):
        is_url = data.startswith(("data:", "http:", "https:"))
        is_named = media and not media.endswith("*")
        return image_part(
            data if is_url else f"data:{media if is_named else 'image/png'};base64,{data}"
        )
    raise ValueError(f"a message has a part of type {kind!r}, which no form here holds")


def _result(part: Object) -> Json:
    """Return what a tool answered."""
    told = part.get("output", part.get("result"))
    if isinstance(told, Mapping) and set(told) >= {"type", "value"}:
        told = told["value"]
        if _is_texts(told):
            told = "\n".join(str(one["text"]) for one in told)
    return {"role": "tool", "tool_call_id": part.get("toolCallId"), "content": text_of(told)}


def _is_texts(value: Json) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(
            isinstance(one, Mapping) and one.get("type") == "text" and "text" in one
            for one in value
        )
    )

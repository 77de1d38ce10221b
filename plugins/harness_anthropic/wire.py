"""Requests and replies as JSON of the Messages API. Knows nothing of sockets, keys or retries.

Tools and tool calls are in OpenAI's shape on our side and in Anthropic's on the wire; a call's
`arguments` is an object, as everywhere in the harness. A model's thoughts are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from harness import BackendError, Message, Reply, Request
from harness_anthropic.tables import Model

REPLY_TOOL = "harness_reply"
FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
}
_IMAGE = re.compile(r"data:(image/[\w.+-]+);base64,([A-Za-z0-9+/=\s]+)")


def to_body(request: Request, *, model: Model, name: str) -> dict[str, Any]:
    """Return the body of `request`, without the model's name.

    Raises BackendError where the request needs what `model` (called `name`) would not do.
    """
    system, messages = _turns(request.messages)
    body: dict[str, Any] = {"max_tokens": request.decoding.max_tokens, "messages": messages}
    if system:
        body["system"] = system
    body |= _sampling(request, model=model, name=name)
    if request.decoding.stop:
        blank = [s for s in request.decoding.stop if not s.strip()]
        if blank:
            raise BackendError(
                f"the API takes no stop text of white space alone ({blank[0]!r}): cut the reply "
                "in the eval, or stop at a text"
            )
        body["stop_sequences"] = list(request.decoding.stop)
    if request.tools:
        body["tools"] = [_tool(t, is_native=model.schema == "native") for t in request.tools]
    if request.schema is not None:
        body |= _schema(request, model=model, name=name)
    return body


def to_reply(
    payload: Mapping[str, Any],
    *,
    is_forced: bool,
    latency_s: float | None,
    cost_usd: float | None,
) -> Reply:
    """Return the reply in a message. `is_forced` = its text is what the reply tool was given.

    Raises ValueError where `payload` is no message.
    """
    content = payload.get("content")
    if not isinstance(content, list) or not all(isinstance(b, Mapping) for b in content):
        raise ValueError("no list of content blocks")
    texts = [b.get("text") for b in content if b.get("type") == "text"]
    text = "".join(t for t in texts if isinstance(t, str))
    calls = [b for b in content if b.get("type") == "tool_use"]
    finish = payload.get("stop_reason")
    finish = FINISH.get(finish, finish) if isinstance(finish, str) else None
    if is_forced and calls:
        text = json.dumps(calls[0].get("input"), separators=(",", ":"), ensure_ascii=False)
        calls, finish = [], "stop" if finish == "tool_calls" else finish
    usage, model = usage_of(payload), payload.get("model")
    return Reply(
        text=text,
        finish_reason=finish,
        input_tokens=_input_tokens(usage),
        output_tokens=_count(usage, "output_tokens"),
        latency_s=latency_s,
        cost_usd=cost_usd,
        model=model if isinstance(model, str) else None,
        tool_calls=tuple(_call_in(c) for c in calls),
    )


def is_forced(request: Request, *, model: Model) -> bool:
    """Return whether the reply to `request` comes as the input of the reply tool."""
    return request.schema is not None and model.schema == "tool"


def usage_of(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the token counts of a message, empty where there are none."""
    usage = payload.get("usage")
    return usage if isinstance(usage, Mapping) else {}


# ---------------------------------------------------------------- what is sent


def _sampling(request: Request, *, model: Model, name: str) -> dict[str, Any]:
    temperature, top_p = request.decoding.temperature, request.decoding.top_p
    if model.sampling == "own":
        # 0 is what every task asks for that says nothing, and 1 is what such a model does
        if temperature not in (0, 1) or top_p is not None:
            raise BackendError(
                f"{name} takes neither temperature nor top_p: it draws as at temperature 1. "
                "Leave them out of its [decoding]."
            )
        return {}
    if model.sampling == "free" or top_p is None:
        body = {"temperature": temperature}
        return body if top_p is None else {**body, "top_p": top_p}
    if temperature == 0:  # greedy: there is nothing to cut off
        return {"temperature": temperature}
    if temperature != 1:
        raise BackendError(f"{name} takes one of temperature and top_p: top_p needs temperature 1")
    return {"top_p": top_p}


def _schema(request: Request, *, model: Model, name: str) -> dict[str, Any]:
    if model.schema == "native":
        shape = {"type": "json_schema", "schema": request.schema}
        return {"output_config": {"format": shape}}
    if request.tools:
        raise BackendError(
            f"{name} has no structured output of its own: a schema takes the place of the tools. "
            "Use one of them, or a model of 4.5 or later."
        )
    schema = request.schema
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        raise BackendError(f"{name} takes only a schema whose type is object")
    tool = {"name": REPLY_TOOL, "description": "Give the reply.", "input_schema": schema}
    return {"tools": [tool], "tool_choice": {"type": "tool", "name": REPLY_TOOL}}


def _turns(messages: tuple[Message, ...]) -> tuple[str, list[dict[str, Any]]]:
    """System text apart; turns of one role joined, since tool results must come in one message."""
    system = [m.content for m in messages if m.role == "system"]
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    open_calls: list[str] = []
    for message in messages:
        if message.role == "system":
            if turns:
                raise BackendError("the API takes system text before the first turn only")
            continue
        if message.tool_calls:
            open_calls = [_call_id(c, n) for n, c in enumerate(message.tool_calls)]
        blocks = _blocks(message, open_calls)
        role = "assistant" if message.role == "assistant" else "user"
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, blocks))
    return "\n\n".join(system), [
        {"role": role, "content": _plain(blocks)} for role, blocks in turns
    ]


def _plain(blocks: list[dict[str, Any]]) -> Any:
    is_text = len(blocks) == 1 and blocks[0]["type"] == "text"
    return blocks[0]["text"] if is_text else blocks


def _blocks(message: Message, open_calls: list[str]) -> list[dict[str, Any]]:
    if message.role == "tool":
        name = message.tool_call_id or (open_calls.pop(0) if open_calls else "")
        return [{"type": "tool_result", "tool_use_id": name, "content": message.content}]
    rest = [_image(url) for url in message.images]
    rest += [_call_out(c, n) for n, c in enumerate(message.tool_calls)]
    # an empty text block is refused, and beside others it says nothing
    is_said = bool(message.content) or not rest
    return [*([{"type": "text", "text": message.content}] if is_said else []), *rest]


def _image(url: str) -> dict[str, Any]:
    found = _IMAGE.fullmatch(url)
    if found is None:
        raise BackendError(f"an image is not `data:image/...;base64,...` but {url[:40]!r}")
    source = {"type": "base64", "media_type": found[1], "data": "".join(found[2].split())}
    return {"type": "image", "source": source}


def _tool(tool: Any, *, is_native: bool) -> Any:
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or "name" not in function or "input_schema" in function:
        return tool  # Anthropic's own shape, a tool of the server's perhaps
    made: dict[str, Any] = {
        "name": function["name"],
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    if function.get("description"):
        made["description"] = function["description"]
    if function.get("strict"):
        if not is_native:
            raise BackendError(f"the tool {made['name']} is strict, which this model does not know")
        made["strict"] = True
    return made


def _call_id(call: Any, number: int) -> str:
    return str((call.get("id") if isinstance(call, Mapping) else None) or f"call_{number}")


def _call_out(call: Any, number: int) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    function = function if isinstance(function, Mapping) else {}
    given = function.get("arguments", {})
    if isinstance(given, str):
        try:
            given = json.loads(given or "{}")
        except (ValueError, RecursionError):
            given = None
    if not isinstance(given, Mapping) or not isinstance(function.get("name"), str):
        raise BackendError(f"tool call {number} has no name and arguments that are an object")
    name = _call_id(call, number)
    return {"type": "tool_use", "id": name, "name": function["name"], "input": given}


# ---------------------------------------------------------------- what came back


def _call_in(block: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": block.get("name"), "arguments": block.get("input", {})}
    return {"id": block.get("id"), "type": "function", "function": function}


def _input_tokens(usage: Mapping[str, Any]) -> int | None:
    # the API counts what the prompt cache read and wrote apart
    kept = [
        _count(usage, name) for name in ("cache_read_input_tokens", "cache_creation_input_tokens")
    ]
    sent = _count(usage, "input_tokens")
    return None if sent is None else sent + sum(n or 0 for n in kept)


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None

"""Requests and replies as JSON of the chat API. Knows nothing of sockets, keys or retries.

Tools and tool calls are in OpenAI's shape on both sides; here a call's `arguments` is an object,
as chat templates want it, and stays text only where the model wrote no valid JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness import BackendError, Message, Reply, Request
from harness_openai.presets import Preset


def to_body(request: Request, *, model: str, preset: Preset) -> dict[str, Any]:
    """Return the body of `request` for a server of `preset`.

    Raises BackendError where the request needs what the server would ignore in silence.
    """
    decoding = request.decoding
    is_sampled = decoding.temperature > 0
    lacking = [
        name
        for name, is_needed in (
            ("schema", request.schema is not None),
            ("tools", bool(request.tools)),
            ("stop", bool(decoding.stop)),
            ("seed", decoding.seed is not None and is_sampled),
        )
        if is_needed and name not in preset.honours
    ]
    if lacking:
        raise BackendError(
            f"servers of the preset {preset.name!r} do not honour {', '.join(lacking)}. "
            "If this one does, name its kind in the base URL, as in http://localhost:8000/v1#vllm."
        )
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(m) for m in request.messages],
        "temperature": decoding.temperature,
        preset.token_limit: decoding.max_tokens,
        **preset.body,
    }
    if is_sampled:
        body |= preset.sampled_body
    if decoding.top_p is not None:
        body["top_p"] = decoding.top_p
    if decoding.seed is not None and "seed" in preset.honours:
        body["seed"] = decoding.seed
    if decoding.stop:
        body["stop"] = list(decoding.stop)
    if request.tools:
        body["tools"] = [_tool(t) for t in request.tools]
    if request.schema is not None:
        shape = {"name": "reply", "schema": request.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": shape}
    return body


def to_reply(
    payload: Mapping[str, Any], *, stop: tuple[str, ...], latency_s: float, cost_usd: float | None
) -> Reply:
    """Return the reply in a chat completion. Raises ValueError where `payload` is none."""
    choices = payload.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise ValueError("no choices[0].message")
    usage = usage_of(payload)
    finish, model = choice.get("finish_reason"), payload.get("model")
    calls = message.get("tool_calls")
    return Reply(
        text=_until(_text(message), stop),
        finish_reason=finish if isinstance(finish, str) else None,
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        latency_s=latency_s,
        cost_usd=cost_usd,
        model=model if isinstance(model, str) else None,
        tool_calls=tuple(_call(c) for c in calls) if isinstance(calls, list) else (),
    )


def usage_of(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the token counts of a chat completion, empty where there are none."""
    usage = payload.get("usage")
    return usage if isinstance(usage, Mapping) else {}


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):  # parts, as some servers answer
        parts = [p.get("text") for p in content if isinstance(p, Mapping)]
        content = "".join(p for p in parts if isinstance(p, str))
    # a refusal comes in a field of its own, and is what the model said
    content = content or message.get("refusal")
    return content if isinstance(content, str) else ""


def _until(text: str, stop: tuple[str, ...]) -> str:
    # by contract the stop string is left out; `transformers serve` leaves it in
    found = [at for s in stop if s and (at := text.find(s)) >= 0]
    return text[: min(found)] if found else text


def _message(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        plain["tool_calls"] = [_call_out(c) for c in message.tool_calls]
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _tool(tool: Any) -> Any:
    is_bare = isinstance(tool, Mapping) and "function" not in tool and "type" not in tool
    return {"type": "function", "function": tool} if is_bare else tool


def _call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def _call_out(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or isinstance(function.get("arguments"), str):
        return call
    arguments = json.dumps(function.get("arguments", {}), ensure_ascii=False)
    return {"type": "function", **call, "function": {**function, "arguments": arguments}}

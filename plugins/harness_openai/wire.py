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
            ("logprobs", decoding.logprobs is not None),
            ("images", any(m.images for m in request.messages)),
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
        "messages": [message_out(m) for m in request.messages],
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
    if decoding.logprobs is not None:
        body["logprobs"] = True
        body["top_logprobs"] = max(decoding.logprobs, preset.min_top_logprobs)
    if request.tools:
        body["tools"] = [tool_out(t) for t in request.tools]
    if request.schema is not None:
        shape = {"name": "reply", "schema": request.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": shape}
    return body


def to_reply(
    payload: Mapping[str, Any],
    *,
    stop: tuple[str, ...] = (),
    logprobs: int | None = None,
    latency_s: float | None = None,
    cost_usd: float | None = None,
) -> Reply:
    """Return the reply in a chat completion, its text cut at `stop`, with at most `logprobs`
    alternatives a token.

    Raises ValueError where `payload` is none.
    """
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
        logprobs=_logprobs(choice, most=logprobs),
    )


def usage_of(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the token counts of a chat completion, empty where there are none."""
    usage = payload.get("usage")
    return usage if isinstance(usage, Mapping) else {}


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def text_of(content: Any) -> str:
    """Return the text of a message's content: a text, or parts as some servers answer."""
    if isinstance(content, list):
        parts = [p.get("text") for p in content if isinstance(p, Mapping)]
        return "".join(p for p in parts if isinstance(p, str))
    return content if isinstance(content, str) else ""


def _text(message: Mapping[str, Any]) -> str:
    # a refusal comes in a field of its own, and is what the model said
    return text_of(message.get("content")) or text_of(message.get("refusal"))


def _logprobs(choice: Mapping[str, Any], *, most: int | None) -> tuple[Any, ...]:
    holder = choice.get("logprobs")
    tokens = None
    if isinstance(holder, Mapping):
        tokens = holder.get("content") or holder.get("refusal")
    found = []
    try:
        for token in tokens or ():
            top = token.get("top_logprobs") or ()
            found.append(
                {
                    "token": token["token"],
                    "logprob": _finite(token["logprob"]),
                    "top": [[t["token"], _finite(t["logprob"])] for t in top][:most],
                }
            )
    except (AttributeError, KeyError, TypeError) as exc:
        raise ValueError(f"logprobs of another shape: {exc!r}") from exc
    return tuple(found)


def _finite(logprob: Any) -> float:
    # JSON has no infinity; OpenAI says this number for what it gave no chance
    return max(-9999.0, float(logprob))


def _until(text: str, stop: tuple[str, ...]) -> str:
    # by contract the stop string is left out; `transformers serve` leaves it in
    found = [at for s in stop if s and (at := text.find(s)) >= 0]
    return text[: min(found)] if found else text


def message_out(message: Message) -> dict[str, Any]:
    """Return a turn as it is sent."""
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.images:
        text = [{"type": "text", "text": message.content}] if message.content else []
        shown = [{"type": "image_url", "image_url": {"url": url}} for url in message.images]
        plain["content"] = [*text, *shown]
    if message.tool_calls:
        plain["tool_calls"] = [_call_out(c) for c in message.tool_calls]
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def tool_out(tool: Any) -> Any:
    """Return a tool as it is sent: a bare function in its envelope."""
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
    if not isinstance(call, Mapping):
        return call
    function = call.get("function")
    if not isinstance(function, Mapping):  # as other backends, and people, write a call
        function = {k: call[k] for k in ("name", "arguments") if k in call}
    arguments = function.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    rest = {k: v for k, v in call.items() if k not in ("name", "arguments")}
    return {"type": "function", **rest, "function": {**function, "arguments": arguments}}

"""Tools as a chat template shows them, and calls as a model writes them. Knows no model.

Whether a model is shown tools is its template's affair, and how it writes a call its
`response_template`'s (transformers 5.23 reads one from tokenizer_config.json). Without the
first no tools are taken; without the second a call stays what it is, text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness import BackendError

PROBE = {
    "type": "function",
    "function": {
        "name": "harness_probe",
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {}},
    },
}


def shows_tools(tokenizer: Any) -> bool:
    """Tell whether the chat template shows tools to the model: by rendering one."""
    import jinja2

    if not tokenizer.chat_template:
        return False
    turns = [{"role": "user", "content": "?"}]
    try:
        text = tokenizer.apply_chat_template(
            turns, tools=[PROBE], add_generation_prompt=True, tokenize=False
        )
    except jinja2.TemplateError:
        return False
    return "harness_probe" in str(text)


def as_call(call: Any) -> dict[str, Any]:
    """Return a call as templates read one: of type function, its arguments an object.

    Raises BackendError where it has no name, or its arguments are no object.
    """
    inner = call.get("function", call) if isinstance(call, Mapping) else None
    name = inner.get("name") if isinstance(inner, Mapping) else None
    arguments = inner.get("arguments", {}) if isinstance(inner, Mapping) else None
    if isinstance(arguments, str):  # as OpenAI writes it
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            arguments = None
    if not isinstance(name, str) or not isinstance(arguments, Mapping):
        raise BackendError(
            f"no tool call: {json.dumps(call, ensure_ascii=False, default=str)[:120]}. It is "
            '{"function": {"name": ..., "arguments": {...}}}.'
        )
    return {"type": "function", "function": {"name": name, "arguments": dict(arguments)}}


def read_reply(
    tokenizer: Any, ids: Sequence[int], *, prompt_ids: Sequence[int], tools: Sequence[Any]
) -> tuple[str, tuple[Any, ...]] | None:
    """Return the text and the calls of a reply, or None where nothing says how to read it, or it
    holds no call that can be read.
    """
    template = getattr(tokenizer, "response_template", None)
    if template is None:
        return None
    try:
        message = tokenizer.parse_response(list(ids), prefix=list(prompt_ids), tools=list(tools))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None  # what a model wrote may be anything; its text is kept as it is
    calls = message.get("tool_calls") if isinstance(message, Mapping) else None
    if not isinstance(calls, list) or not calls:
        return None
    content = message.get("content")
    return content if isinstance(content, str) else "", tuple(calls)

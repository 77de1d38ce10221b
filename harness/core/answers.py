"""Where in a reply the answer stands. Knows nothing of evals or backends.

A prompt may have the model think before a marker line, or reply with a JSON object around the
answer. What evals see is the answer alone; the raw reply is what is recorded and shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace

from harness.records import Case, Json, Prompt, Reply


def is_wrapped(prompt: Prompt) -> bool:
    """Tell whether a reply to `prompt` holds more than the answer."""
    return bool(prompt.answer_after or prompt.answer_key)


def answer_of(prompt: Prompt, reply: Reply) -> Reply:
    """Return `reply` with the answer as its text; as it is where the prompt names no place for it.

    A reply without the marker or the key is its own answer: a model that skips its thoughts has
    answered too, and one that never came to the answer is judged by what it said.
    """
    text = reply.text
    if prompt.answer_after:
        text = _after(text, prompt.answer_after)
    if prompt.answer_key:
        text = _at_key(text, prompt.answer_key)
    return reply if text is reply.text else replace(reply, text=text)


def reply_for(prompt: Prompt, reference: Json, *, text: str) -> str:
    """Return a reference, `text` in short, as a reply to `prompt` would say it."""
    if prompt.answer_key:
        value = _typed(prompt.schema, prompt.answer_key, reference)
        text = json.dumps({prompt.answer_key: value}, ensure_ascii=False, separators=(", ", ": "))
    return f"{prompt.answer_after} {text}" if prompt.answer_after else text


def called(reference: Json) -> tuple[str, tuple[Json, ...]] | None:
    """Return the text and the calls of a reference that is a reply with tool calls, as
    `{"tool_calls": [...]}` (and perhaps `content`); None for any other.
    """
    if not isinstance(reference, Mapping) or not set(reference) <= {"content", "tool_calls"}:
        return None
    calls = reference.get("tool_calls")
    if not isinstance(calls, list) or not calls or not all(isinstance(c, Mapping) for c in calls):
        return None
    return str(reference.get("content") or ""), tuple(calls)


def reference_reply(case: Case) -> Reply | None:
    """Return the reply that a case's reference stands for, as evals see it; None without one."""
    text = case.reference_text
    if text is None:
        return None
    said = called(case.reference)
    return Reply(text=text) if said is None else Reply(text=said[0], tool_calls=said[1])


def _after(text: str, marker: str) -> str:
    found = None
    for found in re.finditer(re.escape(marker), text, re.IGNORECASE):  # noqa: B007 - the last one
        pass
    if found is None:
        return text
    # `**Answer:** x` and `**Answer: x**` are how a model stresses it
    return text[found.end() :].strip().removeprefix("**").removesuffix("**").strip()


def _at_key(text: str, key: str) -> str:
    try:
        plain = json.loads(text)
        if not isinstance(plain, dict) or key not in plain:
            return text
        value = plain[key]
        if isinstance(value, str):
            return value
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):  # a model that repeats itself nests without end
        return text


def _typed(schema: Json, key: str, reference: Json) -> Json:
    """A number may be a text in the case file; the schema says what the model must write."""
    kinds = schema.get("properties", {}).get(key, {}) if isinstance(schema, dict) else {}
    is_number = isinstance(kinds, dict) and kinds.get("type") == "integer"
    return int(reference) if is_number and isinstance(reference, str) else reference

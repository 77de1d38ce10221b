"""ShareGPT's rows: `conversations` of `from` and `value`, as LLaMA-Factory and axolotl read them.

Source: LLaMA-Factory's data/README.md, Sharegpt Format (from: human, gpt, function_call,
observation, system; `system`, `tools`, `chosen`, `rejected`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from harness.core.examples import Example
from harness.engine.data.forms.base import Form, Object, kind_of, meta_of, text_of, with_meta
from harness.engine.data.forms.chat import tools_of
from harness.engine.data.forms.turns import (
    EXTRAS,
    WORSE_CALLS,
    Role,
    answer,
    asked,
    asked_and_answered,
    turns,
    worse_of,
)
from harness.engine.text_files import strict_json
from harness.records import Json, Message

KEYS = frozenset({"conversations", "conversation", "system", "tools", "chosen", "rejected"})
ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant",
    "system": "system", "observation": "tool", "tool": "tool",
}  # fmt: skip
OPENAIS = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
"""Roles of turns that are written as OpenAI does, with `role` and `content`."""
SAID = frozenset({"from", "value", "role", "content"})
NAMES = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}


def parse(row: Object, place: str) -> Example:
    """Return a ShareGPT row: the last answer is the reference. Raises ValueError."""
    said = row.get("conversations", row.get("conversation"))
    if isinstance(said, str) and said.startswith("["):
        said = strict_json(said)
    if not isinstance(said, list) or not said:
        raise ValueError("`conversations` must be a list of turns that is not empty")
    messages: list[Message] = []
    if row.get("system"):
        messages.append(Message(role="system", content=str(row["system"])))
    if all(isinstance(turn, Mapping) and turn.get("role") in tuple(OPENAIS) for turn in said):
        found, more = turns(said, key="conversations")
    else:
        found = tuple(_turn(turn, f"conversations[{n}]") for n, turn in enumerate(said))
        more = {str(n): rest for n, turn in enumerate(said) if (rest := _further(turn))}
    extras = {str(len(messages) + int(n)): keys for n, keys in more.items()}
    messages += found
    rejected, calls = None, {}
    if row.get("chosen") is not None:
        messages.append(better := _turn(row["chosen"], "chosen"))
        worse = _turn(row.get("rejected"), "rejected")
        if worse.role == "user":
            raise ValueError("user-in-rejected: `rejected` is a turn of the user")
        if not better.role == worse.role == "assistant":
            raise ValueError("`chosen` and `rejected` must be turns of the assistant")
        rejected = worse.content
        calls = worse_of(worse)["other"]
    meta: dict[str, Any] = meta_of(row, KEYS)
    if extras or calls:
        told = {EXTRAS: extras} if extras else {}
        meta["other"] = {**meta.get("other", {}), **told, **calls}
    return Example(
        place=place,
        rejected=rejected,
        **asked_and_answered(messages),
        **tools_of(row),
        **meta,
    )


def _turn(turn: Json, place: str) -> Message:
    if not isinstance(turn, Mapping):
        raise ValueError(f"{place} must be an object, not {kind_of(turn)}")
    who = turn.get("from", turn.get("role"))
    value = turn.get("value", turn.get("content"))
    if not isinstance(value, str):
        raise ValueError(f"the `value` of {place} must be text, not {kind_of(value)}")
    if who == "function_call":
        return Message(role="assistant", content="", tool_calls=_calls(value, place))
    if not isinstance(who, str) or who not in ROLES:
        raise ValueError(f"{place} is from {who!r}; known are {', '.join(ROLES)} and function_call")
    return Message(role=cast(Role, ROLES[who]), content=value)


def _further(turn: Mapping[str, Json]) -> dict[str, Json]:
    """Return the keys of a turn beside who says what, as axolotl's `weight`."""
    return {k: v for k, v in turn.items() if k not in SAID and v is not None}


def _calls(value: str, place: str) -> tuple[Json, ...]:
    found = strict_json(value)
    calls = found if isinstance(found, list) else [found]
    if not all(isinstance(c, Mapping) for c in calls):
        raise ValueError(f"the `value` of {place} must be a call, as JSON")
    return tuple(calls)


def write(example: Example) -> dict[str, Json]:
    """Return an example as a ShareGPT row. Raises ValueError where it has no place for it."""
    said = list(asked(example))
    row: dict[str, Json] = {}
    if example.images or any(m.images for m in said):
        raise ValueError("it has images, which ShareGPT rows have no place for")
    if said and said[0].role == "system":
        row["system"] = said.pop(0).content
    worse = example.rejected
    replies = answer(example)
    if worse is None:
        said += replies
    written: list[Json] = []
    for message in said:
        if message.tool_calls:
            calls = list(message.tool_calls)
            value = text_of(calls[0] if len(calls) == 1 else calls)
            if message.content:
                written.append({"from": "gpt", "value": message.content})
            written.append({"from": "function_call", "value": value})
        else:
            written.append({"from": NAMES[message.role], "value": message.content})
    row["conversations"] = written
    if worse is not None:
        if not replies or example.calls:
            raise ValueError("a preference needs a better reply of text (reference, rejected)")
        row["chosen"] = {"from": "gpt", "value": replies[0].content}
        row["rejected"] = {"from": "gpt", "value": text_of(worse)}
    if example.tools:
        row["tools"] = text_of(list(example.tools))
    if any(k in KEYS for k in example.other):
        raise ValueError("it holds further keys with names that ShareGPT uses")
    row = with_meta(row, example)
    for key in (EXTRAS, WORSE_CALLS):
        row.pop(key, None)
    return row


def marks(row: Object) -> float:
    """Tell how sure a row makes us."""
    said = row.get("conversations", row.get("conversation"))
    if isinstance(said, list) and said and isinstance(said[0], Mapping):
        if {"from", "value"} <= said[0].keys():
            return 0.97
        return 0.9 if {"role", "content"} <= said[0].keys() else 0.2
    return 0.5 if isinstance(said, str) and said.startswith("[") else 0.0


FORM = Form(
    name="sharegpt",
    about="`conversations` of `from` and `value` (read too: of `role` and `content`)",
    carries="messages, tools, calls, reference, rejected, id, split, cluster, tags, provenance, "
    "further keys",
    parse=parse,
    marks=marks,
    why="rows have `conversations`, a list of turns",
    write=write,
)

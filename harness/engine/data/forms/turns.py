"""Chat messages as OpenAI writes them, to records and back. Knows no form that holds them.

A reason begins with the name that OpenAI's cookbook gives the error, where it has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from harness.core.examples import Example
from harness.engine.data.forms.base import kind_of, text_of
from harness.engine.text_files import strict_json
from harness.records import Json, Message

Role = Literal["system", "user", "assistant", "tool"]
ROLES = frozenset({"system", "user", "assistant", "tool"})
_PLAIN: tuple[Json, ...] = tuple(ROLES)
OLDER = {"developer": "system", "function": "tool"}
OWN = frozenset({"role", "content", "tool_calls", "tool_call_id"})
EXTRAS = "message_extras"
"""Where an Example keeps keys of messages that a Message has no place for, by turn."""

WORSE_CALLS = "rejected_calls"
"""Where an Example keeps the tool calls of its worse reply."""

Turns = tuple[tuple[Message, ...], dict[str, Json]]


def turns(value: Json, *, key: str) -> Turns:
    """Return messages, and their further keys by turn. Raises ValueError."""
    if isinstance(value, str) and value.startswith("["):  # a cell of a table
        value = strict_json(value)
    if not isinstance(value, list | tuple):
        raise ValueError(f"missing_messages_list: `{key}` must be a list of messages")
    extras: dict[str, Json] = {}
    value = _newer(value)
    found = tuple([_message(m, number, key, extras) for number, m in enumerate(value)])
    return found, extras


def _newer(turns: Sequence[Json]) -> Sequence[Json]:
    """Return turns whose `function_call`, as OpenAI wrote calls until 2023, is a call of today;
    what a function answered is a tool's answer to it.
    """
    if not any(isinstance(t, Mapping) and _is_older_call(t) for t in turns):
        return turns
    found: list[Json] = []
    open_id = ""
    for number, turn in enumerate(turns):
        new = turn
        if isinstance(turn, Mapping) and _is_older_call(turn):
            open_id = f"call_{number}"
            call = {"id": open_id, "type": "function", "function": turn["function_call"]}
            rest = {k: v for k, v in turn.items() if k != "function_call"}
            new = {"content": None, **rest, "tool_calls": [call]}
        elif isinstance(turn, Mapping) and turn.get("role") == "function" and open_id:
            new = {**turn, "role": "tool", "tool_call_id": open_id}
            open_id = ""
        found.append(new)
    return found


def _is_older_call(turn: Mapping[str, Json]) -> bool:
    call = turn.get("function_call")
    return isinstance(call, Mapping) and "name" in call and not turn.get("tool_calls")


def _message(plain: Json, number: int, key: str, extras: dict[str, Json]) -> Message:
    place = f"{key}[{number}]"
    if not isinstance(plain, Mapping):
        raise ValueError(f"data_type: {place} must be an object, not {kind_of(plain)}")
    role: Any = plain.get("role")
    if len(plain) == 2 and role in _PLAIN and type(plain.get("content")) is str:
        return Message(role=role, content=plain["content"])  # almost every turn
    if role is None:
        raise ValueError(f"message_missing_key: {place} has no `role`")
    content = plain.get("content")
    calls = plain.get("tool_calls")
    more: dict[str, Json] = {}
    if not isinstance(role, str) or role not in ROLES:
        if not isinstance(role, str) or role not in OLDER:
            raise ValueError(
                f"unrecognized_role: {place} has the role {role!r}; known are "
                "system, developer, user, assistant, tool and function"
            )
        more["role"], role = role, OLDER[role]
    images: tuple[str, ...] = ()
    if isinstance(content, list):
        content, images = _parts(content, place)
    elif content is None:
        if "content" not in plain and not calls and "function_call" not in plain:
            raise ValueError(f"message_missing_key: {place} has no `content`")
        if role != "assistant" or not (calls or "function_call" in plain):
            raise ValueError(f"missing_content: the `content` of {place} is null")
        content = ""
    elif not isinstance(content, str):
        raise ValueError(f"missing_content: the `content` of {place} is {kind_of(content)}")
    if calls is not None and not isinstance(calls, list):
        raise ValueError(f"data_type: the `tool_calls` of {place} must be a list")
    more |= {k: v for k, v in plain.items() if k not in OWN and v is not None}
    call_id = plain.get("tool_call_id")
    if more:
        extras[str(number)] = more
    return Message(
        role=cast(Role, role),
        content=content,
        tool_calls=tuple(calls or ()),
        tool_call_id=None if call_id is None else str(call_id),
        images=images,
    )


def _parts(content: list[Json], place: str) -> tuple[str, tuple[str, ...]]:
    """Return the text and the images of content in parts."""
    texts, images = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            url = part.get("image_url")
            url = url.get("url") if isinstance(url, Mapping) else url
            if not isinstance(url, str):
                raise ValueError(f"data_type: {place} has an image without a URL")
            images.append(url)
        else:
            what = kind or kind_of(part)
            raise ValueError(f"data_type: {place} has a part of an unknown type, {what!r}")
    return "\n".join(texts), tuple(images)


def plain_turns(messages: Sequence[Message], extras: Json = None) -> list[dict[str, Json]]:
    """Return messages as OpenAI writes them."""
    found: list[dict[str, Json]] = []
    for number, message in enumerate(messages):
        content: Json = message.content
        if message.images:
            shown = [{"type": "image_url", "image_url": {"url": i}} for i in message.images]
            text = [{"type": "text", "text": message.content}] if message.content else []
            content = [*text, *shown]
        plain: dict[str, Json] = {"role": message.role, "content": content}
        if message.tool_calls:
            plain["tool_calls"] = list(message.tool_calls)
            if not message.content:
                plain["content"] = None
        if message.tool_call_id is not None:
            plain["tool_call_id"] = message.tool_call_id
        if isinstance(extras, Mapping) and isinstance(extras.get(str(number)), Mapping):
            plain |= extras[str(number)]
        found.append(plain)
    return found


def asked_and_answered(messages: Sequence[Message]) -> dict[str, Any]:
    """Return the fields of an Example that a dialogue fills: its last assistant turn answers."""
    if not messages or messages[-1].role != "assistant" or messages[-1].images:
        return {"messages": tuple(messages)}
    last = messages[-1]
    reference = None if last.tool_calls and not last.content else last.content
    found = {"messages": tuple(messages[:-1]), "reference": reference, "calls": last.tool_calls}
    return {key: value for key, value in found.items() if value not in ((), None)}


def worse_of(message: Message) -> dict[str, Json]:
    """Return what a worse reply says, and in `other` what it calls."""
    calls = {WORSE_CALLS: list(message.tool_calls)} if message.tool_calls else {}
    return {"rejected": message.content, "other": calls}


def worse_turn(example: Example) -> dict[str, Json]:
    """Return the worse reply as OpenAI writes it."""
    calls = example.other.get(WORSE_CALLS)
    text = text_of(example.rejected)
    if not isinstance(calls, list) or not calls:
        return {"role": "assistant", "content": text}
    return {"role": "assistant", "content": text or None, "tool_calls": calls}


def asked(example: Example) -> tuple[Message, ...]:
    """Return what is asked as messages: a user turn where there are inputs alone. Beside turns
    that wait for an answer, inputs come first; behind a dialogue that was answered, they are the
    next turn.
    """
    if example.messages and not example.inputs:
        return example.messages
    turns_before = [m for m in example.messages if m.role != "system"]
    is_next = bool(turns_before) and turns_before[-1].role == "assistant"
    if len(example.inputs) == 1 and (is_next or not turns_before):
        text = text_of(next(iter(example.inputs.values())))
    else:
        text = "\n".join(f"{name}: {text_of(value)}" for name, value in example.inputs.items())
    if not example.inputs and not example.images:
        return example.messages
    first = Message(role="user", content=text, images=example.images)
    system = tuple(m for m in example.messages if m.role == "system")
    if is_next:
        return (*system, *turns_before, first)
    return (*system, first, *turns_before)


def answer(example: Example) -> tuple[Message, ...]:
    """Return the answer as the last turn; nothing where nobody knows it."""
    if example.reference is None and not example.calls:
        return ()
    text = "" if example.reference is None else text_of(example.reference)
    return (Message(role="assistant", content=text, tool_calls=example.calls),)

"""OpenAI's two formats for fine-tuning: chat and preference. Knows no file.

TRL's conversational language modelling rows (`messages`, `tools`) are the same as chat rows.
Source: https://platform.openai.com/docs/guides/supervised-fine-tuning and /direct-preference-
optimization; the names of errors are those of OpenAI's cookbook, Data preparation and analysis
for chat model fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.core.examples import Example
from harness.engine.data.forms.base import (
    META,
    Form,
    Object,
    kind_of,
    meta_of,
    no_user_turn,
)
from harness.engine.data.forms.turns import (
    EXTRAS,
    answer,
    asked,
    asked_and_answered,
    plain_turns,
    turns,
    worse_of,
    worse_turn,
)
from harness.engine.text_files import strict_json
from harness.records import Json

CHAT_KEYS = frozenset({"messages", "tools"})
PREFERENCE_KEYS = frozenset({"input", "preferred_output", "non_preferred_output"})


def parse_chat(row: Object, place: str) -> Example:
    """Return a chat row: its last assistant turn is the answer. Raises ValueError."""
    if "messages" not in row:
        raise ValueError("missing_messages_list: there is no `messages`")
    messages, extras = turns(row["messages"], key="messages")
    if not messages:
        raise ValueError("missing_messages_list: `messages` is empty")
    row = _with_tools(row)
    meta: dict[str, Any] = meta_of(row, CHAT_KEYS)
    if extras:
        meta["other"] = {**meta.get("other", {}), EXTRAS: extras}
    return Example(place=place, **asked_and_answered(messages), **tools_of(row), **meta)


def _with_tools(row: Object) -> Object:
    """Return a row whose `functions`, as OpenAI named tools until 2023, are its tools."""
    older = row.get("functions")
    if row.get("tools") or not isinstance(older, list) or not older:
        return row
    tools = [{"type": "function", "function": one} for one in older]
    return {k: v for k, v in row.items() if k != "functions"} | {"tools": tools}


def tools_of(row: Object) -> dict[str, Any]:
    """Return the tools of a row, as text too (a cell of a table). Raises ValueError."""
    tools = row.get("tools")
    if isinstance(tools, str) and tools:
        tools = strict_json(tools)
    if not tools:
        return {}
    if not isinstance(tools, list):
        raise ValueError(f"data_type: `tools` must be a list, not {kind_of(tools)}")
    return {"tools": tuple(tools)}


def write_chat(example: Example) -> dict[str, Json]:
    """Return a row with `messages`, and `tools` where there are any."""
    said = (*asked(example), *answer(example))
    row: dict[str, Json] = {"messages": plain_turns(said, example.other.get(EXTRAS))}
    if example.tools:
        row["tools"] = list(example.tools)
    keys = {k: v for k, v in example.other.items() if k == "parallel_tool_calls"}
    return row | keys


def parse_preference(row: Object, place: str) -> Example:
    """Return a preference: what is asked, the better and the worse reply. Raises ValueError."""
    asked_row = row.get("input")
    if not isinstance(asked_row, Mapping):
        raise ValueError("`input` must be an object with `messages`")
    messages, extras = turns(asked_row.get("messages"), key="input.messages")
    better, more = turns(row.get("preferred_output"), key="preferred_output")
    worse, _ = turns(row.get("non_preferred_output"), key="non_preferred_output")
    no_user_turn(worse, "non_preferred_output")
    for key, said in (("preferred_output", better), ("non_preferred_output", worse)):
        if len(said) != 1 or said[0].role != "assistant":
            raise ValueError(f"`{key}` must hold one assistant message")
    meta: dict[str, Any] = meta_of(row, PREFERENCE_KEYS)
    said_worse = worse_of(worse[0])
    other = {**meta.pop("other", {}), **said_worse["other"]}
    other |= {key: value for key, value in asked_row.items() if key not in CHAT_KEYS}
    if extras or more:
        other[EXTRAS] = extras | {str(len(messages) + int(k)): v for k, v in more.items()}
    given = asked_and_answered((*messages, better[0]))
    return Example(
        place=place,
        rejected=said_worse["rejected"],
        other=other,
        **given,
        **tools_of(asked_row),
        **meta,
    )


def write_preference(example: Example) -> dict[str, Json]:
    """Return a row with input, preferred_output, non_preferred_output. Raises ValueError."""
    if example.rejected is None or not answer(example):
        raise ValueError("a preference needs a better and a worse reply (reference, rejected)")
    before = asked(example)
    extras = example.other.get(EXTRAS)
    both = plain_turns((*before, *answer(example)), extras)
    question: dict[str, Json] = {"messages": both[:-1]}
    if example.tools:
        question["tools"] = list(example.tools)
    question |= {k: v for k, v in example.other.items() if k == "parallel_tool_calls"}
    return {
        "input": question,
        "preferred_output": [both[-1]],
        "non_preferred_output": [worse_turn(example)],
    }


def marks_chat(row: Object) -> float:
    """Tell how sure a row makes us."""
    if not isinstance(row.get("messages"), list):
        return 0.3 if row.keys() == {"messages"} else 0.0
    return 0.97 if row.keys() <= CHAT_KEYS | {*META, "parallel_tool_calls"} else 0.8


CHAT = Form(
    name="openai-chat",
    about="`messages` (and `tools`), for OpenAI's fine-tuning and for TRL's SFTTrainer",
    carries="messages, images, tools, reference, calls, further keys of messages",
    parse=parse_chat,
    marks=marks_chat,
    why="rows have `messages`, a list of turns",
    write=write_chat,
    aliases=("chat", "openai", "messages", "trl-messages"),
)
PREFERENCE = Form(
    name="openai-preference",
    about="`input`, `preferred_output`, `non_preferred_output`, for OpenAI's preference tuning",
    carries="messages, images, tools, reference, calls, rejected",
    parse=parse_preference,
    marks=lambda row: 0.99 if row.keys() >= PREFERENCE_KEYS else 0.0,
    why="rows have `input`, `preferred_output` and `non_preferred_output`",
    write=write_preference,
)

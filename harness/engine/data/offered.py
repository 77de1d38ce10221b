"""The tools that rows offer, and answers that call them, for a new task. Knows no file.

A prompt offers its tools to every case alike: only tools that all rows share can be carried over.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence

from harness.core.examples import Example
from harness.engine.text_files import strict_json
from harness.records import Json, Message, canonical_json

UNNAMED = ""


def shared_tools(examples: Sequence[Example]) -> tuple[Json, ...]:
    """Return the tools that every row offers, the same in all and each with a name; else none."""
    names = [name_of(tool) for tool in examples[0].tools] if examples else []
    if not names or len(set(names)) < len(names) or UNNAMED in names:
        return ()
    first = canonical_json(list(examples[0].tools))
    is_shared = all(canonical_json(list(e.tools)) == first for e in examples)
    return examples[0].tools if is_shared else ()


def name_of(tool: Json) -> str:
    """Return the name of a tool, in either shape in which it is offered."""
    inner = tool.get("function", tool) if isinstance(tool, Mapping) else None
    name = inner.get("name") if isinstance(inner, Mapping) else None
    return name if isinstance(name, str) else UNNAMED


def plain_call(call: Json) -> Json:
    """Return a call as `name` and `arguments`, an object; as it is where it is no call."""
    inner = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(inner, Mapping):
        return call
    arguments = inner.get("arguments", {})
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError):
            arguments = strict_json(arguments)
    return {"name": inner.get("name"), "arguments": arguments}


def reference_of(example: Example) -> Json:
    """Return the answer of a row that calls tools, as a case whose prompt offers them has it."""
    calls = [{"type": "function", "function": plain_call(call)} for call in example.calls]
    said = {} if example.reference in (None, "") else {"content": example.reference}
    return {**said, "tool_calls": calls}


DIALOGUE = "dialogue"
"""The input of a new task that holds the turns of a dialogue."""


def text_of_turn(message: Message) -> str:
    """Return what a turn says as one text: its content, and its calls as JSON."""
    calls = [json.dumps(plain_call(c), ensure_ascii=False) for c in message.tool_calls]
    return "\n".join(one for one in (message.content, *calls) if one)


def said_turns(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Return who says what, but for the system."""
    return [(m.role, text_of_turn(m)) for m in messages if m.role != "system"]


def dialogue_text(turns: Sequence[tuple[str, str]]) -> str:
    """Return the turns of a dialogue as one text, as the input `dialogue` of a new task has it."""
    return "\n".join(f"{role}: {text}" for role, text in turns)

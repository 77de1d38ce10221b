"""Faults of chat rows, in files as people export them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from tests.core.lints.planted import sentence
from tests.engine.data.plants.base import Kinds, Plant, line_by_line

Turn = dict[str, Any]
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
CALLING: Turn = {"role": "assistant", "content": None, "tool_calls": [CALL]}
OLD_CALL: Turn = {
    "role": "assistant",
    "content": None,
    "function_call": {"name": "find", "arguments": "{}"},
}
FOUND: Turn = {"role": "tool", "tool_call_id": "c1", "content": "14 parcels"}


def user(text: str) -> Turn:
    return {"role": "user", "content": text}


def assistant(text: str) -> Turn:
    return {"role": "assistant", "content": text}


def system(text: str) -> Turn:
    return {"role": "system", "content": text}


def chat(number: int, rng: random.Random) -> dict[str, Any]:
    """A dialogue of one or two rounds."""
    rounds = [[user(sentence(rng)), assistant(f"case {rng.randrange(10**9)}")] for _ in range(2)]
    turns = [system("Be brief."), *rounds[0], *(rounds[1] if number % 2 else ())]
    return {"messages": turns}


def put(at: int, **changes: Any) -> Callable[[Any, random.Random], Any]:
    """Change keys of one turn; `...` takes a key away."""

    def change(row: Any, rng: random.Random) -> Any:
        turns = list(row["messages"])
        turn = {**turns[at], **changes}
        turns[at] = {key: value for key, value in turn.items() if value is not ...}
        return {"messages": turns}

    return change


def swap(at: int, turn: Any) -> Callable[[Any, random.Random], Any]:
    """Put something else in the place of a turn."""

    def change(row: Any, rng: random.Random) -> Any:
        turns = list(row["messages"])
        turns[at] = turn
        return {"messages": turns}

    return change


def said(*turns: Any) -> Callable[[Any, random.Random], Any]:
    """A row of these turns; `...` stands for a sentence of its own."""

    def change(row: Any, rng: random.Random) -> Any:
        return {
            "messages": [
                {**t, "content": sentence(rng)} if t.get("content") is ... else t for t in turns
            ]
        }

    return change


def anything(value: Any) -> Callable[[Any, random.Random], Any]:
    return lambda row, rng: value


def ending(*turns: Turn) -> Callable[[Any, random.Random], Any]:
    return lambda row, rng: {"messages": [*row["messages"], *turns]}


ASK, ANSWER = user(...), assistant(...)  # type: ignore[arg-type]
PARTS = put(1, content=[{"type": "text", "text": "what is this?"}])
WITH_CALL = said(ASK, CALLING, FOUND, ANSWER)
WITH_OLD_CALL = said(ASK, OLD_CALL, {"role": "function", "name": "find", "content": "14"}, ANSWER)
ENDS_IN_CALL = said(ASK, CALLING)
ENDS_IN_OLD_CALL = said(ASK, OLD_CALL)
DEVELOPER = put(0, role="developer")
NAMED = put(1, name="ann")
WEIGHED = put(2, weight=0)
MORE = lambda row, rng: {**row, "topic": "parcels"}  # noqa: E731
USUAL: Kinds = {
    "content in parts": PARTS,
    "a call": WITH_CALL,
    "a call of the older kind": WITH_OLD_CALL,
    "ends in a call": ENDS_IN_CALL,
    "ends in a call of the older kind": ENDS_IN_OLD_CALL,
    "developer": DEVELOPER,
    "a name": NAMED,
    "a weight": WEIGHED,
    "a key beside messages": MORE,
}
"""What is right in OpenAI's format, and rare."""


def text_with(mark: str) -> Callable[[Any, random.Random], Any]:
    return lambda row, rng: put(1, content=f"{sentence(rng, words=1)} {mark} and so on")(row, rng)


def raw(change: Callable[[str], str | bytes]) -> Callable[[Any, random.Random], Any]:
    """A change of the line as it is written."""

    def changed(row: Any, rng: random.Random) -> bytes:
        line = change(json.dumps(row))
        return line if isinstance(line, bytes) else line.encode()

    return changed


def chats(faults: Kinds, alike: Kinds = USUAL) -> Any:
    return line_by_line(faults, alike, make=chat)


PLANTS = (
    Plant(
        rule="data_type",
        sow=chats(
            {
                "a list": lambda row, rng: row["messages"],
                "a text": anything("hello"),
                "a number": anything(7),
                "null": anything(None),
                "a turn that is a text": swap(1, "hello"),
                "a turn that is a list": swap(1, ["user", "hello"]),
                "a turn that is null": swap(0, None),
                "calls that are an object": swap(2, {**CALLING, "tool_calls": CALL}),
            }
        ),
    ),
    Plant(
        rule="missing_messages_list",
        sow=chats(
            {
                "no messages": anything({"topic": "parcels"}),
                "null": anything({"messages": None}),
                "a text": anything({"messages": "hello"}),
                "an object": anything({"messages": {"role": "user", "content": "hello"}}),
                "an empty list": anything({"messages": []}),
                "another key": lambda row, rng: {"conversation": row["messages"]},
            }
        ),
    ),
    Plant(
        rule="message_missing_key",
        sow=chats(
            {
                "no role": put(1, role=...),
                "no content": put(1, content=...),
                "no content of the answer": put(2, content=...),
                "neither": swap(0, {}),
                "other names": swap(1, {"from": "human", "value": "hello"}),
                "capitals": swap(1, {"Role": "user", "Content": "hello"}),
            },
            {
                **USUAL,
                "a call without content": swap(2, {"role": "assistant", "tool_calls": [CALL]}),
            },
        ),
    ),
    Plant(
        rule="message_unrecognized_key",
        sow=chats(
            {
                "mood": put(1, mood="good"),
                "a time": put(2, timestamp=1700000000),
                "an id": put(2, id="m1"),
                "a misspelling": put(2, wieght=0),
            },
            {**USUAL, "a refusal": put(2, refusal=None), "an annotation": put(2, annotations=[])},
        ),
    ),
    Plant(
        rule="unrecognized_role",
        sow=chats(
            {
                "narrator": put(1, role="narrator"),
                "capital": put(1, role="User"),
                "bot": put(2, role="bot"),
                "empty": put(1, role=""),
                "a number": put(0, role=1),
                "a blank": put(2, role="assistant "),
            }
        ),
    ),
    Plant(
        rule="missing_content",
        sow=chats(
            {
                "null of the user": put(1, content=None),
                "null of the assistant": put(2, content=None),
                "a number": put(1, content=5),
                "an object": put(2, content={"text": "hello"}),
                "nothing said on the way": said(ASK, assistant(""), ASK, ANSWER),
            }
        ),
    ),
    Plant(
        rule="example_missing_assistant_message",
        sow=chats(
            {
                "ends with the user": ending(user("and now?")),
                "the user alone": said(ASK),
                "the system alone": said(system("Be brief.")),
                "ends with a tool": said(ASK, CALLING, FOUND),
            }
        ),
    ),
    Plant(
        rule="unreadable",
        sow=chats(
            {
                "cut off": raw(lambda line: line[: len(line) // 2]),
                "a comma too many": raw(lambda line: line[:-1] + ",}"),
                "single quotes": raw(lambda line: line.replace('"', "'")),
                "Latin-1": raw(lambda line: line.replace("the", "thé").encode("latin-1")),
                "NaN": raw(lambda line: line[:-1] + ', "score": NaN}'),
                "a key twice": raw(lambda line: line[:-1] + ', "messages": []}'),
                "two rows": raw(lambda line: line + line),
                "words": raw(lambda line: "and so on"),
                "too deep": raw(lambda line: line[:-1] + ', "x": ' + "[" * 500 + "]" * 500 + "}"),
            },
            {
                **USUAL,
                "Windows' line end": raw(lambda line: line + "\r"),
                "UTF-8": raw(lambda line: line.replace("the", "thé")),
                "escapes": raw(lambda line: line.replace("the", "th\\u00e9 \\ud83d\\ude00")),
                "spaces": raw(lambda line: "  " + line.replace(": ", " :  ") + "\t"),
                "a line separator": raw(lambda line: line.replace("the", "the\u2028")),
                "JSON in a text": text_with('{"a": [1, 2'),
                "large numbers": raw(
                    lambda line: line[:-1] + ', "x": [1e300, -0.0, 123456789012]}'
                ),
            },
        ),
    ),
    Plant(
        rule="role-order",
        sow=chats(
            {
                "the system late": said(ASK, system("Be brief."), ANSWER),
                "the system twice": said(system("a"), system("b"), ASK, ANSWER),
                "the assistant first": said(ANSWER, ASK, ANSWER),
                "the user twice": said(ASK, ASK, ANSWER),
                "the assistant twice": said(ASK, ANSWER, ANSWER, ASK, ANSWER),
                "the assistant twice at the end": said(ASK, ANSWER, ANSWER),
                "a tool unasked": said(ASK, FOUND, ANSWER),
            },
            {
                **USUAL,
                "two calls": said(
                    ASK, {**CALLING, "tool_calls": [CALL, CALL]}, FOUND, FOUND, ANSWER
                ),
                "a call after a call": said(ASK, CALLING, FOUND, CALLING, FOUND, ANSWER),
                "asks again after a call": said(ASK, CALLING, FOUND, ANSWER, ASK, ANSWER),
            },
        ),
    ),
    Plant(
        rule="control-token",
        sow=chats(
            {
                name: text_with(name)
                for name in (
                    "<|im_end|>",
                    "<|im_start|>assistant",
                    "<|endoftext|>",
                    "<|eot_id|>",
                    "<|start_header_id|>",
                    "[INST] do it [/INST]",
                    "<<SYS>>",
                    "</s>",
                    "<end_of_turn>",
                    "<bos>",
                    "<｜User｜>",
                    "<|assistant|>",
                )
            },
            {
                **USUAL,
                **{
                    name: text_with(name)
                    for name in (
                        "a <| b and 3 < 4 | 5 > 2 |>",
                        "[INSTALL] <small>",
                        "<s3://bucket>",
                        "<system>",
                        "x <- f |> g",
                        "[inst] no. 5",
                        "List<String> and <br/>",
                        "if (a<b||c>d)",
                    )
                },
            },
        ),
    ),
)

"""What a form is. Knows none of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.core.examples import Example
from harness.records import Json, Message

Object = Mapping[str, Json]
Parse = Callable[[Object, str], Example | None]
"""From a row and its place to an example; None: the row holds no data (a span that asked no
model). Raises ValueError with the reason where the row is not of the form.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the rows of one file are read, decided from the first of them. `fields` are those that
    columns fill.
    """

    parse: Parse
    confidence: float
    why: str
    notes: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A named shape of rows.

    `marks` tells how sure one row makes us (0..1). `write` gives a row; None: this form is only
    read. `write_table` gives one for a table, where that differs. `expand` gives the rows that
    stand in one object of the file. `carries` names the parts of an example that it has a place
    for, and `about` says in words what it is.
    """

    name: str
    about: str
    carries: str
    parse: Parse | None = None
    marks: Callable[[Object], float] = lambda row: 0.0
    why: str = ""
    write: Callable[[Example], dict[str, Json]] | None = None
    write_table: Callable[[Example], dict[str, Json]] | None = None
    expand: Callable[[Object], Iterator[tuple[str, Object]]] | None = None
    aliases: tuple[str, ...] = field(default=())


META = ("id", "split", "cluster", "tags", "provenance")
"""Keys beside the data proper that tolerant forms may hold, under our own names."""


def meta_of(row: Object, known: frozenset[str]) -> dict[str, Json]:
    """Return the fields of an Example that `row` holds beside the keys in `known`.

    A key of ours that holds something else (a number for a split) stays what it is, in `other`.
    """
    found: dict[str, Json] = {}
    other: dict[str, Json] = {}
    for key, value in row.items():
        if key in known:
            continue
        if key == "id" and isinstance(value, str | int) and not isinstance(value, bool):
            found["id"] = str(value)
        elif key in {"split", "cluster"} and isinstance(value, str):
            found[key] = value
        elif key == "tags" and is_texts(value):
            found["tags"] = tuple(value)
        elif key == "provenance" and isinstance(value, Mapping):
            found["provenance"] = value
        else:
            other[key] = value
    if other:
        found["other"] = other
    return found


def with_meta(row: dict[str, Json], example: Example) -> dict[str, Json]:
    """Add what describes the example, and what it holds besides, to a row of a tolerant form."""
    for name in META:
        value = getattr(example, name)
        if value:
            row[name] = list(value) if name == "tags" else value
    for key, value in example.other.items():
        row.setdefault(key, value)
    return row


def is_texts(value: Json) -> bool:
    """Whether a value is a list of texts."""
    return isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)


def is_objects(value: Json) -> bool:
    """Whether a value is a list of objects."""
    return isinstance(value, list | tuple) and all(isinstance(one, Mapping) for one in value)


def text_of(value: Json) -> str:
    """Return a value as a reply would say it: text as it is, anything else as compact JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def no_user_turn(said: Sequence[Message], key: str, *, after: int = 0) -> None:
    """Raise ValueError, by the name of the lint, where a worse reply holds a turn of the user.
    `after`: the first turns are what was asked.
    """
    for number, message in enumerate(said[after:], start=after):
        if message.role == "user":
            raise ValueError(f"user-in-rejected: {key}[{number}] is a turn of the user")


def kind_of(value: Json) -> str:
    """Return what JSON calls a value's type."""
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "text", int: "a number", float: "a number", dict: "an object"}
    return names.get(type(value), "a list")


def answer_text(value: Json, key: str) -> str | None:
    """Return an answer that a form holds as text; None where it is null. Raises ValueError."""
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"`{key}` must be text, not {kind_of(value)}")


def asked_text(example: Example) -> str:
    """Return what is asked as one text: one input as it is, several as `name: value` lines;
    of messages the user's alone. Raises ValueError where one text cannot hold it.
    """
    if example.images or any(m.images for m in example.messages):
        raise ValueError("it has images, which this form has no place for")
    if example.messages:
        said = [m for m in example.messages if m.role != "system"]
        if len(said) != 1 or said[0].role != "user":
            raise ValueError("it is a dialogue of several turns, and this form has room for one")
        return said[0].content
    if len(example.inputs) == 1:
        return text_of(next(iter(example.inputs.values())))
    return "\n".join(f"{name}: {text_of(value)}" for name, value in example.inputs.items())

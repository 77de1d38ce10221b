"""A row as people of its domain read it: chat turns, e-mail, JSON, SQL, images. Knows no terminal.

What something is, is told from its shape alone; what is none of these is text.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.core.examples import Example
from harness.engine.images import media_type
from harness.errors import Miss, MissingExtra
from harness.records import Json, Message
from harness.surface.pictures import picture_within, size_of

Kind = Literal["text", "turn", "email", "json", "sql", "image"]

_HEADER = re.compile(r"^(From|To|Cc|Bcc|Reply-To|Subject|Date|Sent): ?(.*)$", re.IGNORECASE)
_SQL = re.compile(
    r"\s*(SELECT\b.+\bFROM|WITH\b.+\bAS\s*\(|INSERT\s+INTO|UPDATE\b.+\bSET|DELETE\s+FROM|"
    r"CREATE\s+(TABLE|VIEW|INDEX))\b",
    re.IGNORECASE | re.DOTALL,
)
_IMAGE = re.compile(r"\.(png|jpe?g|gif|webp)$", re.IGNORECASE)
ONE_LINE = 80
"""Characters of JSON that stand on one line."""
DEEPEST_INDENT = 40
LONGEST = 200_000
"""Characters of a text that are looked into; what is longer is text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One part of a row. `part` says where it belongs: asked, answer, rejected, or beside."""

    label: str
    kind: Kind
    text: str
    part: Literal["asked", "answer", "rejected", "beside"] = "asked"
    headers: tuple[tuple[str, str], ...] = ()
    picture: str = ""
    """A `data:` URL, where the image is at hand."""


def blocks(example: Example, *, folder: Path | None = None) -> tuple[Block, ...]:
    """Return what is asked, then what is answered. Images are looked up in `folder`."""
    return tuple(_blocks(example, folder))


def _blocks(example: Example, folder: Path | None) -> Iterator[Block]:
    for name, value in example.inputs.items():
        yield from _value(name, value, folder=folder)
    for message in example.messages:
        yield from _turn(message)
    if example.tools:
        names = ", ".join(tool_name(tool) for tool in example.tools)
        label = "1 tool" if len(example.tools) == 1 else f"{len(example.tools)} tools"
        yield Block(label=label, kind="text", text=names)
    named = {v for v in example.inputs.values() if isinstance(v, str)}
    for url in example.images:
        if url.startswith("data:") and any(_IMAGE.search(v) for v in named):
            continue  # the input that names its file shows it
        yield image("image", url, folder=folder)
    if example.reference is not None:
        yield from _value("answer", example.reference, folder=folder, part="answer")
    for call in example.calls:
        yield Block(label="call", kind="json", text=call_text(call), part="answer")
    if example.is_good is not None:
        thumb = "good" if example.is_good else "bad"
        yield Block(label="thumb", kind="text", text=thumb, part="answer")
    if example.rejected is not None:
        yield from _value("rejected", example.rejected, folder=folder, part="rejected")
    yield from _beside(example.other, folder)


def _beside(other: Mapping[str, Json], folder: Path | None) -> Iterator[Block]:
    """Yield what a row holds besides: two answers of which neither was preferred as answers are
    shown, all else as one line of text.
    """
    pair = other.get("pair")
    is_tie = isinstance(pair, Mapping) and pair.keys() >= {"a", "b"}
    if isinstance(pair, Mapping) and is_tie:
        for name in ("a", "b"):
            yield from _value(f"tied, {name}", pair[name], folder=folder, part="beside")
    said = []
    for name, value in other.items():
        if name == "pair" and is_tie:
            continue
        parts = value.items() if isinstance(value, Mapping) else [(name, value)]
        said += [f"{key}: {_plain(one)}" for key, one in parts if one not in (None, "", [], {})]
    if said:
        yield Block(label="beside", kind="text", text=", ".join(said), part="beside")


def _plain(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _turn(message: Message) -> Iterator[Block]:
    calls = "\n".join(call_text(call) for call in message.tool_calls)
    text = "\n".join(part for part in (message.content, calls) if part)
    yield Block(label=message.role, kind="turn", text=text)
    for url in message.images:
        yield image("image", url, folder=None)


def _value(
    label: str,
    value: Json,
    *,
    folder: Path | None,
    part: Literal["asked", "answer", "rejected", "beside"] = "asked",
) -> Iterator[Block]:
    if isinstance(value, str):
        if _IMAGE.search(value) and "\n" not in value and len(value) < 400:
            yield image(label, value, folder=folder)
            return
        if value.startswith("data:image/"):
            yield image(label, value, folder=folder)
            return
        yield _text(label, value, part)
        return
    if isinstance(value, list) and value and all(_is_turn(turn) for turn in value):
        for turn in value:
            content = turn.get("content")
            text = content if isinstance(content, str) else pretty(content)
            yield Block(label=f"{label}, {turn['role']}", kind="turn", text=text, part=part)
        return
    if isinstance(value, Mapping) and _is_mail(value):
        headers = tuple(
            (key, str(inner)) for key, inner in value.items() if key.lower() != _body_of(value)
        )
        body = str(value[next(k for k in value if k.lower() == _body_of(value))])
        yield Block(label=label, kind="email", text=body, part=part, headers=headers)
        return
    yield Block(label=label, kind="json", text=pretty(value), part=part)


def _text(label: str, value: str, part: Literal["asked", "answer", "rejected", "beside"]) -> Block:
    if len(value) <= LONGEST:
        if (parsed := _json(value)) is not None:
            return Block(label=label, kind="json", text=pretty(parsed), part=part)
        headers, body = mail(value)
        if headers:
            return Block(label=label, kind="email", text=body, part=part, headers=headers)
        if _SQL.match(value):
            return Block(label=label, kind="sql", text=sql(value), part=part)
    return Block(label=label, kind="text", text=value, part=part)


def _is_turn(value: Json) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and "content" in value


def _body_of(value: Mapping[str, Json]) -> str:
    names = {key.lower() for key in value}
    return next((n for n in ("body", "text", "message") if n in names), "")


def _is_mail(value: Mapping[str, Json]) -> bool:
    """Whether an object holds a subject and a body, all of it text."""
    names = {key.lower() for key in value}
    return "subject" in names and bool(_body_of(value)) and len(value) <= 10


def mail(text: str) -> tuple[tuple[tuple[str, str], ...], str]:
    """Return the headers of an e-mail and its body; no headers where it is none."""
    lines = text.lstrip("\n").split("\n")
    found: list[tuple[str, str]] = []
    for number, line in enumerate(lines):
        match = _HEADER.match(line)
        if match is None:
            return (
                (tuple(found), "\n".join(lines[number:]).lstrip("\n"))
                if len(found) > 1
                else (
                    (),
                    text,
                )
            )
        found.append((match[1], match[2].strip()))
    return ((), text)


def pretty(value: Json) -> str:
    """Return JSON that is broken into lines only where a line would be too long."""
    return "\n".join(_pretty(value, ""))


def _pretty(value: Json, indent: str) -> list[str]:
    short = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(short) <= ONE_LINE or not value or len(indent) > DEEPEST_INDENT:
        return [short]
    inner = indent + "  "
    if isinstance(value, Mapping):
        pieces = [(f"{json.dumps(k, ensure_ascii=False)}: ", v) for k, v in value.items()]
        ends = "{}"
    elif isinstance(value, list | tuple):
        if all(not isinstance(v, list | dict) for v in value):
            words = short[1:-1].split(", ") if not any(", " in str(v) for v in value) else []
            if words:  # short things stand side by side
                filled = textwrap.wrap(
                    ", ".join(words), ONE_LINE - len(inner), break_long_words=False
                )
                return ["[", *(f"{inner}{line}" for line in filled), f"{indent}]"]
        pieces, ends = [("", v) for v in value], "[]"
    else:
        return [short]
    lines = [ends[0]]
    for number, (key, one) in enumerate(pieces, start=1):
        first, *rest = _pretty(one, inner)
        lines += [f"{inner}{key}{first}", *rest]
        lines[-1] += "," if number < len(pieces) else ""
    return [*lines, f"{indent}{ends[1]}"]


def _json(text: str) -> Json:
    stripped = text.strip()
    if stripped[:1] + stripped[-1:] not in {"{}", "[]"}:
        return None
    try:
        return json.loads(stripped)
    except (ValueError, RecursionError):
        return None


def sql(text: str) -> str:
    """Return a query with a clause a line, where the library for it is here and can read it."""
    from harness.checks import code

    try:
        trees = code.sql(text)
    except (Miss, MissingExtra):
        return text
    return ";\n".join(tree.sql(pretty=True) for tree in trees)


def call_text(call: Json) -> str:
    """Return a tool call as `name({"a": 1})`."""
    inner = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(inner, dict) or not inner.get("name"):
        return pretty(call)
    arguments = inner.get("arguments", {})
    said = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"{inner['name']}({said})"


def tool_name(tool: Json) -> str:
    """Return what a tool is called."""
    inner = tool.get("function", tool) if isinstance(tool, dict) else None
    return str(inner.get("name", "?")) if isinstance(inner, dict) else "?"


def image(label: str, source: str, *, folder: Path | None) -> Block:
    """Return an image as its size, kind and name; its content too, where it is at hand."""
    name, content = "", b""
    if source.startswith("data:"):
        try:
            content = base64.b64decode(source.partition(",")[2], validate=True)
        except binascii.Error:
            return Block(label=label, kind="image", text="a data: URL that is not base64")
    else:
        name = source
        found = picture_within(folder, source)
        if found is None:
            missing = "" if folder is None else " (no such file beside the data)"
            return Block(label=label, kind="image", text=f"{source}{missing}")
        content = found
    if not content:
        return Block(label=label, kind="image", text=name or "an empty image")
    kind = media_type(content)
    if kind is None:
        return Block(label=label, kind="image", text=f"{name or 'data'}: no image that is known")
    size = size_of(content)
    facts = [f"{size[0]}×{size[1]}" if size else "", kind.removeprefix("image/").upper()]
    facts.append(f"{len(content) / 1000:.1f} kB")
    said = ", ".join(fact for fact in facts if fact)
    encoded = base64.b64encode(content).decode("ascii") if len(content) < 2_000_000 else ""
    return Block(
        label=label,
        kind="image",
        text=f"{name}  {said}".strip(),
        picture=f"data:{kind};base64,{encoded}" if encoded else "",
    )

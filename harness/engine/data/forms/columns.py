"""Rows of named columns, as tables and many JSON files have them. Knows no file.

Under our own names (there is a column `reference`) nothing is guessed. Else names that people
use for an answer, an id or a source are taken for that, and every other column is an input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.core.examples import Example
from harness.engine.data.forms.base import Form, Object, Parse, Plan, is_texts, kind_of
from harness.engine.data.forms.guesses import ANSWERED, GUESSES, likely
from harness.engine.data.forms.turns import EXTRAS, plain_turns, turns
from harness.engine.text_files import strict_json
from harness.records import Json

FIELDS = (
    "id", "split", "cluster", "tags", "reference", "rejected", "is_good", "messages", "tools",
    "calls", "images", "provenance", "other",
)  # fmt: skip
"""What a column may hold but an input, under our own names."""

ALIASES = {"answer": "reference"}
IGNORE = "ignore"
"""What `--map` may say beside a field or the name of an input."""

INPUTS = ("input", "inputs")
ITEM = "item"
"""Where OpenAI's evals product keeps a row of its data. Source: its API reference, Create eval
run, `data_source` of type `jsonl`: `{"item": {...}, "sample": {...}}`.
"""
ASKING = frozenset({"messages", "images"})
"""Fields that ask by themselves."""
BESIDE = frozenset({"metadata", "meta", "extra", "notes", "comment", "comments"})
PAIR = frozenset({"a", "b", "preferred"})
YES, NO = {"true", "yes", "1", "good", "up"}, {"false", "no", "0", "bad", "down"}


@dataclass(slots=True)
class _Roles:
    """Which column fills what: paths of keys to a field or an input's name."""

    fields: dict[str, tuple[str, ...]] = field(default_factory=dict)
    named: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    ignored: list[tuple[str, ...]] = field(default_factory=list)
    unpacked: str = ""
    has_rest: bool = True
    beside: frozenset[str] = BESIDE


def plan(rows: Sequence[Object], mapping: Mapping[str, str], *, is_table: bool = False) -> Plan:
    """Return how the rows of a file with these first rows are read. In a table an empty cell is
    an answer that nobody knows, and an input that is empty.
    """
    if rows and all(map(_is_item, rows)):
        return _plan_of_items(rows, mapping)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    roles, notes = _Roles(), []
    taken: set[str] = set()
    for column, role in mapping.items():
        path, name = _path(column, rows), ALIASES.get(role, role)
        if name in FIELDS:
            roles.fields[name] = path
        elif name == IGNORE:
            roles.ignored.append(path)
        else:
            roles.named.append((path, name.removeprefix("inputs.")))
        if len(path) == 1:
            taken.add(path[0])
    roles.has_rest = not roles.named
    is_ours = "reference" in columns
    for name in FIELDS:
        if name in columns and name not in taken and name not in roles.fields:
            roles.fields[name] = (name,)
            taken.add(name)
    guessed = []
    for name in GUESSES if not is_ours else ():
        if name in roles.fields or (name == "rejected" and "reference" not in roles.fields):
            continue
        found = _guessed(name, [c for c in columns if c not in taken], rows, roles)
        if found is not None and len(columns) > 1:
            roles.fields[name] = (found,)
            taken.add(found)
            guessed.append(f"{name} from {found!r}")
    if not is_ours and "cluster" not in roles.fields:
        path = _shared_source(rows)
        if path:
            roles.fields["cluster"] = path
            guessed.append(f"cluster from {'.'.join(path)!r}")
    if not is_ours:
        given = {path[0] for path, _ in roles.named} | taken
        whole = [c for c in INPUTS if c in columns and c not in taken]
        if whole and not roles.named:
            roles.unpacked, roles.has_rest = whole[0], False
        free = [c for c in columns if c not in given]
        inputs = [c for c in free if c not in BESIDE]
        if roles.has_rest and not inputs and not ASKING & set(roles.fields):
            inputs = [c for c in free if _is_text(c, rows)]
            roles.beside = BESIDE - set(inputs)  # what is asked is a comment, or notes
        if roles.has_rest and inputs:
            guessed.append("inputs from " + ", ".join(repr(c) for c in inputs[:6]))
        elif roles.unpacked:
            guessed.append(f"inputs from {whole[0]!r}")
    if guessed:
        notes.append("guessed from names: " + "; ".join(guessed) + " (--map says otherwise)")
    has_pair = any(_is_pair(row.get("pair")) for row in rows)
    confidence = 0.9 if is_ours else (0.6 if "reference" in roles.fields or has_pair else 0.3)
    if mapping:
        confidence = 1.0
    what = "our own names" if is_ours else "the columns that were named" if mapping else "columns"
    return Plan(
        parse=_parser(roles, taken, is_table),
        confidence=confidence,
        why=f"rows have {what}: {', '.join(columns[:8])}{' …' if len(columns) > 8 else ''}",
        notes=tuple(notes),
        fields=tuple(roles.fields),
    )


def _guessed(name: str, left: Sequence[str], rows: Sequence[Object], roles: _Roles) -> str | None:
    """Return which of the columns that are `left` fills a field."""
    left = [column for column in left if column not in BESIDE or _is_text(column, rows)]
    if name == "reference" and any(column in row for row in rows for column in ANSWERED):
        return likely(name, left, rows, has_further=False)
    return likely(name, left, rows, is_asked=bool(roles.named))


def _is_text(column: str, rows: Sequence[Object]) -> bool:
    """Whether a column may be what is asked, though its name says that it stands beside."""
    return any(isinstance(value := row.get(column), str) and value != "" for row in rows)


def _is_item(row: Object) -> bool:
    return isinstance(row.get(ITEM), Mapping) and row.keys() <= {ITEM, "sample"}


def _plan_of_items(rows: Sequence[Object], mapping: Mapping[str, str]) -> Plan:
    """Return how rows are read that stand in an `item`, beside what a model replied, perhaps."""
    inner = {name.removeprefix(f"{ITEM}."): role for name, role in mapping.items()}
    found = plan([row[ITEM] for row in rows], inner)

    def parse(row: Object, place: str) -> Example | None:
        if not isinstance(row.get(ITEM), Mapping):
            raise ValueError(f"`{ITEM}` must be an object, as in the rows before")
        example = found.parse(row[ITEM], place)
        rest = {k: v for k, v in row.items() if k != ITEM}
        if example is None or not rest:
            return example
        return replace(example, other={**example.other, **rest})

    why = f"each stands in an `{ITEM}`, as rows of OpenAI's evals product do; {found.why}"
    return replace(found, parse=parse, why=why)


def _shared_source(rows: Sequence[Object]) -> tuple[str, ...]:
    """Return where each row's metadata name its source, as `metadata.group`."""
    for column in sorted(BESIDE):
        beside = [row.get(column) for row in rows]
        for name in ("cluster", *GUESSES["cluster"]):
            if beside and all(
                isinstance(b, Mapping) and isinstance(b.get(name), str | int) for b in beside
            ):
                return column, name
    return ()


def _path(column: str, rows: Sequence[Object]) -> tuple[str, ...]:
    """Return the keys to a column: its whole name where rows have it, else along the dots."""
    if "." not in column or any(column in row for row in rows):
        return (column,)
    return tuple(column.split("."))


def _parser(roles: _Roles, taken: set[str], is_table: bool) -> Parse:
    fields = [(name, _CLEANED.get(name), path) for name, path in roles.fields.items()]
    deep = [path for _, _, path in fields if len(path) > 1]
    deep += [path for path, _ in roles.named if len(path) > 1]
    deep += [path for path in roles.ignored if len(path) > 1]

    def parse(row: Object, place: str) -> Example:
        given: dict[str, Any] = {}
        inputs: dict[str, Json] = {}
        for name, clean, path in fields:
            value = row.get(path[0]) if len(path) == 1 else _at(row, path)
            if value is not None and (value != "" or (name in _ANSWERS and not is_table)):
                given[name] = value if clean is None else clean(value, name)
        for path, name in roles.named:
            value = row.get(path[0]) if len(path) == 1 else _at(row, path)
            inputs[name] = value
        other: dict[str, Json] = dict(given.pop("other", {}))
        rest = row if not deep else _without(row, deep)
        known = {path[0] for path, _ in roles.named if len(path) == 1}
        for column, value in rest.items():
            if column in taken or column in known:
                continue
            if column == roles.unpacked:
                inputs |= value if isinstance(value, Mapping) else {column: value}
            elif column == "pair" and _is_pair(value):
                _take_pair(value, given, other)
            elif not roles.has_rest or column in roles.beside:
                other[column] = value
            else:
                inputs[column.removeprefix("inputs.")] = value
        messages = given.pop("messages", None)
        if messages is None and isinstance(inputs.get("messages"), list):
            messages = inputs.pop("messages")
            if isinstance(inputs.get("tools"), list) and "tools" not in given:
                given["tools"] = tuple(inputs.pop("tools"))
        if messages is not None:
            given["messages"], extras = turns(messages, key="messages")
            if extras:
                other[EXTRAS] = {**other.get(EXTRAS, {}), **extras}
        if not inputs and "messages" not in given and "images" not in given:
            raise ValueError("nothing is asked: there is no column but the answer")
        return Example(place=place, inputs=inputs, other=other, **given)

    return parse


def _at(row: Object, path: tuple[str, ...]) -> Json:
    value: Json = row
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _without(row: Object, paths: Sequence[tuple[str, ...]]) -> Object:
    """Return the row without what stands at `paths`; objects that are left empty go too."""
    left = dict(row)
    for path in paths:
        head, rest = path[0], path[1:]
        inner = left.get(head)
        if not rest:
            left.pop(head, None)
        elif isinstance(inner, Mapping):
            kept = _without(inner, [rest])
            if kept:
                left[head] = kept
            else:
                left.pop(head, None)
    return left


def _is_pair(value: Json) -> bool:
    return isinstance(value, Mapping) and value.keys() >= PAIR


def _take_pair(pair: Mapping[str, Json], given: dict[str, Any], other: dict[str, Json]) -> None:
    """Take two answers of which one was preferred; a tie prefers none, and is kept as it stands."""
    better = pair["preferred"]
    if better not in ("a", "b"):
        other["pair"] = dict(pair)
        return
    given["reference"], given["rejected"] = pair[better], pair["b" if better == "a" else "a"]
    rest = {k: v for k, v in pair.items() if k not in PAIR}
    if rest:
        other["pair"] = rest


# ---------------------------------------------------------------- what a field may hold

_ANSWERS = frozenset({"reference", "rejected"})


def _text(value: Json, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"`{name}` must be text, not {kind_of(value)}")
    return str(value)


def _texts(value: Json, name: str) -> tuple[str, ...]:
    value = _decoded(value)
    if isinstance(value, str):
        value = [part.strip() for part in value.replace(";", ",").split(",") if part.strip()]
    if not is_texts(value):
        raise ValueError(f"`{name}` must be a list of texts")
    return tuple(value)


def _values(value: Json, name: str) -> tuple[Json, ...]:
    value = _decoded(value)
    if not isinstance(value, list):
        raise ValueError(f"`{name}` must be a list, not {kind_of(value)}")
    return tuple(value)


def _object(value: Json, name: str) -> Mapping[str, Json]:
    value = _decoded(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"`{name}` must be an object, not {kind_of(value)}")
    return value


def _yes(value: Json, name: str) -> bool:
    if isinstance(value, bool):
        return value
    low = str(value).strip().lower()
    if low not in YES | NO:
        raise ValueError(f"`{name}` must be true or false, not {value!r}")
    return low in YES


def _decoded(value: Json) -> Json:
    """Return what a cell of a table holds as JSON text."""
    return strict_json(value) if isinstance(value, str) and value[:1] in {"[", "{"} else value


_CLEANED: dict[str, Callable[[Json, str], Any]] = {
    "id": _text,
    "split": _text,
    "cluster": _text,
    "tags": _texts,
    "images": _texts,
    "tools": _values,
    "calls": _values,
    "is_good": _yes,
    "provenance": _object,
    "other": _object,
}


# ---------------------------------------------------------------- writing


def write(example: Example) -> dict[str, Json]:
    """Return a row with our own names; inputs stand beside the fields, by their names."""
    row: dict[str, Json] = {"id": example.id} if example.id else {}
    for name, value in example.inputs.items():
        clash = name in FIELDS or name in BESIDE or name == "pair" or name.startswith("inputs.")
        row[f"inputs.{name}" if clash else name] = value
    if example.messages:
        row["messages"] = plain_turns(example.messages, example.other.get(EXTRAS))
    row["reference"] = example.reference
    for name in ("rejected", "is_good"):
        if getattr(example, name) is not None:
            row[name] = getattr(example, name)
    for name in ("calls", "tools", "images", "tags"):
        if getattr(example, name):
            row[name] = list(getattr(example, name))
    for name in ("split", "cluster", "provenance"):
        if getattr(example, name):
            row[name] = getattr(example, name)
    other = {k: v for k, v in example.other.items() if k != EXTRAS}
    extras, last = example.other.get(EXTRAS), str(len(example.messages))
    if isinstance(extras, Mapping) and last in extras:  # those of turns before it stand in them
        other[EXTRAS] = {last: extras[last]}
    if other:
        row["other"] = other
    return row


def reader_of_our_names(*, is_table: bool) -> Parse:
    """Return what reads the rows that `write` makes."""
    return plan([{"reference": None, **dict.fromkeys(FIELDS)}], {}, is_table=is_table).parse


FORM = Form(
    name="columns",
    about="named columns: a table, or objects with an input and an answer",
    carries="everything; in a table, values that are not text are written as JSON text",
    write=write,
    aliases=("csv", "tsv", "xlsx", "parquet", "jsonl", "table"),
)

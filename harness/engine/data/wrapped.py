"""Rows in a list of one JSON object: `{"version": 2, "data": [...]}`, or a list for each split.

Told by one pass over the file that keeps nothing; then the list is read row by row, as an array is.
Decided here: a list is read by its usual name, or where it is the only list of objects and nothing
beside it is what a row has. What is no such object is left to other readers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.words import count, listed
from harness.engine.data.forms.cases import NEAREST
from harness.engine.data.lines import Refusal, Row, Window, value_of
from harness.engine.data.opening import Opened, opened
from harness.errors import TaskError
from harness.records import Json

USUAL = ("data", "rows", "examples", "records", "items", "instances", "entries", "samples")
"""Names under which lists of rows stand, as SQuAD's `data` and the hub's `rows`."""
SPLIT_NAMES = frozenset({"train", "training", "dev", "development", "test", "testing", "eval"}) | {
    "evaluation", "validation", "valid", "val",
}  # fmt: skip
NAMED = 5
"""Lists that an error names."""

HUB_ROW = frozenset({"row_idx", "row"})
"""How the hub's viewer writes a row. Source: its API, `GET /rows`."""


@dataclass(slots=True)
class _Seen:
    """One key of the object: what it holds, of a list its first element; `length` of a list, and
    `rows` of one of objects.
    """

    line: int
    value: Json = None
    rows: int | None = None
    length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """Which lists of the object are read; `rest` names what stands beside them."""

    lists: tuple[str, ...]
    rest: tuple[str, ...] = ()
    are_splits: bool = False
    lengths: Mapping[str, int] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """What is said of it."""
        if self.are_splits:
            many = listed(
                [f"{n!r} ({count(self.lengths[n], 'row')}, {_split_of(n)})" for n in self.lists]
            )
            return f"unwrapped: one object, whose lists are splits: {many}"
        return f"unwrapped: the rows are the list {self.lists[0]!r} of one object"


def wrapped_in(path: Path, *, name: str, key: str = "") -> Wrapped | None:
    """Return which lists of a file's one object hold its rows; None where it is another file, or
    the object a row or a form's own. `key` names the list, `name` the file as people see it.

    Raises TaskError where several lists may be meant, or none has the name `key`.
    """
    seen: dict[str, _Seen] = {}
    with opened(path) as source:
        try:
            is_one = _skim(source, seen)
        except TaskError:
            if any(name in USUAL or name in SPLIT_NAMES for name in _lists(seen)):
                raise
            is_one = False
    lists = _lists(seen)
    if key:
        if not is_one or key not in lists:
            known = f". Its lists: {listed([repr(n) for n in lists])}" if is_one and lists else ""
            raise TaskError(f"{name}: no list of objects {key!r} in it{known}")
        return _chosen((key,), seen)
    if not is_one or _is_known(seen):
        return None
    if not lists:
        _refuse_columns(seen, name)
        return None
    usual = [n for n in lists if n.strip().lower() in USUAL]
    if len(usual) == 1:
        return _chosen(tuple(usual), seen)
    if all(n.strip().lower() in SPLIT_NAMES for n in lists):
        return _chosen(tuple(lists), seen, are_splits=True)
    if _is_row(seen):
        return None
    if len(lists) == 1:
        return _chosen(tuple(lists), seen)
    some = [f"{n!r} ({count(seen[n].rows or 0, 'object')})" for n in lists[:NAMED]]
    many = listed([*some, *([f"{len(lists) - NAMED} more"] if len(lists) > NAMED else [])])
    raise TaskError(
        f"{name}:1: one object with several lists that may be its rows: {many}. Name one, as "
        f"'{name}#{lists[0]}'"
    )


def wrapped_rows(source: Opened, found: Wrapped) -> Iterator[Row]:
    """Yield the elements of the lists, one at a time; where they are splits, with their names."""
    for key, text in _keys(source):
        if key not in found.lists:
            text.element()
            continue
        for line, value in text.array():
            row = value_of(value)
            if isinstance(row, Mapping):
                if row.keys() >= HUB_ROW and isinstance(row["row"], Mapping):
                    row = row["row"]
                if found.are_splits and "split" not in row:
                    row = {**row, "split": _split_of(key)}
            yield line, row


def _split_of(name: str) -> str:
    """Return our name of a split; what is measured on is dev."""
    low = name.strip().lower()
    return {**NEAREST, "development": "dev", "eval": "dev", "evaluation": "dev"}.get(low, low)


def _chosen(
    lists: tuple[str, ...], seen: Mapping[str, _Seen], *, are_splits: bool = False
) -> Wrapped:
    rest = tuple(name for name in seen if name not in lists)
    lengths = {name: seen[name].rows or 0 for name in lists}
    return Wrapped(lists=lists, rest=rest, are_splits=are_splits, lengths=lengths)


def _lists(seen: Mapping[str, _Seen]) -> list[str]:
    return [name for name, one in seen.items() if one.rows is not None]


def _is_known(seen: Mapping[str, _Seen]) -> bool:
    """Whether the object is what some form has: a dialogue, a configuration, an exported trace."""
    from harness.engine.data.forms import registry

    sketch = {name: one.value for name, one in seen.items()}
    return registry.is_known(sketch)


def _is_row(seen: Mapping[str, _Seen]) -> bool:
    """Whether something beside the lists is what a row of columns has: an id, an answer."""
    from harness.engine.data.forms import columns
    from harness.engine.data.forms.guesses import GUESSES, plain

    usual = {*columns.FIELDS, *columns.INPUTS, *(n for names in GUESSES.values() for n in names)}
    return any(plain(n) in usual for n, one in seen.items() if one.rows is None)


def _refuse_columns(seen: Mapping[str, _Seen], name: str) -> None:
    """Raise TaskError for a table that was written column by column, as pandas does unless it is
    told otherwise: it would be read as one row.
    """
    values = [one.value for one in seen.values()]
    lengths = {one.length for one in seen.values()}
    is_lists = len(values) > 1 and len(lengths) == 1 and min(lengths) > 1
    keys = [tuple(value) if isinstance(value, Mapping) else () for value in values]
    is_objects = len(values) > 1 and len(set(keys)) == 1 and len(keys[0]) > 1
    if is_lists or is_objects or {"columns", "index", "data"} == seen.keys():
        raise TaskError(
            f"{name}:1: one object that holds a table by columns, or rows under their ids, and no "
            "list of rows. Write one row a line (pandas: to_json(orient='records', lines=True))"
        )


def _skim(source: Opened, seen: dict[str, _Seen]) -> bool:
    """Note what the file's one object holds; False where it is no such object, or not alone."""
    try:
        for key, text in _keys(source):
            if key in seen:
                raise TaskError(f"{source.shown}:{text.line}: the key {key!r} stands twice")
            seen[key] = one = _Seen(text.line)
            if text.next() != "[":
                one.value = _plain(text.element())
                continue
            for number, (_, value) in enumerate(text.array()):
                if number == 0:
                    first = _plain(value)
                    one.value = [first]
                    one.rows = 0 if isinstance(first, Mapping) else None
                one.length += 1
            if one.rows is not None:
                one.rows = one.length
            if one.value is None:
                one.value, one.rows = (
                    [],
                    0 if key.strip().lower() in {*USUAL, *SPLIT_NAMES} else None,
                )
    except _OtherFile:
        return False
    return True


def _plain(text: str | Refusal) -> Json:
    value = value_of(text)
    return None if isinstance(value, Refusal) else value


class _OtherFile(Exception):
    """The file is no one object."""


def _keys(source: Opened) -> Iterator[tuple[str, Window]]:
    """Yield the keys of a file's one object, the window standing at their values; whoever asks for
    the next has gone past the value. Raises _OtherFile, TaskError.
    """
    text = Window(source)
    if text.next() != "{":
        raise _OtherFile
    text.skip(1)
    mark = text.next()
    while mark != "}":
        if mark != '"':
            raise _OtherFile
        key = _plain(text.element())
        if not isinstance(key, str) or text.next() != ":":
            raise _OtherFile
        text.skip(1)
        text.next()
        yield key, text
        mark = text.next()
        if mark == ",":
            text.skip(1)
            mark = text.next()
        elif not mark:
            raise TaskError(
                f"{source.shown}:{text.line}: the JSON object ends too early: was it cut off?"
            )
        elif mark != "}":
            raise TaskError(f"{source.shown}:{text.line}: not JSON: a comma or }} is missing")
    text.skip(1)
    if text.next():
        raise _OtherFile

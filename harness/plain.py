"""The plain form of records, and their identity. Knows no record and no place where one is kept.

A record's identity is the sha256 of its canonical JSON: keys sorted, fields at `None` or empty
left out (so that a field added later changes no identity recorded before it).
"""

from __future__ import annotations

import hashlib
import json
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from itertools import islice
from typing import Any

Json = Any
"""A value that JSON can hold."""

_SCALARS = frozenset({str, int, float, bool, types.NoneType})
_LISTS = frozenset({tuple, list})


@cache
def _field_names(kind: Any) -> tuple[str, ...] | None:
    """Return what makes up the content of a record; None where `kind` is none."""
    if not is_dataclass(kind):
        return None
    return tuple(f.name for f in fields(kind) if f.init)  # any other is computed from these


def to_plain(value: Any) -> Json:
    """Return `value` as JSON values; fields of records at `None` or empty are left out."""
    kind: Any = type(value)
    if kind in _SCALARS:  # first, because a run of 100,000 trials holds millions
        return value
    if kind in _LISTS:  # by type: to look for a Mapping takes longer than all the rest
        return [v if type(v) in _SCALARS else to_plain(v) for v in value]
    if kind is dict:
        return {str(k): to_plain(v) for k, v in value.items()}
    names = _field_names(kind)
    if names is not None:
        plain = {}
        for name in names:
            field = getattr(value, name)
            if type(field) in _SCALARS:
                if field is not None:
                    plain[name] = field
            elif field not in ((), {}):
                plain[name] = to_plain(field)
        return plain
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    return value


def canonical_json(value: object) -> str:
    """Return the one JSON text of `value`. Raises ValueError on NaN and infinities."""
    return _ENCODER.encode(to_plain(value))


# made once: `json.dumps` makes one anew for every call that asks for a form of its own
_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


_MANY = 1000
"""Of so many trials, the text of a run is made at a time: a run may hold 100,000."""


def digest(value: object) -> str:
    """Return the sha256 (64 hex digits) of the canonical JSON of `value`."""
    kind: Any = type(value)
    names = _field_names(kind)
    if names is None or not any(_is_long(getattr(value, name)) for name in names):
        return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()
    made = hashlib.sha256()
    for part in _canonical_parts(value, names):
        made.update(part.encode("utf-8", "surrogatepass"))
    return made.hexdigest()


def digest_rows(rows: Iterable[object]) -> str:
    """Return the `digest` of the list of `rows`, which is never held: there may be 100,000."""
    made, before, left = hashlib.sha256(), "[", iter(rows)
    while some := list(islice(left, _MANY)):
        made.update((before + canonical_json(some)[1:-1]).encode("utf-8", "surrogatepass"))
        before = ","
    made.update(b"]" if before == "," else b"[]")
    return made.hexdigest()


def _canonical_parts(value: object, names: tuple[str, ...]) -> Iterator[str]:
    """Yield the canonical JSON of a record in parts: its long tuples are never one text."""
    before = "{"
    for name in sorted(names):
        field = getattr(value, name)
        if field is None or field in ((), {}):
            continue
        yield f'{before}"{name}":'
        before = ","
        if not _is_long(field):
            yield canonical_json(field)
            continue
        for start in range(0, len(field), _MANY):
            some = canonical_json(field[start : start + _MANY])
            yield ("," if start else "[") + some[1:-1]
        yield "]"
    yield "}"


def _is_long(field: object) -> bool:
    return type(field) is tuple and len(field) > _MANY


T = typing.TypeVar("T")


@cache
def _field_types(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def from_plain(kind: type[T], plain: Json) -> T:
    """Return a record of `kind` made from what `to_plain` gave. Unknown keys are an error."""
    if not isinstance(plain, Mapping):
        raise TypeError(f"{kind.__name__}: expected an object, got {type(plain).__name__}")
    hints = _field_types(typing.cast(typing.Hashable, kind))
    unknown = set(plain) - set(hints)
    if unknown:
        raise TypeError(f"{kind.__name__}: unknown fields {sorted(unknown)}")
    return kind(
        **_left_out(typing.cast(typing.Hashable, kind))
        | {name: _revive(hints[name], value) for name, value in plain.items()}
    )


@cache
def _left_out(cls: Any) -> dict[str, Any]:
    """Return what `to_plain` leaves out of `cls` though it has no default: None, (), {}."""
    empty: dict[str, Any] = {}
    for f in fields(cls):
        hint = _field_types(cls)[f.name]
        origin = typing.get_origin(hint)
        if f.default is not MISSING or f.default_factory is not MISSING:
            continue
        if origin is tuple:
            empty[f.name] = ()
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            empty[f.name] = {}
        elif hint is Any or types.NoneType in typing.get_args(hint):
            empty[f.name] = None
    return empty


def _revive(hint: Any, value: Json) -> Any:
    if value is None:
        return None
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = [a for a in typing.get_args(hint) if a is not types.NoneType]
        return _revive(options[0], value) if len(options) == 1 else value
    if origin is tuple:
        return tuple(_revive(typing.get_args(hint)[0], v) for v in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        inner = typing.get_args(hint)[1]
        return {k: _revive(inner, v) for k, v in value.items()}
    if isinstance(hint, type) and is_dataclass(hint):
        return from_plain(hint, value)
    return value

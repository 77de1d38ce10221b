"""Tables that people write, read strictly: which key does not fit, and why. Knows no table.

msgspec converts, and is quick to import (docs/decisions/0016); what it says of a mistake names
neither the key of an entry nor what would fit, so a table that was refused is gone through again
here, key by key.
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import FieldInfo, fields

Key = str | int


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table in which an unknown key is an error.

    One that is built in code is checked by its types and by its own `__post_init__`.
    """


Kind = TypeVar("Kind", bound=Strict)


class Misfit(ValueError):
    """A value that does not fit, with the keys that lead to it; `known` where there is no such,
    and `meant`, that of them which was perhaps misspelt.
    """

    def __init__(
        self, message: str, *keys: Key, known: tuple[str, ...] = (), meant: str = ""
    ) -> None:
        super().__init__(message)
        self.keys, self.known = keys, known
        self.hint = f" Did you mean {meant!r}?" if meant else ""

    def told(self, whole: str) -> str:
        """Return the mistake in a sentence, that of the `whole` table where no key is to blame."""
        known = f" Known keys: {', '.join(sorted(self.known))}." if self.known else ""
        return f"{self.place(whole)}: {self}.{known}{self.hint}"

    def place(self, whole: str) -> str:
        """Return the keys as people write them, half characters so that they can be printed."""
        keys = ".".join(map(str, self.keys)) or whole
        return keys.encode(errors="backslashreplace").decode()


def as_table(kind: type[Kind], plain: object, *inside: str) -> Kind:
    """Return what TOML or JSON said as a table, that stands `inside` others. Raises Misfit for the
    first key that does not fit.

    A whole number is taken where any number is, and a list where a tuple is; no text is taken for
    a number, and no number for a text.
    """
    try:
        return msgspec.convert(plain, kind)
    except (msgspec.ValidationError, UnicodeEncodeError) as exc:
        _check(kind, plain, inside)
        raise Misfit(str(exc), *inside) from exc


def as_dict(
    table: Strict, *, without: Literal["nothing", "none", "defaults"] = "nothing"
) -> dict[str, Any]:
    """Return a table and those in it by their keys; without what is None, or as if left out."""
    found = {}
    for field in _fields(type(table)):
        value = getattr(table, field.name)
        if (without == "none" and value is None) or (
            without == "defaults" and not field.required and value == default_of(field)
        ):
            continue
        found[field.name] = as_dict(value, without=without) if isinstance(value, Strict) else value
    return found


def keys_of(kind: type[Strict]) -> tuple[str, ...]:
    """Return the keys that people may write, in order."""
    return tuple(field.encode_name for field in _fields(kind) if field.encode_name)


@cache
def _fields(kind: type[Strict]) -> tuple[FieldInfo, ...]:
    return fields(kind)


def default_of(field: FieldInfo) -> Any:
    """Return what a key is where it was left out."""
    made = field.default_factory
    return field.default if made is msgspec.NODEFAULT else made()


def _check(hint: Any, value: Any, keys: tuple[Key, ...]) -> None:
    """Raise Misfit for the first value that does not fit, in the order of the table's keys."""
    if get_origin(hint) in {Union, UnionType}:
        kinds = [kind for kind in get_args(hint) if kind is not NoneType]
        if value is None and len(kinds) < len(get_args(hint)):
            return
        hint = next((kind for kind in kinds if _is_like(_bare(kind), value)), None)
        if hint is None:
            nouns = _either([_noun(_bare(kind)) for kind in kinds])
            raise Misfit(f"Input should be {nouns}, not {reprlib.repr(value)}", *keys)
    bare = _bare(hint)
    if not _is_like(bare, value):
        raise Misfit(f"Input should be {_noun(bare)}, not {reprlib.repr(value)}", *keys)
    if bare is float and isinstance(value, int) and abs(value) > sys.float_info.max:
        raise Misfit(f"{reprlib.repr(value)} is more than a number can be", *keys)
    if _is_table(bare):
        _check_table(bare, value, keys)
    elif get_origin(bare) is dict:
        for key, inner in value.items():
            _check(get_args(bare)[1], inner, (*keys, key))
    elif get_origin(bare) is tuple:
        _check_items(get_args(bare), value, keys)
    elif bare is not hint and (why := _beyond(get_args(hint)[1], value)):
        raise Misfit(why, *keys)


def _check_table(kind: type[Strict], value: Mapping[str, Any], keys: tuple[Key, ...]) -> None:
    hints = get_type_hints(kind, include_extras=True)
    named = {field.encode_name: field for field in _fields(kind)}
    missing = [key for key, field in named.items() if field.required and key not in value]
    unknown = [key for key in value if key not in named]
    for key in unknown:  # a slip of the pen, told before what it left missing
        if meant := _near(key, missing):
            said = f"no such key, and {meant} is missing{_others(missing, but=meant)}"
            raise Misfit(said, *keys, key, meant=meant)
    for key, field in named.items():
        if key in value:
            _check(hints[field.name], value[key], (*keys, key))
        elif field.required:
            strange = f"; no such key: {reprlib.repr(unknown[0])}" if unknown else ""
            said = f"it is missing{_others(missing, but=key)}{strange}"
            raise Misfit(said, *keys, key, known=keys_of(kind) if unknown else ())
    for key in unknown:
        meant = _near(key, [name for name in named if name not in value])
        raise Misfit("no such key", *keys, key, known=keys_of(kind), meant=meant)
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:  # each key fits; together they do not
        own = exc.__cause__
        inner = own.keys if isinstance(own, Misfit) else ()
        raise Misfit(str(own or exc), *keys, *inner) from exc


def _near(key: object, names: Sequence[str]) -> str:
    return next(iter(get_close_matches(str(key), names, n=1)), "")


def _others(missing: Sequence[str], *, but: str) -> str:
    others = ", ".join(key for key in missing if key != but)
    return f" ({others} too)" if others else ""


def _check_items(kinds: tuple[Any, ...], value: Sequence[Any], keys: tuple[Key, ...]) -> None:
    each = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
    if len(value) != len(each):
        raise Misfit(f"Input should have {len(each)} items, not {len(value)}", *keys)
    for place, (kind, item) in enumerate(zip(each, value, strict=True)):
        _check(kind, item, (*keys, place))


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Strict)


_LIKE: Mapping[Any, tuple[Any, str]] = {
    bool: (bool, "a valid boolean"),
    int: (int, "a valid integer"),
    float: (int | float, "a valid number"),
    str: (str, "a valid string"),
    tuple: (list | tuple, "a valid list"),
    dict: (Mapping, "a valid dictionary"),
    Any: (object, "anything"),
}


def _like(kind: Any) -> tuple[Any, str]:
    return _LIKE[dict if _is_table(kind) else get_origin(kind) or kind]


def _is_like(kind: Any, value: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    like, _ = _like(kind)
    if isinstance(value, bool):  # no number, though Python takes it for one
        return like in {bool, object}
    return isinstance(value, like)


def _noun(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return _either([repr(value) for value in get_args(kind)])
    return _like(kind)[1]


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _percent(value: float, bound: float) -> str:
    """Return how a share is written that was given in percent; empty where it cannot be one."""
    return f": {value:g} % is {value / 100:g}" if bound == 1 < value <= 100 else ""


def _beyond(bounds: msgspec.Meta, value: Any) -> str:
    """Return which bound `value` is beyond; empty where none. NaN is beyond each."""
    found = ""
    if bounds.gt is not None and not value > bounds.gt:
        found = f"Input should be greater than {bounds.gt}"
    elif bounds.ge is not None and not value >= bounds.ge:
        found = f"Input should be greater than or equal to {bounds.ge}"
    elif bounds.lt is not None and not value < bounds.lt:
        found = f"Input should be less than {bounds.lt}{_percent(value, bounds.lt)}"
    elif bounds.le is not None and not value <= bounds.le:
        found = f"Input should be less than or equal to {bounds.le}{_percent(value, bounds.le)}"
    elif bounds.min_length and len(value) < bounds.min_length:
        plural = "s" if bounds.min_length > 1 else ""
        found = f"String should have at least {bounds.min_length} character{plural}"
    elif bounds.max_length is not None and len(value) > bounds.max_length:
        found = f"String should have at most {bounds.max_length} characters"
    return found

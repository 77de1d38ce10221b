"""Tells whether a reply is JSON, fits a schema, or says the same as another JSON value.

Knows nothing of files. A `str` handed to a check here is JSON text, as a reply's is.
"""

from __future__ import annotations

import json as stdlib_json
import math
import re
from itertools import islice
from typing import NoReturn

from harness.checks.asserted import finds
from harness.checks.base import CheckResult, held, miss, near, shorten, show, undecided
from harness.checks.differences import Comparison
from harness.checks.parts import leaves, parse_paths
from harness.checks.schema import problems_of
from harness.checks.sets import f1_of
from harness.errors import UsageError
from harness.records import Json, Reply

MAX_DEPTH = 64
MAX_DIGITS = 4300  # CPython's own limit for int(text)
# how many characters `within` may read again before it gives up: a reply of a million `[` is read
# a million times otherwise
_SEARCH_BUDGET = 4_000_000
# a string (closed or not), or a bracket: possessive, so that no text makes it read twice
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
_FENCE = re.compile(r"```[\w-]*[ \t]*\r?\n(.*?)```", re.DOTALL)


class _Bad(ValueError):
    """What json.loads would accept and we do not."""


def _pairs(found: list[tuple[str, Json]]) -> dict[str, Json]:
    made = dict(found)
    if len(made) != len(found):
        seen: set[str] = set()
        for key, _ in found:
            if key in seen:
                raise _Bad(f"the key {show(key, 60)} stands twice in one object")
            seen.add(key)
    return made


def _constant(text: str) -> NoReturn:
    raise _Bad(f"{text} is not JSON")


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _Bad(f"an integer of {len(text)} digits (limit {MAX_DIGITS})")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Bad(f"the number {shorten(text, 40)} is too large")
    return value


_DECODER = stdlib_json.JSONDecoder(
    object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_int, parse_float=_float
)


def _end_or_depth(text: str, start: int = 0) -> tuple[int, bool]:
    """Return where the value that opens at `start` ends, or where it is nested past MAX_DEPTH
    (then with True): asked before the parser recurses there.
    """
    depth = 0
    for match in _TOKENS.finditer(text, start):
        first = text[match.start()]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return match.start(), True
        elif first in "]}":
            depth -= 1
            if depth <= 0:
                return match.end(), False
    return len(text), False


def _loads(text: str, *, name: str, note: str = "") -> Json:
    """Return the value of the whole `text`, or raise Miss."""
    if not text.strip():
        raise miss(name, f"the reply is empty{note}")
    if text.count("[") + text.count("{") > MAX_DEPTH:
        place, is_deep = _end_or_depth(text)
        if is_deep:
            raise miss(
                name, f"nested deeper than {MAX_DEPTH} at character {place}: {near(text, place)}"
            )
    try:
        return _DECODER.decode(text)
    except stdlib_json.JSONDecodeError as exc:
        raise miss(
            name,
            f"not JSON: {exc.msg} at line {exc.lineno} column {exc.colno} "
            f"(character {exc.pos}): {near(text, exc.pos)}{note}",
        ) from None
    except _Bad as exc:
        raise miss(name, f"not JSON: {exc}: {show(text, 80)}{note}") from None


def _note(reply: Reply | str, text: str) -> str:
    if isinstance(reply, Reply) and reply.finish_reason == "length":
        return " (finish_reason is 'length': the reply was cut at max_tokens)"
    if "```" in text:
        return " (it holds a ``` fence: within=True reads the JSON inside a text)"
    return ""


def _find(text: str, *, name: str) -> Json:
    """Return the first fenced block that is JSON, else the first object or array in `text`."""
    for fence in islice(_FENCE.finditer(text), 8):
        if not _end_or_depth(fence[1])[1]:
            try:
                return _DECODER.decode(fence[1])
            except ValueError:
                continue
    spent = 0
    for tries, match in enumerate(re.finditer(r"[\[{]", text)):
        if spent > _SEARCH_BUDGET or tries > 1000:
            raise undecided(
                name, f"no JSON object or array among the first {tries} brackets: {show(text)}"
            )
        end, is_deep = _end_or_depth(text, match.start())
        spent += end - match.start()
        if not is_deep:
            try:
                return _DECODER.raw_decode(text, match.start())[0]
            except ValueError:
                continue
    raise miss(name, f"no JSON object or array in {show(text)}")


def value_of(reply: Reply | str | Json, *, name: str, within: bool = False) -> Json:
    """Return the JSON value of a reply or text; any other value is taken as parsed already."""
    if not isinstance(reply, Reply | str):
        return reply
    text = reply.text if isinstance(reply, Reply) else reply
    if within:
        return _find(text, name=name)
    return _loads(text, name=name, note=_note(reply, text))


@finds
def json(reply: Reply | str, *, within: bool = False) -> Json:
    """Return the value of a reply that is JSON; `within` finds the first object or array in prose.

    A miss says what is wrong, where, with its surroundings. Duplicate keys, NaN, infinities,
    integers of more than 4,300 digits and a depth over 64 are misses, and never errors.
    """
    if not isinstance(reply, Reply | str):
        raise UsageError(f"json: takes a Reply or a str first, not {type(reply).__name__}")
    return value_of(reply, name="json", within=within)


@finds
def json_schema(
    value_or_reply: Reply | str | Json, schema: Json, *, within: bool = False, formats: bool = False
) -> Json:
    """Return the value, where it is valid under the JSON schema `schema` (2020-12 by default).

    A miss lists the paths that are wrong. `formats` also checks `format`. References are looked
    up in the schema alone: nothing is fetched.
    """
    value = value_of(value_or_reply, name="json_schema", within=within)
    found = problems_of(value, schema, formats=formats)
    if found:
        raise miss("json_schema", found)
    return value


def json_equal(
    value_or_reply: Reply | str | Json,
    expected: Json,
    *,
    unordered: bool | str | list[str] | tuple[str, ...] = (),
    ignore: str | list[str] | tuple[str, ...] = (),
    allow_extra: bool = False,
    absolute: float = 0.0,
    relative: float = 0.0,
    within: bool = False,
) -> CheckResult:
    """Hold where the value says what `expected` says; a miss lists the differences by path.

    `expected` is a value, not JSON text. Keys have no order; `unordered` is True where no array
    has one either, or the paths of those that have none. `ignore` names paths that may differ,
    `allow_extra` lets objects hold keys that `expected` has not. Paths look like `$.items[*].tags`
    or `items[*].tags`; `*` stands for any key. 1 equals 1.0, True does not equal 1, and numbers
    may differ by `absolute`, or by `relative` times the expected one.
    """
    value = value_of(value_or_reply, name="json_equal", within=within)
    comparison = Comparison(
        unordered=unordered if isinstance(unordered, bool) else parse_paths(unordered),
        ignore=parse_paths(ignore),
        allow_extra=allow_extra,
        absolute=absolute,
        relative=relative,
    )
    found = comparison.report(value, expected)
    if found:
        raise miss("json_equal", found)
    return held("json_equal", f"the values are equal: {show(expected)}")


@finds
def contains_json(reply: Reply | str, schema: Json = None) -> Json:
    """Return the first JSON object or array in the text, where it fits `schema` (if given)."""
    if schema is None:
        return value_of(reply, name="contains_json", within=True)
    return json_schema(reply, schema, within=True)


def json_overlap(
    value_or_reply: Reply | str | Json,
    expected: Json,
    *,
    at_least: float = 1.0,
    within: bool = False,
) -> CheckResult:
    """Score the F1 of the two values' leaves (path and value): partial credit for JSON.

    Array items count by value, not by place. Source: van Rijsbergen (1979), Information
    Retrieval, ch. 7, with beta 1.
    """
    value = value_of(value_or_reply, name="json_overlap", within=within)
    return f1_of("json_overlap", leaves(value), leaves(expected), at_least=at_least)

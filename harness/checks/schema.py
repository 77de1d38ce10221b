"""Validates a JSON value against a JSON schema, bounded in time. Knows nothing of replies.

jsonschema's own `pattern` and `uniqueItems` can be made to hang by the value (a pattern that
backtracks, a long array that cannot be sorted), and its default registry fetches references over
the network; both are replaced here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from harness.checks.base import LINES, lines, printable, shorten
from harness.checks.parts import dotted, frozen
from harness.checks.patterns import search
from harness.errors import UsageError
from harness.records import Json

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator


def problems_of(value: Json, schema: Json, *, formats: bool = False) -> str:
    """Return what is wrong with `value`, a line for each path, at most ten; empty for nothing.

    Raises UsageError where the schema is broken.
    """
    import referencing.exceptions

    try:
        key = json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as exc:
        raise UsageError(f"json_schema: the schema is not JSON: {exc}") from exc
    validator = _validator(key, formats=formats)
    try:
        found = list(islice(validator.iter_errors(value), LINES + 1))
    except RecursionError:
        return "too deep for a schema that refers to itself"
    except referencing.exceptions.Unresolvable as exc:
        raise UsageError(
            f"json_schema: the schema refers to {exc.ref!r}, which it does not hold. "
            "Nothing is fetched: put it under $defs."
        ) from exc
    if not found:
        return ""
    text = lines([_line(error) for error in found[:LINES]])
    return text if len(found) <= LINES else f"{text}\n  … and more"


def _line(error: ValidationError) -> str:
    from jsonschema.exceptions import best_match

    if error.context:  # anyOf, oneOf: "not valid under any of them" helps nobody
        error = best_match([error]) or error
    return f"{dotted(tuple(error.absolute_path))}: {printable(shorten(error.message))}"


@lru_cache(maxsize=64)
def _validator(key: str, *, formats: bool) -> Validator:
    import jsonschema
    from jsonschema.validators import extend, validator_for
    from referencing import Registry

    schema = json.loads(key)
    if not isinstance(schema, dict | bool):
        raise UsageError(f"json_schema: a schema is an object, not {shorten(repr(schema), 80)}")
    kind = validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)  # type: ignore[arg-type]
    except jsonschema.SchemaError as exc:
        raise UsageError(
            f"json_schema: the schema is broken at {dotted(tuple(exc.absolute_path))}: "
            f"{shorten(exc.message)}"
        ) from exc
    bounded = extend(  # type: ignore[no-untyped-call]
        kind,
        {
            "additionalProperties": _additional_properties,
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
            "uniqueItems": _unique_items,
        },
    )
    made: Validator = bounded(
        schema,
        registry=Registry(),  # which fetches nothing
        format_checker=bounded.FORMAT_CHECKER if formats else None,
    )
    return made


def _pattern(_: Any, pattern: str, value: Json, __: Json) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    if isinstance(value, str) and not search(pattern, value, name="json_schema"):
        yield ValidationError(f"{shorten(repr(value), 80)} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Json, value: Json, _: Json
) -> Iterator[ValidationError]:
    if isinstance(value, dict):
        for pattern, schema in patterns.items():
            for key, item in value.items():
                if search(pattern, key, name="json_schema"):
                    yield from validator.descend(item, schema, path=key, schema_path=pattern)


def _additional_properties(
    validator: Any, rule: Json, value: Json, schema: Json
) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    if not isinstance(value, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extra = [
        key
        for key in value
        if key not in known and not any(search(p, key, name="json_schema") for p in patterns)
    ]
    if isinstance(rule, dict):
        for key in extra:
            yield from validator.descend(value[key], rule, path=key)
    elif not rule and extra:
        allowed = f" (allowed: {', '.join(known)})" if known else ""
        yield ValidationError(f"not allowed here: {', '.join(extra[:LINES])}{allowed}")


def _unique_items(_: Any, rule: Json, value: Json, __: Json) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    if rule and isinstance(value, list):
        seen: set[str] = set()
        for item in value:
            key = frozen(item)
            if key in seen:
                yield ValidationError(f"{shorten(repr(item), 80)} stands there twice")
                return
            seen.add(key)

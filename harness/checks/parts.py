"""The parts of a JSON value: paths to them, their kinds and texts. Knows nothing of replies."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable

from harness.checks.base import printable, show
from harness.errors import UsageError
from harness.records import Json

Path = tuple[str | int, ...]
Pattern = tuple[str, ...]

_STEP = re.compile(r"""\.?([^.\[\]"]+)|\["([^"]*)"\]|\['([^']*)'\]|\[(\d+|\*)\]""")
_encode = json.JSONEncoder(sort_keys=True, default=repr).encode  # made once: arrays are long


def parse_paths(paths: str | Iterable[str]) -> tuple[Pattern, ...]:
    """Return paths such as `$.items[*].tags` as steps. Raises UsageError for another shape."""
    return tuple(_parse(p) for p in ([paths] if isinstance(paths, str) else paths))


def _parse(path: str) -> Pattern:
    rest = path[1:] if path.startswith("$") else path
    steps, at = [], 0
    while at < len(rest):
        match = _STEP.match(rest, at)
        if match is None:
            raise UsageError(f"{path!r} is not a path: write `$`, `$.key`, `$.items[*].key`")
        steps.append(next(g for g in match.groups() if g is not None))
        at = match.end()
    return tuple(steps)


def dotted(path: Path) -> str:
    """Return `path` as people write it."""
    text = "$"
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.isidentifier():
            text += f".{step}"
        else:
            text += f"[{show(step, 40)}]"
    return printable(text)


def fits(path: Path, patterns: Iterable[Pattern]) -> bool:
    """Tell whether `path` is one of `patterns`."""
    return any(
        len(p) == len(path) and all(a in ("*", str(b)) for a, b in zip(p, path, strict=True))
        for p in patterns
    )


def kind_of(value: Json) -> str:
    """Return the JSON name of a value's type."""
    if isinstance(value, bool):
        return "boolean"
    if value is None:
        return "null"
    names = ((int | float, "number"), (str, "string"), (dict, "object"), (list | tuple, "array"))
    return next((name for kind, name in names if isinstance(value, kind)), type(value).__name__)


def frozen(value: Json) -> str:
    """Return a text that two values share where they are equal (1 and 1.0 are)."""
    if type(value) is int:
        return str(value)
    return _encode(value if isinstance(value, str) else _settled(value))


def _settled(value: Json) -> Json:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {str(k): _settled(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_settled(v) for v in value]
    return value


def leaves(value: Json) -> Counter[str]:
    """Return the leaves of `value` as `path value`, array items without their place."""
    found: Counter[str] = Counter()
    todo: list[tuple[str, Json]] = [("$", value)]
    while todo:
        path, item = todo.pop()
        if isinstance(item, dict) and item:
            todo.extend((f"{path}.{k}", v) for k, v in item.items())
        elif isinstance(item, list | tuple) and item:
            inner = f"{path}[]"
            for each in item:
                if isinstance(each, dict | list | tuple):
                    todo.append((inner, each))
                else:
                    found[f"{inner} {frozen(each)}"] += 1
        else:
            found[f"{path} {frozen(item)}"] += 1
    return found

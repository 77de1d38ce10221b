"""Says what a bare `assert` saw, where nobody rewrote it. Knows nothing of evals.

Under pytest an `assert a == b` tells both values; outside it says nothing at all. Here its source
is read again, and the names, attributes, items and lengths in it are looked up in the frame that
raised: nothing is called that could do more than look.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

from harness.checks.base import show

_VALUES = 4
_WIDTH = 120
_UNKNOWN = object()


def told(frame: FrameType, line: int) -> str:
    """Return the assertion at `line` of the frame's file, as source, place and values; or only
    the place, where the source cannot be read.
    """
    path = Path(frame.f_code.co_filename)
    place = f"{path.name}:{line}"
    found = [a for a in _asserts(path, _stamp(path)) if a.lineno <= line <= (a.end_lineno or 0)]
    if not found:
        return f"assertion failed at {place}"
    test = found[-1].test
    parts = [f"assert {ast.unparse(test)} ({place})"]
    for node in _worth_showing(test)[:_VALUES]:
        value = _look(node, frame)
        if value is not _UNKNOWN:
            parts.append(f"{ast.unparse(node)} = {show(value, _WIDTH)}")
    return "\n  ".join(parts)


def _stamp(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


@lru_cache(maxsize=64)
def _asserts(path: Path, _stamp: float) -> list[ast.Assert]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8-sig"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]


def _worth_showing(test: ast.expr) -> list[ast.expr]:
    """Return the outermost parts whose value can be looked up, in the order of the source."""
    found: dict[str, ast.expr] = {}
    # a comprehension's names are gone by now, and those of the same spelling mean something else
    hidden = ast.Lambda | ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp

    def walk(node: ast.AST) -> None:
        if isinstance(node, hidden):
            return
        if isinstance(node, ast.expr) and _is_plain(node):
            found.setdefault(ast.unparse(node), node)
            return
        for child in ast.iter_child_nodes(node):
            # of `text.strip()` the text is worth showing, the method is not
            is_call = isinstance(node, ast.Call) and child is node.func
            if is_call and isinstance(child, ast.Attribute):
                walk(child.value)
            elif not is_call:
                walk(child)

    walk(test)
    return list(found.values())


def _is_plain(node: ast.expr) -> bool:
    match node:
        case ast.Name():
            return True
        case ast.Attribute(value=value):
            return _is_plain(value)
        case ast.Subscript(value=value, slice=ast.Constant()):
            return _is_plain(value)
        case ast.Call(func=ast.Name(id="len"), args=[argument], keywords=[]):
            return _is_plain(argument)
    return False


def _look(node: ast.expr, frame: FrameType) -> Any:
    try:
        match node:
            case ast.Name(id=name):
                known = frame.f_locals if name in frame.f_locals else frame.f_globals
                return known.get(name, _UNKNOWN)
            case ast.Attribute(value=inner, attr=name):
                value = _look(inner, frame)
                return _UNKNOWN if value is _UNKNOWN else getattr(value, name)
            case ast.Subscript(value=inner, slice=ast.Constant(value=key)):
                value = _look(inner, frame)
                return _UNKNOWN if value is _UNKNOWN else value[key]
            case ast.Call(args=[inner]):
                value = _look(inner, frame)
                return _UNKNOWN if value is _UNKNOWN else len(value)
    except Exception:  # noqa: BLE001 - border: a stranger's property or item may raise anything
        return _UNKNOWN
    return _UNKNOWN

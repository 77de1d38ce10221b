"""What a check found, where it may be `[]`, `0` or `null`: in `assert` such a value holds too.

`assert checks.json(reply)` asks whether the reply is JSON. The check raises where it is not, so
that the value it returns must not decide. Only where the call is what an `assert` asks (all of it,
or a side of its `and` or `or`), and nothing else can see the value, a CheckResult stands for one
that is false; everywhere else (`checks.number(reply) == 0`, `not checks.json(reply)`) the value
itself is returned. Which it is, the source of the call tells; where there is none (code that was
made of a text, or `python -X no_debug_ranges`), it is the value. It is the value too where the
same `assert` names the check in another place, as in `any(map(checks.json, replies))`: what is
written in C calls it from there, and sees what it returns.
"""

from __future__ import annotations

import ast
import functools
import linecache
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from types import FrameType, ModuleType
from typing import Any, ParamSpec, TypeVar, cast

from harness.checks.base import held, show

P = ParamSpec("P")
R = TypeVar("R")

_Name = tuple[str, ...]
"""What is called, part by part: `("checks", "json")`."""


def finds(check: Callable[P, R]) -> Callable[P, R]:
    """Return a check that returns what it found, fit for `assert` whatever that is."""

    @functools.wraps(check)
    def found(*args: P.args, **arguments: P.kwargs) -> R:
        value = check(*args, **arguments)
        return cast("R", fit(value, check=found, name=check.__name__, frame=sys._getframe(1)))

    return found


def fit(value: Any, *, check: Callable[..., Any], name: str, frame: FrameType) -> Any:
    """Return what `check` found, or a CheckResult where it is false and only asserted.

    `name` is that of the result, and `frame` the one that called the check.
    """
    # what has no plain truth (numpy's arrays) is not asked for it
    is_false = value is None or (isinstance(value, _PLAIN) and not value)
    if is_false and is_asserted(check, frame):
        return held(name, show(value))
    return value


_PLAIN = (bool, int, float, str, list, tuple, dict)


def is_asserted(check: Callable[..., Any], frame: FrameType) -> bool:
    """Tell whether `frame` is in an `assert` that asks `check`, and names it nowhere else."""
    at = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), None)
    if at is None:
        return False
    line, end_line, column, end_column = at
    if line is None or end_line is None or column is None or end_column is None:
        return False
    source = "".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals))
    # as older releases of pytest rewrite an `assert`, each call in it has the place of all of it
    begin, end = (line, column), (end_line, end_column)
    here = [one for one in _asserts(source) if one.begin <= begin and end <= one.end]
    return any(_named(name, frame) is check for one in here for name in one.asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Assert:
    """Where an `assert` stands (line, and UTF-8 bytes of it), and what it alone asks."""

    begin: tuple[int, int]
    end: tuple[int, int]
    asked: frozenset[_Name]


@functools.lru_cache(maxsize=64)
def _asserts(source: str) -> tuple[_Assert, ...]:
    """Return what each `assert` of `source` asks."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):  # no Python: a template's line, say
        return ()
    return tuple(
        _Assert(
            begin=(node.lineno, node.col_offset),
            end=(node.end_lineno or 0, node.end_col_offset or 0),
            asked=_asked(node),
        )
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    )


def _asked(node: ast.Assert) -> frozenset[_Name]:
    """Return what an `assert` calls to see whether it holds, and names for nothing else."""
    asked: Counter[_Name] = Counter()
    tests: list[ast.expr] = [node.test]
    while tests:
        test = tests.pop()
        if isinstance(test, ast.BoolOp):
            tests += test.values
        elif isinstance(test, ast.Call):
            asked[_name_of(test.func)] += 1
    every = Counter(_name_of(one) for one in ast.walk(node))
    return frozenset(name for name, often in asked.items() if name and every[name] == often)


def _name_of(node: ast.AST) -> _Name:
    """Return the parts of a dotted name; nothing for what is none."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return (node.id, *reversed(parts)) if isinstance(node, ast.Name) else ()


def _named(name: _Name, frame: FrameType) -> object:
    """Return what a dotted name stands for in a frame: what lies in modules, so that no property
    of anybody's is asked.
    """
    found = frame.f_locals.get(name[0], frame.f_globals.get(name[0]))
    for part in name[1:]:
        if not isinstance(found, ModuleType):
            return None
        found = getattr(found, part, None)
    return found

"""What a check found, where it may be `[]`, `0` or `null`: in `assert` such a value holds too.

`assert checks.json(reply)` asks whether the reply is JSON. The check raises where it is not, so
that the value it returns must not decide. Only where the call is what an `assert` asks (all of it,
or a side of its `and` or `or`), and nothing else can see the value, a CheckResult stands for one
that is false; everywhere else (`checks.number(reply) == 0`, `not checks.json(reply)`) the value
itself is returned. Which it is, the source of the call tells; where there is none (code that was
made of a text, or `python -X no_debug_ranges`), it is the value.
"""

from __future__ import annotations

import ast
import functools
import linecache
import sys
from collections.abc import Callable
from itertools import islice
from types import FrameType
from typing import Any, ParamSpec, TypeVar, cast

from harness.checks.base import held, show

P = ParamSpec("P")
R = TypeVar("R")

_End = tuple[int, int]
"""Line, and UTF-8 bytes of it, behind the bracket that closes a call: no two calls share one."""


def finds(check: Callable[P, R]) -> Callable[P, R]:
    """Return a check that returns what it found, fit for `assert` whatever that is."""

    @functools.wraps(check)
    def found(*args: P.args, **arguments: P.kwargs) -> R:
        value = check(*args, **arguments)
        return cast("R", fit(value, name=check.__name__, frame=sys._getframe(1)))

    return found


def fit(value: Any, *, name: str, frame: FrameType) -> Any:
    """Return what the check `name` found, or a CheckResult where it is false and only asserted.

    `frame` is the one that called the check.
    """
    # what has no plain truth (numpy's arrays) is not asked for it
    is_false = value is None or (isinstance(value, _PLAIN) and not value)
    return held(name, show(value)) if is_false and is_asserted(frame) else value


_PLAIN = (bool, int, float, str, list, tuple, dict)


def is_asserted(frame: FrameType) -> bool:
    """Tell whether the call that `frame` is in the middle of is what an `assert` asks."""
    at = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), None)
    if at is None or at[1] is None or at[3] is None:
        return False
    source = "".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals))
    return (at[1], at[3]) in _asked(source)


@functools.lru_cache(maxsize=64)
def _asked(source: str) -> frozenset[_End]:
    """Return where the calls end that an `assert` of `source` asks."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):  # no Python: a template's line, say
        return frozenset()
    found = set()
    tests = [node.test for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    while tests:
        test = tests.pop()
        if isinstance(test, ast.BoolOp):
            tests += test.values
        elif isinstance(test, ast.Call) and test.end_lineno and test.end_col_offset:
            found.add((test.end_lineno, test.end_col_offset))
    return frozenset(found)

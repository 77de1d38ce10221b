"""Frames with words in them. Knows nothing of who shows them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any


def under(text: str, function: Callable[[], Any], *, name: str = "harness") -> Callable[[], Any]:
    """Return `function`, plain or async, to be called in a frame that bears `text` as its file.

    All that is shown of a process that C ends are the names of the files and functions that it is
    in: the one place for words about it.
    """
    caller = _await if inspect.iscoroutinefunction(function) else _call
    code = caller.__code__.replace(co_filename=text, co_name=name)
    return partial(FunctionType(code, globals()), function)


def _call(function: Callable[[], Any]) -> Any:
    __tracebackhide__ = True
    return function()


async def _await(function: Callable[[], Any]) -> Any:
    __tracebackhide__ = True
    return await function()

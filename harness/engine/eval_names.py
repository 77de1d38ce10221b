"""Holds a score to one eval function. Knows nothing of pytest or of what evals measure."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from harness.errors import TaskError


class EvalNames:
    """The eval functions of a session, by task folder and name: where each was written.

    One function may be collected more than once, where classes inherit it or a file imports it: it
    is one eval, as a function with parameters is. Two functions of one name would be averaged into
    a score that nobody wrote.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[Path, str], str] = {}

    def add(self, folder: Path, name: str, function: object) -> None:
        """Note an eval. Raises TaskError where another function of the task has its name."""
        here = place_of(function)
        first = self._places.setdefault((folder, name), here)
        if first != here:
            raise TaskError(
                f"{here}: a second eval named {name!r}; the first stands at {first}. A score is "
                "what one function gives, whatever its file or class: rename one of the two."
            )


def place_of(function: Any) -> str:
    """Return the file and line of a function's source; of a decorated one, of what it wraps."""
    bare: Any = inspect.unwrap(getattr(function, "__func__", function))
    bare = getattr(bare, "func", bare)  # of functools.partial
    code = getattr(bare, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else f"{bare!r}"

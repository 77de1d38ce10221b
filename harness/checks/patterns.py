"""Searches a pattern in a text, bounded in time. Knows nothing of replies.

The `regex` library is used, not `re`: a backtracking pattern in `re` cannot be stopped, and a
hostile reply would hold its worker for hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.checks.base import Undecided, shorten, undecided
from harness.errors import UsageError

if TYPE_CHECKING:
    import regex

TIMEOUT_S = 0.5


@lru_cache(maxsize=256)
def compiled(pattern: str, flags: str = "", *, name: str = "regex") -> regex.Pattern[str]:
    """Return `pattern` compiled with `flags` (letters of `aimsx`). Raises UsageError."""
    import regex

    if set(flags) - set("aimsx"):
        raise UsageError(f"{name}: flags are letters of 'aimsx', not {flags!r}")
    try:
        bits = 0
        for letter in flags:
            bits |= getattr(regex, letter.upper())
        return regex.compile(pattern, bits)
    except regex.error as exc:
        raise UsageError(f"{name}: the pattern {shorten(pattern)!r} is broken: {exc}") from exc


def search(
    pattern: str,
    text: str,
    *,
    name: str,
    flags: str = "",
    whole: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> regex.Match[str] | None:
    """Return the first match, or all of `text` matched where `whole`. A time-out is a Miss."""
    found = compiled(pattern, flags, name=name)
    try:
        call = found.fullmatch if whole else found.search
        return call(text, timeout=timeout_s)
    except TimeoutError:
        raise _too_slow(name, pattern, text, timeout_s=timeout_s) from None


def matches(
    pattern: str, text: str, *, name: str, flags: str = "", timeout_s: float = TIMEOUT_S
) -> Iterator[regex.Match[str]]:
    """Yield every match. A time-out is a Miss."""
    try:
        yield from compiled(pattern, flags, name=name).finditer(text, timeout=timeout_s)
    except TimeoutError:
        raise _too_slow(name, pattern, text, timeout_s=timeout_s) from None


def _too_slow(name: str, pattern: str, text: str, *, timeout_s: float) -> Undecided:
    """Return the Miss of a pattern that did not end."""
    return undecided(
        name,
        f"the pattern {shorten(pattern, 80)!r} took more than {timeout_s:g} s on "
        f"{len(text)} characters. Make it backtrack less (atomic groups, `++`), or bound it.",
    )

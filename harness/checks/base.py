"""What every check gives back and how its reasons are worded. Knows no check.

A check that holds returns a `CheckResult` (or its natural value, where it has one); one that
does not raises `harness.Miss`. So a check reads the same as a statement and inside `assert`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import HarnessError, Miss, UsageError
from harness.records import Reply

LINES = 10
"""A reason shows at most so many differences."""
WIDTH = 160
"""A reason shows at most so many characters of one value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """A check that held. `value` is in [0, 1]; `reason` says what was seen, so that a negated
    check can say why it missed.
    """

    name: str
    value: float = 1.0
    reason: str = ""

    def __bool__(self) -> bool:
        return True

    def __float__(self) -> float:
        return self.value


class Undecided(Miss):
    """A check that could not come to an end (a pattern that ran out of time). A negated check
    misses too, for not knowing is no evidence of absence.
    """


class Unmeasured(HarnessError):
    """A fact that the backend did not report (a latency, a price): the reply cannot be judged by
    it, so its score is unknown, which is neither a miss nor a fault.
    """


def undecided(name: str, reason: str) -> Undecided:
    """Return the Miss that no negation turns around."""
    return Undecided(f"{name}: {reason}")


def miss(name: str, reason: str, *, value: float = 0.0) -> Miss:
    """Return the Miss of check `name`, to be raised."""
    return Miss(f"{name}: {reason}", value=value)


def held(name: str, reason: str, *, value: float = 1.0) -> CheckResult:
    """Return the result of check `name`."""
    return CheckResult(name=name, value=value, reason=reason)


def scored(name: str, value: float, *, at_least: float, reason: str) -> CheckResult:
    """Return the result of a check that measures, or raise its Miss below `at_least`.

    A billionth of slack keeps 0.1 + 0.2 from missing 0.3.
    """
    if not 0.0 <= at_least <= 1.0:
        raise UsageError(f"{name}: at_least is a share between 0 and 1, not {at_least!r}")
    if value < at_least - 1e-9:
        raise miss(name, f"{value:.3f} is under at_least={at_least:g}; {reason}", value=value)
    return held(name, f"{value:.3f}; {reason}", value=value)


def text_of(reply: Reply | str, *, name: str) -> str:
    """Return the text of a reply, or the text itself. Raises UsageError for anything else."""
    if isinstance(reply, Reply):
        return reply.text
    if isinstance(reply, str):
        return reply
    raise UsageError(f"{name}: takes a Reply or a str first, not {type(reply).__name__}")


def listed(values: str | Iterable[str], *, name: str, what: str) -> list[str]:
    """Return `values` as a list of texts; one text is a list of one.

    Raises UsageError where it is empty, for an empty list would make any check hold or miss.
    """
    found = [values] if isinstance(values, str) else list(values)
    if not found or not all(isinstance(v, str) for v in found):
        raise UsageError(f"{name}: {what} must be texts, at least one; got {show(found)}")
    return found


def shorten(text: str, limit: int = WIDTH) -> str:
    """Return `text` with its middle left out where it is longer than `limit`."""
    if len(text) <= limit:
        return text
    head = (limit * 2) // 3
    tail = limit - head
    return f"{text[:head]} …{len(text) - limit} characters… {text[-tail:]}"


def printable(text: str) -> str:
    """Return `text` with what a terminal could obey, and lone surrogates, as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def show(value: Any, limit: int = WIDTH) -> str:
    """Return `value` for a reason: a text in quotes, else JSON; elided in the middle, and safe to
    print (what a terminal could obey is escaped).
    """
    if isinstance(value, str):
        # quoted after it was shortened, or a million characters would be escaped for nothing
        return repr(shorten(value, limit))
    try:
        text = json.dumps(value, ensure_ascii=False, default=repr)
    except (TypeError, ValueError, RecursionError):
        text = f"<{type(value).__name__}>"
    return printable(shorten(text, limit))


def near(text: str, position: int, width: int = 40) -> str:
    """Return the surroundings of `position`, marked `>>`."""
    before = text[max(0, position - width) : position]
    after = text[position : position + width]
    return printable(
        ("…" if position > width else "")
        + before
        + ">>"
        + after
        + ("…" if position + width < len(text) else "")
    )


def lines(found: Sequence[str], *, total: int | None = None) -> str:
    """Return at most LINES of `found`, one a line, and how many more there are."""
    total = len(found) if total is None else total
    shown = list(found[:LINES])
    if total > len(shown):
        shown.append(f"… and {total - len(shown)} more")
    return "\n  ".join(shown)

"""Tells whether a reply's number is the right one. Knows nothing of units.

Numbers are read as English writes them: a dot before decimals, commas between thousands.
"""

from __future__ import annotations

import math
import re
from collections import deque
from typing import Literal

from harness.checks.asserted import finds
from harness.checks.base import CheckResult, held, miss, near, shorten, show, text_of
from harness.errors import UsageError
from harness.records import Reply

Which = Literal["only", "first", "last"]
_TAIL = 2_000
# not inside a word, nor after a decimal point: "v2" and the ".3" of "1.2.3" are no numbers
_NUMBER = re.compile(
    r"(?<![\w.])[-+\u2212]?(?:\d{1,3}(?:,\d{3})++(?!\d)|\d++)(?:\.\d++)?(?:[eE][-+]?\d{1,4})?"
    r"|(?<![\w.])[-+\u2212]?\.\d++"
)


@finds
def number(reply: Reply | str, *, which: Which = "only") -> float:
    """Return the number that stands in the reply; where there are several, the `first` or `last`.

    A miss says that there is none, or which there are.
    """
    return _number(reply, which=which, name="number")


def _number(reply: Reply | str | float, *, which: Which, name: str) -> float:
    if isinstance(reply, int | float) and not isinstance(reply, bool):
        value = _float(reply, name=name)
        if not math.isfinite(value):
            raise miss(name, f"{value} is not a number")
        return value
    if isinstance(reply, bool | float):
        raise UsageError(f"{name}: takes a Reply, a str or a number first, not {show(reply)}")
    text = text_of(reply, name=name)
    if which not in ("only", "first", "last"):
        raise UsageError(f"{name}: which is 'only', 'first' or 'last', not {which!r}")
    found: deque[re.Match[str]] = deque(maxlen=6)
    # the last number is looked for at the end first: there can be half a million of them
    for start in (max(0, len(text) - _TAIL), 0) if which == "last" else (0,):
        for match in _NUMBER.finditer(text, start):
            found.append(match)
            if which == "first" or (which == "only" and len(found) > 5):
                break
        if found:
            break
    if not found:
        raise miss(name, f"no number in {show(text)}")
    if which == "only" and len(found) > 1:
        values = ", ".join(shorten(m[0], 20) for m in list(found)[:5])
        more = ", …" if len(found) > 5 else ""
        raise miss(
            name,
            f"{show(text)} holds several numbers ({values}{more}); which='last' takes the last",
        )
    match = found[-1]
    value = float(match[0].replace(",", "").replace("\u2212", "-"))
    if not math.isfinite(value):
        raise miss(name, f"the number is too large: {near(text, match.start())}")
    return value


def _float(value: float, *, name: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise miss(name, "the number is too large") from None


def close_to(
    reply: Reply | str | float,
    expected: float,
    *,
    absolute: float = 0.0,
    relative: float = 0.0,
    which: Which = "only",
) -> CheckResult:
    """Hold where the number is within `absolute`, or `relative` times `expected`, of `expected`.

    A miss shows the difference and the tolerance.
    """
    if absolute < 0 or relative < 0 or not math.isfinite(expected):
        raise UsageError("close_to: expected is finite and a tolerance is not below 0")
    got = _number(reply, which=which, name="close_to")
    allowed = max(absolute, relative * abs(expected))
    off = abs(got - expected)
    reason = f"expected {expected:g} ± {allowed:g}, got {got:.12g} (off by {off:g})"
    if off > allowed * (1 + 1e-12) and got != expected:
        raise miss("close_to", reason)
    return held("close_to", reason)


def between(
    reply: Reply | str | float, low: float, high: float, *, which: Which = "only"
) -> CheckResult:
    """Hold where the number is at least `low` and at most `high`."""
    if not low <= high:
        raise UsageError(f"between: low {low!r} is not below high {high!r}")
    got = _number(reply, which=which, name="between")
    if not low <= got <= high:
        raise miss("between", f"{got:.12g} is not between {low:g} and {high:g}")
    return held("between", f"{got:.12g} is between {low:g} and {high:g}")

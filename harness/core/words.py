"""Numbers as people say them. Knows no verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percent(share: float, *, digits: int = 1) -> str:
    """Return 0.779 as `77.9 %`, and 0.8 as `80 %`."""
    return f"{_trim(100 * share, digits)} %"


def chance(probability: float) -> str:
    """Return a simulated probability as whole percent: `below 1 %`, `18 %`, `above 99 %`."""
    if probability < 0.005:
        return "below 1 %"
    return "above 99 %" if probability > 0.995 else f"{100 * probability:.0f} %"


def points(share: float, *, is_signed: bool = False) -> str:
    """Return 0.041 as `4.1 points`, and 0.01 as `1 point`."""
    text = _trim(100 * share, 1)
    if is_signed and not text.startswith("-") and text != "0":
        text = f"+{text}"
    return f"{text} point" if text.lstrip("+-") == "1" else f"{text} points"


def ratio(value: float) -> str:
    """Return `12`, `0.98`, `0.0042` or `below 0.001`: how many times as much."""
    if 0 <= value < 0.001:
        return "below 0.001"
    return significant(value) if value < 0.1 or value >= 10 else f"{value:.2f}"


def significant(value: float, *, digits: int = 2) -> str:
    """Return a number with so many significant digits, no whole one lost and no exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return _trim(value, places) if places > 0 else f"{value:,.0f}"


def amount(value: float, unit: str = "", *, digits: int = 2) -> str:
    """Return `1.2 s`, `40 ms` below a second, `0.15 $`, `0.1 cents` below a cent."""
    if unit == "s" and 0 < abs(value) < 1:
        value, unit = 1000 * value, "ms"
    elif unit == "$" and 0 < abs(value) < 0.01:
        value, unit = 100 * value, "cents"
    return f"{significant(value, digits=digits)} {unit}".rstrip()


def count(n: int, noun: str) -> str:
    """Return `1 try`, `2 tries`, `3 cases`."""
    if n == 1:
        return f"1 {noun}"
    ending = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{n} {ending}"


def listed(names: Sequence[str], *, joint: str = "and") -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {joint} {names[-1]}"


def about(n: float) -> int:
    """Return n rounded up to two leading digits: a need is an estimate."""
    if n <= 10:
        return math.ceil(n)
    unit: int = 10 ** (math.floor(math.log10(n)) - 1)
    return math.ceil(n / unit - 1e-9) * unit


def _trim(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text

"""Numbers and answers in plain words. Knows nothing of HTML."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from harness.core import money
from harness.records import Estimate

NARROW = "\u202f"  # narrow no-break space, between a number and its unit
MINUS = "\u2212"
NONE = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a verdict is shown: `tone` names a colour, `icon` a symbol of the page."""

    label: str
    headline: str
    tone: str
    icon: str


WALL_ANSWERS = {
    "SHIP_PROMPT": Answer(
        label="SHIP PROMPT", headline="A prompt is enough", tone="good", icon="tick"
    ),
    "KEEP_PROMPTING": Answer(
        label="KEEP PROMPTING", headline="No wall yet", tone="go", icon="ladder"
    ),
    "WALL": Answer(label="WALL", headline="Prompting has hit a wall", tone="wall", icon="wall"),
    "INSUFFICIENT_EVIDENCE": Answer(
        label="INSUFFICIENT EVIDENCE",
        headline="Too few cases to tell",
        tone="open",
        icon="question",
    ),
    "FIX_DATA": Answer(
        label="FIX DATA", headline="The labels stand in the way", tone="open", icon="question"
    ),
}
RELEASE_ANSWERS = {
    "SHIP": Answer(label="SHIP", headline="The release is earned", tone="good", icon="tick"),
    "BLOCK": Answer(label="BLOCK", headline="This release is stopped", tone="bad", icon="cross"),
    "INSUFFICIENT_EVIDENCE": Answer(
        label="INSUFFICIENT EVIDENCE",
        headline="Too few cases to tell",
        tone="open",
        icon="question",
    ),
}


def wall_answer(answer: str) -> Answer:
    """Return how a wall verdict is shown; an answer of a later version is shown as it is."""
    return WALL_ANSWERS.get(answer) or _stranger(answer)


def release_answer(answer: str) -> Answer:
    """Return how a release verdict is shown."""
    return RELEASE_ANSWERS.get(answer) or _stranger(answer)


def _stranger(answer: str) -> Answer:
    return Answer(label=answer, headline=answer, tone="open", icon="question")


def number(value: float | None, *, digits: int = 0) -> str:
    """Return `value` rounded, thousands set apart."""
    if value is None:
        return NONE
    return f"{value:,.{digits}f}".replace(",", NARROW).replace("-", MINUS)


def percent(share: float | None) -> str:
    """Return a share as per cent: whole where it is, else with one decimal."""
    if share is None:
        return NONE
    return f"{_short(share * 100)}{NARROW}%"


def points(difference: float | None) -> str:
    """Return a difference of shares in points, with its sign."""
    if difference is None:
        return NONE
    text = _short(difference * 100)
    return text if text.startswith(MINUS) or text == "0" else f"+{text}"


def bare_points(size: float | None) -> str:
    """Return a size in points, without a sign."""
    return NONE if size is None else _short(size * 100)


def _short(value: float) -> str:
    rounded = round(value, 1)
    text = f"{rounded:.0f}" if rounded == int(rounded) else f"{rounded:.1f}"
    return "0" if text == "-0" else text.replace("-", MINUS)


def mean(estimate: Estimate) -> str:
    """Return the mean of an estimate as per cent; a dash where nothing was measured."""
    return percent(estimate.mean) if estimate.n else NONE


def span(estimate: Estimate) -> str:
    """Return the two bounds of an estimate, as `3–22 %`; a dash where nothing was measured."""
    if not estimate.n:
        return NONE
    return f"{_short(estimate.lower * 100)}–{_short(estimate.upper * 100)}{NARROW}%"


def said(text: str) -> str:
    """Return a sentence of a verdict with numbers as a page has them: none parted from its `%`,
    and the minus sign that stands in its tables.
    """
    text = re.sub(r"(?<=\d) %(?!\w)", f"{NARROW}%", text)
    return re.sub(r"(?<![^\s(])-(?=\d)", MINUS, text)


def surety(alpha: float) -> str:
    """Return the confidence of a one-sided bound."""
    return percent(1 - alpha)


def seconds(value: float | None) -> str:
    """Return a time with the digits that matter."""
    if value is None:
        return NONE
    if value >= 100:
        return f"{number(value)}{NARROW}s"
    if value >= 1:
        return f"{value:.1f}{NARROW}s"
    return f"{value * 1000:.0f}{NARROW}ms"


def usd(value: float | None) -> str:
    """Return money with the digits that matter."""
    return NONE if value is None else money.usd(value)


def measured(value: float) -> str:
    """Return what a tuner measured: whole from a thousand up, else with four digits."""
    if math.isfinite(value) and (abs(value) >= 1000 or value == int(value)):
        return number(value)
    return f"{value:.4g}".replace("-", MINUS)


def plural(count: int, one: str, many: str = "") -> str:
    """Return `3 cases`, `1 case`."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def short_digest(value: str | None) -> str:
    """Return the first 12 characters of a long digest, anything else as it is."""
    if not value:
        return NONE
    return value[:12] if re.fullmatch(r"[0-9a-f]{16,}", value) else value


def cut(text: str, length: int) -> str:
    """Return `text` on one line, cut to `length` characters with an ellipsis."""
    line = " ".join(text[: length * 4].split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def cut_middle(text: str, length: int) -> str:
    """Return `text`, its middle left out from `length` characters on: names of candidates differ
    at their ends, as in `PROMPT@SCHEME:MODEL`.
    """
    head = (length - 1) // 2
    return text if len(text) <= length else f"{text[:head]}…{text[head + 1 - length :]}"

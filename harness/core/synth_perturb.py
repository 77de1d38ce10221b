"""Small changes to a text that keep what is asked, or say that they do not. Knows no model.

Each change is made from a seed: the same text and seed give the same result. None touches digits,
but for the one whose purpose they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_WORD = re.compile(r"[^\W\d_]{4,}")
_ONE_WORD_IN = 8
"""Of so many words one gets a typo: about what hurried people write."""
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {
    key: row[max(0, n - 1) : n] + row[n + 1 : n + 2] for row in _KEYS for n, key in enumerate(row)
}
"""The keys left and right of a key, on a QWERTY keyboard."""
_CLOSERS = (
    "Thanks in advance!",
    "Sent from my phone.",
    "Sorry for the long message.",
    "I hope you are having a good day.",
    "(I asked this before, but nobody answered.)",
)
_OPENERS = ("Hi,", "Hello there.", "Quick question.", "Good morning!", "One more thing:")
# a number that stands alone: no part of a word, a date, a time, a version or a code
_NUMBER = re.compile(
    r"(?<![\w.,:/#\-])(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?"
    r"(?![\w:/\-]|[.,]\d|\s*(?i:[ap]\.?m\b|o'?clock\b))"
)
_BEFORE = re.compile(r"[$€£¥]\s?$")
_AFTER = re.compile(r"\s?(?:[%€$£¥°]|(?i:eur|euros?|usd|dollars?|kg|km|cm|mm|mg|ml|kwh|gb|mb)\b)")
"""What makes a small whole number an amount, and no name of a day, a room or a type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """A change by name. `keeps_label`: the answer to the text stays the answer.

    `make` returns the changed text, or None where there is nothing to change.
    """

    name: str
    about: str
    keeps_label: bool
    make: Callable[[str, np.random.Generator], str | None]


def _typos(text: str, rng: np.random.Generator) -> str | None:
    words = list(_WORD.finditer(text))
    if not words:
        return None
    wanted = max(1, round(len(words) / _ONE_WORD_IN))
    chosen = sorted(rng.choice(len(words), size=wanted, replace=False).tolist(), reverse=True)
    for n in chosen:  # from the end, so that places before stay
        start, end = words[n].span()
        text = text[:start] + _typo(text[start:end], rng) + text[end:]
    return text


def _typo(word: str, rng: np.random.Generator) -> str:
    """Return a word with two letters swapped, one left out, doubled, or its neighbour's."""
    at = int(rng.integers(1, len(word) - 1))  # the first letter is seldom wrong
    kind = int(rng.integers(4))
    if kind == 0 and word[at] != word[at + 1]:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    beside = _NEIGHBOURS.get(word[at])
    if kind == 2 and beside:
        return word[:at] + beside[int(rng.integers(len(beside)))] + word[at + 1 :]
    return word[: at + 1] + word[at:]


def _case(text: str, rng: np.random.Generator) -> str | None:
    forms = [f for f in (text.lower(), text.upper(), text.swapcase()[:1] + text[1:]) if f != text]
    return forms[int(rng.integers(len(forms)))] if forms else None


def _whitespace(text: str, rng: np.random.Generator) -> str | None:
    gaps = [m.start() for m in re.finditer(r"(?<=\S) (?=\S)", text)]
    if not gaps:
        return f"{text} " if text else None
    wanted = max(1, len(gaps) // 6)
    for at in sorted(rng.choice(len(gaps), size=wanted, replace=False).tolist(), reverse=True):
        gap = ("  ", "\n", "\t", "   ")[int(rng.integers(4))]
        text = text[: gaps[at]] + gap + text[gaps[at] + 1 :]
    return f" {text}\n" if rng.integers(2) else text


def _distractor(text: str, rng: np.random.Generator) -> str | None:
    if not text.strip():
        return None
    if rng.integers(2):
        return f"{_OPENERS[int(rng.integers(len(_OPENERS)))]} {text}"
    gap = " " if text.rstrip()[-1] in ".?!" else "\n"
    return f"{text}{gap}{_CLOSERS[int(rng.integers(len(_CLOSERS)))]}"


def _truncate(text: str, rng: np.random.Generator) -> str | None:
    words = [m.end() for m in re.finditer(r"\S+", text)]
    if len(words) < 4:
        return None
    kept = int(len(words) * (0.5 + 0.3 * float(rng.random())))
    return text[: words[max(1, kept) - 1]]


def _numbers(text: str, rng: np.random.Generator) -> str | None:
    """Write numbers another way: 1200 as 1,200 or 1200.0, and back.

    Years stay, and so do small whole numbers without a sign or unit: they may count or name.
    """

    def other(match: re.Match[str]) -> str:
        whole, rest = match[1], match[2] or ""
        if "," in whole:
            return whole.replace(",", "") + rest
        if whole.startswith("0") and whole != "0":
            return match[0]  # a code, whose zeros count
        if rest:
            short = rest.rstrip("0").rstrip(".")
            return whole + (short if short != rest else f"{rest}0")
        if len(whole) > 4 or (len(whole) == 4 and not 1900 <= int(whole) <= 2100):
            return f"{int(whole):,}" if rng.integers(2) else f"{whole}.0"
        is_amount = _BEFORE.search(text[: match.start()]) or _AFTER.match(text, match.end())
        return f"{whole}.0" if len(whole) < 4 and is_amount else match[0]

    changed = _NUMBER.sub(other, text)
    return changed if changed != text else None


PERTURBATIONS: dict[str, Perturbation] = {
    p.name: p
    for p in (
        Perturbation(
            name="typos",
            about="letters swapped, left out, doubled or from the key beside",
            keeps_label=True,
            make=_typos,
        ),
        Perturbation(
            name="case",
            about="all small, all capitals, or the first letter the other way",
            keeps_label=True,
            make=_case,
        ),
        Perturbation(
            name="whitespace",
            about="more spaces, tabs and line breaks",
            keeps_label=True,
            make=_whitespace,
        ),
        Perturbation(
            name="distractor",
            about="a sentence before or after that asks nothing",
            keeps_label=True,
            make=_distractor,
        ),
        Perturbation(
            name="numbers",
            about="numbers written another way: 1200, 1,200, 1200.0",
            keeps_label=True,
            make=_numbers,
        ),
        Perturbation(
            name="truncate",
            about="the end cut off: what is left may have another answer, or none",
            keeps_label=False,
            make=_truncate,
        ),
    )
}
"""The changes that need no model, by name."""


def perturbed(text: str, kind: str, *, seed: int) -> str | None:
    """Return `text` changed by `kind`; None where that changes nothing."""
    made = PERTURBATIONS[kind].make(text, np.random.default_rng(seed))
    return None if made is None or made == text else made

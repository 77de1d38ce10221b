"""Makes texts alike that say the same. Knows no check."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

from harness.errors import UsageError

_ASCII_PUNCTUATION = {i: None for i in range(128) if unicodedata.category(chr(i))[0] == "P"}
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def _punctuation(text: str) -> str:
    # dropped and not replaced: "e.g." and "eg", "don't" and "dont" are meant to be the same
    if text.isascii():
        return text.translate(_ASCII_PUNCTUATION)
    return "".join(c for c in text if unicodedata.category(c)[0] != "P")


def _accents(text: str) -> str:
    if text.isascii():
        return text
    split = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in split if not unicodedata.combining(c)))


STEPS: dict[str, Callable[[str], str]] = {
    "nfc": lambda text: unicodedata.normalize("NFC", text),
    "nfkc": lambda text: unicodedata.normalize("NFKC", text),
    "case": str.casefold,
    "accents": _accents,
    "punctuation": _punctuation,
    "articles": lambda text: _ARTICLES.sub(" ", text),
    "space": lambda text: " ".join(text.split()),
    "strip": str.strip,
}
"""What `normalise` may name, in the order in which the steps are taken."""


def normaliser(steps: str | Iterable[str], *, name: str) -> Callable[[str], str]:
    """Return a function that takes the named steps, NFC first. Raises UsageError for others."""
    wanted = {steps} if isinstance(steps, str) and steps else set(steps)
    unknown = wanted - set(STEPS)
    if unknown:
        raise UsageError(f"{name}: normalise names {sorted(unknown)}. Known: {', '.join(STEPS)}.")
    chosen = [step for known, step in STEPS.items() if known in wanted | {"nfc"}]

    def change(text: str) -> str:
        for step in chosen:
            text = step(text)
        return text

    return change

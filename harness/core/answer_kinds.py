"""What the answers of a file of rows are like: labels, numbers, short texts. Knows no check."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from harness.records import Json

LABEL = 60
"""Characters of the longest label."""
SHORT = 40
"""Characters, in the middle, of answers that a reply is asked to contain."""


def plain_answers(answers: Sequence[Json]) -> list[Json]:
    """Return the answers; texts that are all JSON objects or arrays, or all numbers, as values."""
    if answers and all(_is_several(a) and len(a["references"]) == 1 for a in answers):
        return [a["references"][0] for a in answers]
    texts = [a for a in answers if isinstance(a, str)]
    if not texts or len(texts) != len(answers):
        return list(answers)
    if all(text.strip()[:1] in {"{", "["} for text in texts):
        try:
            return [json.loads(text) for text in texts]
        except (ValueError, RecursionError):
            return list(answers)
    return list(answers)


def _is_several(value: Json) -> bool:
    """Whether a value is several texts of which any would do."""
    if not isinstance(value, dict) or set(value) != {"references"}:
        return False
    texts = value["references"]
    return isinstance(texts, list) and bool(texts) and all(isinstance(t, str) for t in texts)


def number_in(value: Json) -> float | None:
    """Return a number, or a text that is nothing but one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:  # a whole number of hundreds of digits is a name, not an amount
            return None
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,15}(\.\d+)?\s*", value):
        return float(value)
    return None


def are_labels(texts: Sequence[str]) -> bool:
    """Whether texts are a few short ones that come back."""
    known = {text.strip() for text in texts}
    most = min(max(2, len(texts) // 3), 1000)
    return len(known) < len(texts) and len(known) <= most and max(map(len, known)) <= LABEL


def are_short(texts: Sequence[str]) -> bool:
    """Whether a reply can be asked to contain these texts."""
    lengths = sorted(map(len, texts))
    return lengths[len(lengths) // 2] <= SHORT and lengths[-1] <= 4 * SHORT


def spelled_once(labels: Sequence[str]) -> Counter[str]:
    """Count labels; those that differ in case and white space alone, as the commonest of them."""
    spellings: dict[str, Counter[str]] = {}
    for label in labels:
        spellings.setdefault(" ".join(label.casefold().split()), Counter())[label] += 1
    return Counter({s.most_common(1)[0][0]: s.total() for s in spellings.values()})


def differ_without_punctuation(labels: Iterable[str]) -> bool:
    """Whether labels can be told apart by their letters and figures alone."""
    bare = [
        "".join(c for c in label.casefold() if unicodedata.category(c)[0] != "P").strip()
        for label in labels
    ]
    return all(bare) and len(set(bare)) == len(bare)

"""What the answers of a file of rows are like: labels, numbers, short texts. Knows no check."""

from __future__ import annotations

import json
import math
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
    several = [references_in(a) for a in answers]
    if answers and all(s is not None and len(set(s)) == 1 for s in several):
        return [s[0] for s in several if s]
    texts = [a for a in answers if isinstance(a, str)]
    if not texts or len(texts) != len(answers):
        return list(answers)
    if all(text.strip()[:1] in {"{", "["} for text in texts):
        try:
            return [_STRICT.decode(text) for text in texts]
        except (ValueError, RecursionError):
            return list(answers)
    return list(answers)


def _once(pairs: list[tuple[str, Json]]) -> Json:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no number of JSON")
    return value


_STRICT = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_finite, parse_float=_finite)


def references_in(value: Json) -> list[str] | None:
    """Return the texts of `{"references": [...]}`, of which any would do; None for another value.
    Further keys must say one of them again, as a `headline` does.
    """
    texts = value.get("references") if isinstance(value, dict) else None
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        return None
    others = [other for key, other in value.items() if key != "references"]
    return texts if all(other in texts for other in others) else None


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

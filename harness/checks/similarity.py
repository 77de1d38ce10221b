"""Scores how near a reply's wording is to a reference. Knows nothing of meaning.

Every score is in [0, 1]. `at_least` is a bar for one reply; where no bar is meant, write
`score(float(checks.rouge_l(reply, reference, at_least=0)))`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from harness.checks.base import (
    CheckResult,
    held,
    listed,
    miss,
    scored,
    show,
    text_of,
    undecided,
)
from harness.checks.normalise import normaliser
from harness.errors import MissingExtra, UsageError
from harness.records import Reply

# pairs of characters that are compared in well under a second
_MAX_PAIRS = 10**10
_MAX_CHARACTERS = 50_000  # for n-gram scores, which count in Python
_WORD = re.compile(r"\w++")


def _distances(name: str) -> Any:
    try:
        from rapidfuzz import distance
    except ImportError as exc:
        raise MissingExtra(f"checks.{name}", extra="checks") from exc
    return distance


def _pair(
    name: str, reply: Reply | str, expected: str, normalise: str | Iterable[str]
) -> tuple[str, str]:
    if not isinstance(expected, str):
        raise UsageError(f"{name}: expected is a text, not {type(expected).__name__}")
    change = normaliser(normalise, name=name)
    said, wanted = change(text_of(reply, name=name)), change(expected)
    if len(said) * len(wanted) > _MAX_PAIRS:
        raise undecided(
            name, f"{len(said)} and {len(wanted)} characters are too many to compare in a second"
        )
    return said, wanted


def edit_distance(
    reply: Reply | str, expected: str, *, at_most: int, normalise: str | Iterable[str] = ()
) -> CheckResult:
    """Hold where at most so many characters must be inserted, deleted or replaced.

    Source: Levenshtein (1966), Soviet Physics Doklady 10:707-710.
    """
    said, wanted = _pair("edit_distance", reply, expected, normalise)
    n = _distances("edit_distance").Levenshtein.distance(said, wanted)
    reason = f"{n} edits from {show(wanted)} to {show(said)}"
    if n > at_most:
        raise miss("edit_distance", f"{reason}, expected at most {at_most}")
    return held("edit_distance", reason)


def edit_similarity(
    reply: Reply | str,
    expected: str,
    *,
    at_least: float = 0.8,
    normalise: str | Iterable[str] = (),
) -> CheckResult:
    """Score 1 less the edit distance as a share of the longer text."""
    said, wanted = _pair("edit_similarity", reply, expected, normalise)
    near = _distances("edit_similarity").Levenshtein.normalized_similarity
    value = float(near(said, wanted))
    reason = f"expected {show(wanted)}, got {show(said)}"
    return scored("edit_similarity", value, at_least=at_least, reason=reason)


def _words(name: str, reply: Reply | str, expected: str) -> tuple[list[str], list[str]]:
    said, wanted = _pair(name, reply, expected, ("case",))
    return _WORD.findall(said), _WORD.findall(wanted)


def _f1(name: str, common: int, got: int, wanted: int, at_least: float) -> CheckResult:
    if not wanted:
        raise UsageError(f"{name}: there is no word to expect")
    value = 2 * common / (got + wanted)
    reason = f"{common} in common of {wanted} expected and {got} said"
    return scored(name, value, at_least=at_least, reason=reason)


def rouge_l(reply: Reply | str, expected: str, *, at_least: float = 0.75) -> CheckResult:
    r"""Score ROUGE-L F1: the longest common subsequence of words (`\w+`, case folded).

    Source: Lin (2004), ROUGE, ACL workshop 74-81, section 3.1, with beta 1. Checked against
    rouge-score 0.1.2, without stemming, on ASCII text.
    """
    got, wanted = _words("rouge_l", reply, expected)
    common = _distances("rouge_l").LCSseq.similarity(got, wanted)
    return _f1("rouge_l", common, len(got), len(wanted), at_least)


def rouge_n(
    reply: Reply | str, expected: str, *, n: int = 1, at_least: float = 0.75
) -> CheckResult:
    r"""Score ROUGE-N F1: runs of `n` words (`\w+`, case folded) in common.

    Source: Lin (2004), ROUGE, ACL workshop 74-81, section 2. Checked as `rouge_l` is.
    """
    if n < 1:
        raise UsageError(f"rouge_n: n is at least 1, not {n!r}")
    got, wanted = (
        Counter(zip(*(tokens[i:] for i in range(n)), strict=False))
        for tokens in _words("rouge_n", reply, expected)
    )
    return _f1("rouge_n", (got & wanted).total(), got.total(), wanted.total(), at_least)


@lru_cache(maxsize=2)
def _metric(name: str) -> Any:
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as exc:
        raise MissingExtra(f"checks.{name}", extra="checks") from exc
    return BLEU(effective_order=True) if name == "bleu" else CHRF()


def _sacrebleu(
    name: str, reply: Reply | str, expected: str | Iterable[str], at_least: float
) -> CheckResult:
    text, wanted = text_of(reply, name=name), listed(expected, name=name, what="expected")
    if len(text) > _MAX_CHARACTERS:
        raise undecided(name, f"{len(text)} characters are too many (limit {_MAX_CHARACTERS})")
    value = min(1.0, max(0.0, _metric(name).sentence_score(text, wanted).score / 100))
    reason = f"expected {show(wanted)}, got {show(text)}"
    return scored(name, value, at_least=at_least, reason=reason)


def bleu(
    reply: Reply | str, expected: str | Iterable[str], *, at_least: float = 0.5
) -> CheckResult:
    """Score sentence BLEU (sacrebleu's, effective order) against one or several references.

    Source: Papineni et al. (2002), ACL 311-318; Post (2018), WMT 186-191. One sentence's BLEU is
    coarse: chrf ranks single replies better.
    """
    return _sacrebleu("bleu", reply, expected, at_least)


def chrf(
    reply: Reply | str, expected: str | Iterable[str], *, at_least: float = 0.5
) -> CheckResult:
    """Score chrF2 (sacrebleu's: character 6-grams) against one or several references.

    Source: Popovic (2015), chrF, WMT 392-395.
    """
    return _sacrebleu("chrf", reply, expected, at_least)


def gleu(
    reply: Reply | str, expected: str | Iterable[str], *, at_least: float = 0.5
) -> CheckResult:
    r"""Score sentence GLEU: the runs of one to four words (`\w+`, case folded) in common, as a
    share of those of the longer of the two texts; of several references the nearest counts.

    Source: Wu et al. (2016), arXiv 1609.08144, section 6. Checked against nltk 3.10.4.
    """
    references = listed(expected, name="gleu", what="expected")
    longest = max(map(len, (text_of(reply, name="gleu"), *references)))
    if longest > _MAX_CHARACTERS:
        raise undecided("gleu", f"{longest} characters are too many (limit {_MAX_CHARACTERS})")
    best, reason = 0.0, ""
    for reference in references:
        got, wanted = (_runs(words) for words in _words("gleu", reply, reference))
        longer = max(got.total(), wanted.total())
        if not wanted:
            raise UsageError("gleu: there is no word to expect")
        common = (got & wanted).total()
        if common / longer > best or not reason:
            best = common / longer
            reason = f"{common} runs in common, of {longer}: expected {show(reference)}"
    return scored("gleu", best, at_least=at_least, reason=reason)


def _runs(words: list[str]) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for n in range(1, 5):
        found.update(zip(*(words[i:] for i in range(n)), strict=False))
    return found

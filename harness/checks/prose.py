"""Tells how long a reply is, how hard to read, in which language. Knows not what it says."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any, Literal

from harness.checks.base import CheckResult, held, listed, miss, scored, show, text_of
from harness.errors import MissingExtra, UsageError
from harness.records import Reply

Unit = Literal["characters", "words", "sentences", "lines"]
_WORD = re.compile(r"\w++(?:['\u2019-]\w++)*+")
_SENTENCE_END = re.compile(
    r"[.!?\u2026\u3002\uff01\uff1f]++(?=\s|[\"')\]\u201d]|$)|[\u3002\uff01\uff1f]++"
)
_SILENT = re.compile(r"[^aeiouyl]e$|[aeiouy]le$|[^aeiouydt]ed$")
_VOWELS = re.compile(r"[aeiouy]+")
# what the language model reads: more changes nothing, and a million characters take a second
_READ = 8_000


def _sentences(text: str) -> int:
    pieces = _SENTENCE_END.split(text)
    return sum(1 for piece in pieces if any(c.isalnum() for c in piece))


_COUNTS: dict[str, Callable[[str], int]] = {
    "characters": len,
    "words": lambda text: sum(1 for _ in _WORD.finditer(text)),
    "sentences": _sentences,
    "lines": lambda text: len(text.splitlines()),
}


def length(
    reply: Reply | str,
    *,
    at_least: int | None = None,
    at_most: int | None = None,
    unit: Unit = "words",
) -> CheckResult:
    """Hold where the reply has so many characters, words, sentences or lines.

    A sentence ends at `.`, `!`, `?` before a blank: an abbreviation counts as one.
    """
    if unit not in _COUNTS:
        raise UsageError(f"length: unit is one of {', '.join(_COUNTS)}, not {unit!r}")
    if at_least is None and at_most is None:
        raise UsageError("length: give at_least, at_most, or both")
    text = text_of(reply, name="length")
    n = _COUNTS[unit](text)
    if at_least is not None and n < at_least:
        raise miss("length", f"{n} {unit}, expected at least {at_least}: {show(text)}")
    if at_most is not None and n > at_most:
        raise miss("length", f"{n} {unit}, expected at most {at_most}: {show(text)}")
    return held("length", f"{n} {unit}: {show(text)}")


def _syllables(word: str) -> int:
    """Return a count by spelling: groups of vowels, less the endings that are not spoken."""
    plain = "".join(c for c in word.lower() if c.isalpha())
    n = len(_VOWELS.findall(plain))
    if _SILENT.search(plain):
        n -= 1
    return max(1, n)


def reading_grade(
    reply: Reply | str, *, at_least: float | None = None, at_most: float | None = None
) -> CheckResult:
    """Hold where the Flesch-Kincaid grade of the English text is within the bounds.

    Syllables are counted by spelling, so a grade is good to about half a year; a text under some
    hundred words tells little. Source: Kincaid, Fishburne, Rogers & Chissom (1975), Naval
    Technical Training Command, Research Branch Report 8-75: 0.39 words a sentence + 11.8 syllables
    a word - 15.59.
    """
    if at_least is None and at_most is None:
        raise UsageError("reading_grade: give at_least, at_most, or both")
    text = text_of(reply, name="reading_grade")
    found = _WORD.findall(text)
    if not found:
        raise miss("reading_grade", f"no words in {show(text)}")
    syllables = sum(map(functools.lru_cache(maxsize=None)(_syllables), found))
    a_sentence = len(found) / max(1, _sentences(text))
    a_word = syllables / len(found)
    grade = 0.39 * a_sentence + 11.8 * a_word - 15.59
    reason = f"grade {grade:.1f} ({a_sentence:.1f} words a sentence, {a_word:.2f} syllables a word)"
    if at_least is not None and grade < at_least:
        raise miss("reading_grade", f"{reason} is under {at_least:g}")
    if at_most is not None and grade > at_most:
        raise miss("reading_grade", f"{reason} is over {at_most:g}")
    return held("reading_grade", reason)


@functools.cache
def _model() -> Any:
    try:
        from py3langid.langid import (  # type: ignore[import-untyped]
            MODEL_FILE,
            LanguageIdentifier,
        )
    except ImportError as exc:
        raise MissingExtra("checks.language", extra="checks") from exc
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@functools.lru_cache(maxsize=32)
def _identifier(among: tuple[str, ...]) -> Any:
    made = copy.copy(_model())  # it shares the tables, and is narrowed by itself
    try:
        made.set_languages(list(among) or None)
    except ValueError as exc:
        raise UsageError(f"language: {exc}. Codes are ISO 639-1, as in 'en', 'de', 'ja'.") from exc
    return made


def language(
    reply: Reply | str,
    expected: str | Iterable[str],
    *,
    among: Iterable[str] = (),
    at_least: float = 0.5,
) -> CheckResult:
    """Hold where the text is in the `expected` language, or in one of several, by ISO 639-1 codes;
    the score is how sure the model is of it.

    `among` names the languages that can come at all: a short text is told apart better from few.
    A dozen words are enough; one or two are not. Source of the model: Lui & Baldwin (2012),
    langid.py, ACL system demonstrations 25-30.
    """
    wanted = listed(expected, name="language", what="expected")
    text = text_of(reply, name="language")[:_READ].replace("\x00", " ")
    if not any(c.isalpha() for c in text):
        raise miss("language", f"no letters in {show(text)}")
    allowed = tuple(sorted({*among, *wanted})) if among else ()
    ranked = _identifier(allowed).rank(text)
    known = dict(ranked)
    unknown = [code for code in wanted if code not in known]
    if unknown:
        raise UsageError(f"language: no language {unknown}. Known: {', '.join(sorted(known))}.")
    share = min(1.0, float(sum(known[code] for code in wanted)))
    best, sure = ranked[0]
    return scored(
        "language",
        share,
        at_least=at_least,
        reason=f"likeliest is {best!r} ({sure:.2f}), expected {show(wanted)}: {show(text, 80)}",
    )


def likeliest_language(text: str) -> tuple[str, float]:
    """Return the language that a text is likeliest in (ISO 639-1), and how sure the model is.

    Raises MissingExtra.
    """
    best, sure = _identifier(()).rank(text[:_READ].replace("\x00", " "))[0]
    return str(best), float(sure)

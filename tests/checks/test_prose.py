from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import UsageError, checks

Reason = Callable[..., str]

GETTYSBURG = (
    "Four score and seven years ago our fathers brought forth on this continent, a new nation, "
    "conceived in Liberty, and dedicated to the proposition that all men are created equal. "
    "Now we are engaged in a great civil war, testing whether that nation, or any nation so "
    "conceived and so dedicated, can long endure. We are met on a great battle-field of that war."
)


@pytest.mark.parametrize(
    ("unit", "n"), [("characters", 28), ("words", 8), ("sentences", 2), ("lines", 2)]
)
def test_length_counts_in_each_unit(unit: str, n: int, reason: Reason) -> None:
    text = "It's a so-so day.\nIs it 3.5?"  # "3.5" counts as two words
    assert checks.length(text, at_least=n, at_most=n, unit=unit)
    said = reason(checks.length, text, at_most=n - 1, unit=unit)
    assert f"{n} {unit}, expected at most {n - 1}" in said
    assert "expected at least" in reason(checks.length, text, at_least=n + 1, unit=unit)


def test_other_scripts_have_sentences_too() -> None:
    assert checks.length("今日は。いい天気！", at_least=2, at_most=2, unit="sentences")


def test_length_asks_for_a_bound_and_a_known_unit() -> None:
    with pytest.raises(UsageError, match="at_least, at_most"):
        checks.length("a")
    with pytest.raises(UsageError, match="characters, words"):
        checks.length("a", at_most=1, unit="tokens")


def test_reading_grade_follows_the_formula(reason: Reason) -> None:
    """Six words of one syllable in one sentence: 0.39 * 6 + 11.8 * 1 - 15.59 = -1.45."""
    assert "grade -1.4" in checks.reading_grade("The cat sat on the mat.", at_most=0).reason
    assert checks.reading_grade(GETTYSBURG, at_least=9, at_most=13)
    assert "is over 3" in reason(checks.reading_grade, GETTYSBURG, at_most=3)
    assert "is under 16" in reason(checks.reading_grade, GETTYSBURG, at_least=16)
    assert "no words" in reason(checks.reading_grade, "?!", at_most=3)


@pytest.mark.parametrize(
    ("word", "n"),
    [
        ("cat", 1),
        ("made", 1),
        ("table", 2),
        ("walked", 1),
        ("wanted", 2),
        ("beautiful", 3),
        ("hm", 1),
    ],
)
def test_syllables_are_counted_by_spelling(word: str, n: int) -> None:
    from harness.checks.prose import _syllables

    assert _syllables(word) == n


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "I have no time today because I must work until late in the evening."),
        ("de", "Ich habe heute keine Zeit, weil ich bis spät am Abend arbeiten muss."),
        ("fr", "Je n'ai pas le temps aujourd'hui parce que je dois travailler tard."),
        ("es", "Hoy no tengo tiempo porque tengo que trabajar hasta muy tarde."),
        ("ja", "今日は遅くまで働かなければならないので時間がありません。"),
        ("ru", "У меня сегодня нет времени, потому что я должен работать допоздна."),
    ],
)
def test_languages_are_told_apart(code: str, text: str, reason: Reason) -> None:
    assert checks.language(text, code)
    assert checks.language(text, ["it", code], among=["en", "de"])
    assert f"likeliest is '{code}'" in reason(checks.language, text, "fi")
    assert checks.no.language(text, "fi")


def test_a_language_that_is_unknown_or_a_text_without_letters(reason: Reason) -> None:
    with pytest.raises(UsageError, match="Known: "):
        checks.language("hello", "xx")
    with pytest.raises(UsageError, match="ISO 639-1"):
        checks.language("hello", "en", among=["english"])
    assert "no letters" in reason(checks.language, "12 + 3", "en")

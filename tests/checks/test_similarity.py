from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from harness import Miss, MissingExtra, UsageError, checks

Reason = Callable[..., str]
QUICK = settings(deadline=None, max_examples=50)  # a busy machine is no miss
texts = st.text("abc d", max_size=12)


def levenshtein(one: str, other: str) -> int:
    """The textbook's table, to hold the library against."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


@QUICK
@given(texts, texts)
def test_edit_distance_is_the_textbooks(one: str, other: str) -> None:
    n = levenshtein(one, other)
    assert checks.edit_distance(one, other, at_most=n)
    if n:
        assert checks.no.edit_distance(one, other, at_most=n - 1)


def test_edit_similarity_is_a_share_of_the_longer_text() -> None:
    assert checks.edit_similarity("kitten", "sitting", at_least=0.5).value == pytest.approx(4 / 7)
    with pytest.raises(Miss, match="expected 'sitting', got 'kitten'") as excinfo:
        checks.edit_similarity("kitten", "sitting")
    assert excinfo.value.value == pytest.approx(4 / 7)
    assert checks.edit_similarity("KITTEN", "kitten", normalise="case").value == 1


def test_what_is_too_long_to_compare_is_not_decided(reason: Reason) -> None:
    for check in (checks.edit_similarity, checks.no.edit_similarity):
        assert "too many to compare" in reason(check, "a" * 200_000, "b" * 200_000)
    for check in (checks.chrf, checks.no.chrf):
        assert "too many" in reason(check, "a" * 200_000, "b")


@pytest.mark.parametrize(
    ("said", "wanted", "longest", "one", "two"),
    [
        ("the cat sat on the mat", "the cat is on the mat", 5 / 6, 5 / 6, 0.6),
        (
            "The quick brown fox jumps over the lazy dog.",
            "A quick brown dog jumped over a lazy fox!",
            4 / 9,
            2 / 3,
            0.125,
        ),
        ("", "two words", 0, 0, 0),
    ],
)
def test_rouge_is_that_of_rouge_score(
    said: str,
    wanted: str,
    longest: float,
    one: float,
    two: float,
) -> None:
    """The numbers are those of rouge-score 0.1.2 without stemming."""
    assert checks.rouge_l(said, wanted, at_least=0).value == pytest.approx(longest)
    assert checks.rouge_n(said, wanted, at_least=0).value == pytest.approx(one)
    assert checks.rouge_n(said, wanted, n=2, at_least=0).value == pytest.approx(two)


def test_rouge_needs_a_reference_with_words() -> None:
    with pytest.raises(UsageError, match="no word to expect"):
        checks.rouge_l("a", "...")


def test_bleu_and_chrf_rank_a_near_reply_over_a_far_one() -> None:
    reference = "the cat is on the mat"
    for check in (checks.bleu, checks.chrf):
        near = check("the cat sat on the mat", reference, at_least=0).value
        far = check("dogs bark loudly", reference, at_least=0).value
        assert check(reference, reference, at_least=0.999).value == pytest.approx(1)
        assert far < 0.2 < near < 1
        assert check(reference, ["something else entirely", reference]).value == pytest.approx(1)
    with pytest.raises(Miss, match="expected"):
        checks.chrf("dogs bark loudly", reference)


@pytest.mark.parametrize(
    ("library", "name", "arguments"),
    [
        ("rapidfuzz", "rouge_l", {"expected": "b"}),
        ("rapidfuzz", "edit_similarity", {"expected": "b"}),
        ("rapidfuzz", "edit_distance", {"expected": "b", "at_most": 1}),
        ("sacrebleu.metrics.bleu", "bleu", {"expected": "b"}),
        ("py3langid.langid", "language", {"expected": "en"}),
        ("sqlglot", "sql", {}),
    ],
)
def test_a_missing_library_names_the_check_and_the_extra(
    library: str, name: str, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.checks import prose, similarity

    for cached in (similarity._metric, prose._model, prose._identifier):
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, library, None)
    told = rf"checks\.{name} needs the extra: pip install 'tuning-harness\[checks\]'"
    with pytest.raises(MissingExtra, match=f"^{told}$"):
        getattr(checks, name)("select 1", **arguments)

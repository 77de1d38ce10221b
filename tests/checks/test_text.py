from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from harness import Miss, Reply, UsageError, checks

Reason = Callable[..., str]
QUICK = settings(deadline=None, max_examples=50)  # a busy machine is no miss


def test_a_check_is_a_statement_and_an_assertion() -> None:
    checks.contains(Reply(text="the cat"), "cat")
    assert checks.contains(Reply(text="the cat"), "cat")
    with pytest.raises(AssertionError, match=r"^contains: 'dog' is not in 'the cat'$"):
        checks.contains(Reply(text="the cat"), "dog")


def test_equality_is_asked_after_normalisation() -> None:
    assert checks.equals("  The\nCAT ", "the cat")
    assert checks.no.equals("the cat.", "the cat")
    assert checks.equals(
        "The cat!", "a cat", normalise=("case", "articles", "punctuation", "space")
    )
    assert checks.equals("Ｃａｆé", "cafe", normalise=("nfkc", "case", "accents"))
    assert checks.no.equals("The cat", "the cat", normalise=())
    assert checks.equals(" x ", "x", normalise="strip")


@QUICK
@given(st.text())
def test_composed_and_decomposed_texts_are_equal(text: str) -> None:
    one, other = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    assert checks.equals(one, other, normalise=())


def test_a_miss_shows_short_texts_whole_and_long_ones_where_they_part(reason: Reason) -> None:
    assert reason(checks.equals, "a", "b") == "equals: expected 'b', got 'a'"
    text = reason(checks.equals, "x" * 500 + "a" + "y" * 500, "x" * 500 + "b" + "y" * 500)
    assert "part at character 500" in text
    assert ">>b" in text
    assert ">>a" in text


def test_an_unknown_step_names_those_that_exist() -> None:
    with pytest.raises(UsageError, match="Known: nfc, nfkc, case"):
        checks.equals("a", "b", normalise="lower")


def test_equals_sends_json_values_to_json_equal() -> None:
    with pytest.raises(UsageError, match=r"checks\.json_equal"):
        checks.equals("1", 1)


def test_contains_any_and_all(reason: Reason) -> None:
    assert checks.contains_any("red and blue", ["green", "blue"])
    assert checks.contains_all("red and blue", ["red", "blue"])
    assert "none of" in reason(checks.contains_any, "red", ["green", "blue"])
    with pytest.raises(Miss, match=r'not in \'red\': \["blue"\]') as excinfo:
        checks.contains_all("red", ["red", "blue"])
    assert excinfo.value.value == 0.5
    assert checks.contains_all("red", ["red", "blue"], at_least=0.5).value == 0.5
    assert checks.no.contains_any("red", ["green"])
    assert "blue" in reason(checks.no.contains_any, "blue", ["green", "blue"])


def test_an_empty_list_of_texts_is_refused_and_not_always_true() -> None:
    with pytest.raises(UsageError, match="at least one"):
        checks.contains_all("red", [])


def test_contains_in_any_case_by_normalisation() -> None:
    assert checks.no.contains("Berlin", "berlin")
    assert checks.contains("Berlin", "berlin", normalise="case")


def test_starts_and_ends(reason: Reason) -> None:
    assert checks.starts_with("Dear Ann,", "Dear")
    assert checks.ends_with("Yours, Bob", "Bob")
    assert "at the start, got 'Hi'" in reason(checks.starts_with, "Hi", "Dear")
    assert "at the end, got 'Hi'" in reason(checks.ends_with, "Hi", "Bob")
    assert "begins with" in reason(checks.no.starts_with, "Dear", "Dear")


def test_regex_finds_or_matches_all(reason: Reason) -> None:
    assert checks.regex("order 66", r"\d+")
    assert checks.no.regex("order 66", r"\d+", whole=True)
    assert checks.regex("A\nB", "^b$", flags="im")
    assert "matches nothing in 'abc'" in reason(checks.regex, "abc", r"\d")
    assert "matches '66' at 6" in reason(checks.no.regex, "order 66", r"\d+")


def test_a_broken_pattern_or_flag_is_a_fault_of_the_eval() -> None:
    with pytest.raises(UsageError, match="is broken"):
        checks.regex("a", "(")
    with pytest.raises(UsageError, match="flags are letters"):
        checks.regex("a", "a", flags="q")


def test_a_pattern_that_backtracks_ends_and_misses_even_when_negated(reason: Reason) -> None:
    """Not knowing whether it matches is no evidence that it does not."""
    text = "x" * 100_000
    before = time.thread_time()
    for check in (checks.regex, checks.no.regex):
        assert "took more than 0.2 s" in reason(check, text, r"(x+x+)+y", timeout_s=0.2)
    assert time.thread_time() - before < 1.5


def test_a_check_refuses_what_is_no_reply() -> None:
    with pytest.raises(UsageError, match="contains: takes a Reply or a str first, not NoneType"):
        checks.contains(None, "x")


@pytest.mark.parametrize(
    "text", ["\ud800x", "a\x00b", "\x1b]52;c;x\x07", "\u202eabc", "::error::x"]
)
def test_what_a_terminal_could_obey_is_escaped_in_reasons(text: str, reason: Reason) -> None:
    for said in (
        reason(checks.contains, text, "nothing like it"),
        reason(checks.equals, text, "y"),
        reason(checks.json, text),
        reason(checks.json_equal, {"a": text, text: 1}, {"a": 1}),
        reason(checks.one_of, text, ["a"]),
    ):
        assert not set(said) & set("\ud800\x00\x1b\x07\u202e")
        assert not any(line.startswith("::") for line in said.splitlines())

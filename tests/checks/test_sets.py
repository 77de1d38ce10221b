from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from harness import Miss, Reply, UsageError, checks

Reason = Callable[..., str]
QUICK = settings(deadline=None, max_examples=50)  # a busy machine is no miss
words = st.lists(st.text("abcdef", min_size=1, max_size=3))


def test_set_f1_says_what_lacks_and_what_is_too_many() -> None:
    with pytest.raises(Miss) as excinfo:
        checks.set_f1('["Red", "blue"]', ["red", "green"])
    assert excinfo.value.value == 0.5
    said = str(excinfo.value)
    assert "1 of 2 expected items found; missing: 'green'; not expected: 'blue'" in said
    assert checks.set_f1('["Red", "blue"]', ["red", "green"], at_least=0.5).value == 0.5


def test_precision_and_recall_differ() -> None:
    assert checks.set_precision("a, b", ["a", "b", "c"], separator=",").value == 1
    assert checks.set_recall("a, b, c, d", ["a", "b"], separator=",").value == 1
    with pytest.raises(Miss) as excinfo:
        checks.set_recall("a, b", ["a", "b", "c", "d"], separator=",")
    assert excinfo.value.value == 0.5


@QUICK
@given(words, words)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(one: list[str], other: list[str]) -> None:
    precision = checks.set_precision(one, other, at_least=0).value
    recall = checks.set_recall(one, other, at_least=0).value
    f1 = checks.set_f1(one, other, at_least=0).value
    assert f1 == checks.set_f1(other, one, at_least=0).value
    if one and other:
        both = precision + recall
        assert f1 == pytest.approx(2 * precision * recall / both if both else 0)
    else:
        assert f1 == (1 if one == other else 0)


def test_two_empty_sets_agree_and_order_and_repeats_do_not_count() -> None:
    assert checks.set_f1("[]", [])
    assert checks.set_f1('["a", "b", "a"]', ["b", "a"])
    assert checks.set_f1([1, {"x": 2}], [{"x": 2.0}, 1])


def test_a_reply_that_is_no_array_is_a_miss(reason: Reason) -> None:
    assert "expected a JSON array" in reason(checks.set_f1, '{"a": 1}', ["a"])
    with pytest.raises(UsageError, match="a list of items"):
        checks.set_f1('["a"]', "a")


def test_one_of_gives_the_class_as_it_is_written(reason: Reason) -> None:
    assert checks.one_of(Reply(text=" **Positive**. \n"), ["positive", "negative"]) == "positive"
    assert "none of" in reason(checks.one_of, "positive or negative", ["positive", "negative"])
    assert checks.no.one_of("maybe", ["yes", "no"])


def test_token_f1_counts_words() -> None:
    assert checks.token_f1("The cat sat!", "a cat, sat").value == 1
    assert checks.token_f1("cat sat down", "cat sat", at_least=0.8).value == pytest.approx(0.8)
    with pytest.raises(Miss, match="missing: 'cat'"):
        checks.token_f1("dog", "cat")


def test_a_threshold_outside_of_a_share_is_refused() -> None:
    with pytest.raises(UsageError, match="a share between 0 and 1"):
        checks.set_f1("[]", [], at_least=50)

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from harness import Reply, UsageError, checks

Reason = Callable[..., str]
QUICK = settings(deadline=None, max_examples=50)  # a busy machine is no miss


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42),
        ("The answer is 1,234.50 EUR.", 1234.5),
        ("-3", -3),
        ("about −7 °C", -7),
        (".5", 0.5),
        ("1.5e-3 m", 0.0015),
        ("$3.", 3),
        ("(12%)", 12),
        ("GPT4 says 5", 5),
    ],
)
def test_the_number_of_a_reply_is_read(text: str, value: float) -> None:
    assert checks.number(Reply(text=text)) == value


@QUICK
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_that_python_writes_is_read_back(value: float) -> None:
    assert checks.number(f"it is {value!r}!") == value


def test_none_or_several_numbers_are_a_miss(reason: Reason) -> None:
    assert "no number in 'none'" in reason(checks.number, "none")
    text = reason(checks.number, "3 of 4")
    assert "several numbers (3, 4)" in text
    assert "which='last'" in text
    assert checks.number("3 of 4", which="last") == 4
    assert checks.number("3 of 4", which="first") == 3
    assert checks.number("3 of 4" + " x" * 5000, which="last") == 4


def test_a_number_beyond_floats_is_a_miss(reason: Reason) -> None:
    assert "too large" in reason(checks.number, "1e999")
    assert "too large" in reason(checks.number, "9" * 1_000_000)
    assert "too large" in reason(checks.close_to, 10**400, 1)


def test_tolerance_is_absolute_or_relative(reason: Reason) -> None:
    assert checks.close_to("3.2", 3, absolute=0.2)
    assert checks.close_to("103", 100, relative=0.03)
    assert checks.close_to(0.1 + 0.2, 0.3, absolute=1e-9)
    text = reason(checks.close_to, "3.5", 3, absolute=0.2)
    assert text == "close_to: expected 3 ± 0.2, got 3.5 (off by 0.5)"
    assert "off by 0" in reason(checks.no.close_to, "3", 3)
    assert checks.no.close_to("3.5", 3)
    assert "not a number" in reason(checks.close_to, float("nan"), 3)


def test_between_takes_both_ends(reason: Reason) -> None:
    assert checks.between("5", 5, 5)
    assert "6 is not between 1 and 5" in reason(checks.between, "6", 1, 5)


def test_wrong_arguments_are_no_misses() -> None:
    with pytest.raises(UsageError):
        checks.close_to("1", 1, absolute=-1)
    with pytest.raises(UsageError):
        checks.between("1", 2, 1)
    with pytest.raises(UsageError, match="which is"):
        checks.number("1", which="second")
    with pytest.raises(UsageError, match="takes a Reply, a str or a number first"):
        checks.close_to(True, 1)

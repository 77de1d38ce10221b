from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings, strategies as st

from harness.core.near import near_pairs, normalised, plain_text, shingles


def brute(texts: list[str], others: list[str], *, least: float) -> dict[tuple[int, int], float]:
    found = {}
    for i, one in enumerate(texts):
        for j, other in enumerate(others):
            a, b = shingles(one), shingles(other)
            if a and b and (share := len(a & b) / len(a | b)) >= least - 1e-9:
                found[i, j] = share
    return found


LINES = st.lists(st.lists(st.sampled_from(list("abcd12-")), max_size=12).map(" ".join), max_size=8)


@settings(max_examples=150, deadline=None)
@given(texts=LINES, others=LINES, least=st.sampled_from([0.2, 0.5, 0.8, 1.0]))
def test_every_pair_is_found_that_comparing_all_with_all_would_find(
    texts: list[str], others: list[str], least: float
) -> None:
    found = {(p.index, p.other): p.similarity for p in near_pairs(texts, others, least=least)}
    assert found == pytest.approx(brute(texts, others, least=least))


@pytest.mark.parametrize(
    ("one", "other"),
    [("How many  users?", "how many users"), ("Café ﬁne.", "Café fine"), ("a\r\nb!", "A\nB")],
)
def test_case_spacing_closing_punctuation_and_writing_are_no_difference(
    one: str, other: str
) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"), [("x > 5", "x < 5"), ("about 5", "about 6"), ("-3", "3"), ("a.b", "ab")]
)
def test_a_number_or_a_sign_is_a_difference(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)
    assert near_pairs([one], [other], least=0.8) == []


def test_the_text_of_inputs_holds_all_that_they_hold() -> None:
    assert plain_text({"b": [1, {"c": None}], "a": "x"}) == "a: x\nb: 1\nc: "


def test_ten_thousand_against_a_thousand_take_seconds() -> None:
    chance = random.Random(0)
    words = [f"w{n}" for n in range(2000)]
    shared = "answer the question about the system below"
    texts = [f"{shared} {' '.join(chance.choices(words, k=30))}" for _ in range(10_000)]
    others = [f"{shared} {' '.join(chance.choices(words, k=30))}" for _ in range(990)]
    others += [t + " please" for t in texts[:10]]
    began = time.thread_time()
    found = near_pairs(texts, others, least=0.8)
    assert time.thread_time() - began < 6
    assert [(p.index, p.other) for p in found] == [(n, 990 + n) for n in range(10)]

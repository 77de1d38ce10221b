"""Examples are found by words, in the same order every time, whatever the query holds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings, strategies as st

from harness.records import Case
from harness.store.retrieval import ShotIndex
from harness.testing import make_case

TEXTS = {
    "c-3": ("slowest requests by endpoint", "speed"),
    "c-1": ("how many errors per service", "errors"),
    "c-2": ("errors in the checkout service", "errors"),
    "c-5": ("users who signed up in May", "users"),
    "c-4": ("slow database queries", "speed"),
    "c-6": ("slow database queries", ""),
}


def case(id_: str, text: str, cluster: str = "") -> Case:
    return make_case(id_, inputs={"question": text}, split="train", cluster=cluster)


def question(asked: Case) -> str:
    return str(asked.inputs["question"])


CASES = [case(id_, text, cluster) for id_, (text, cluster) in TEXTS.items()]


@pytest.fixture(scope="module")
def index() -> ShotIndex:
    return ShotIndex(CASES, question)


def ids(cases: list[Case]) -> list[str]:
    return [found.id for found in cases]


def test_the_nearest_case_shares_the_rarest_words(index: ShotIndex) -> None:
    assert ids(index.nearest("checkout errors", 1)) == ["c-2"]
    assert ids(index.nearest("sign-up of users", 1)) == ["c-5"]


def test_words_are_compared_by_their_stems_whatever_their_case(index: ShotIndex) -> None:
    assert set(ids(index.nearest("ERROR", 2))) == {"c-1", "c-2"}
    assert set(ids(index.nearest("Database query", 2))) == {"c-4", "c-6"}


def test_equally_near_cases_come_in_the_order_of_their_ids(index: ShotIndex) -> None:
    assert ids(index.nearest("slow database queries", 2)) == ["c-4", "c-6"]
    shuffled = list(CASES)
    for seed in range(5):
        random.Random(seed).shuffle(shuffled)
        other = ShotIndex(shuffled, question)
        for query in ("slow errors", "service", "zebra", ""):
            assert other.nearest(query, 6) == index.nearest(query, 6)


def test_too_few_matches_are_filled_up_in_the_order_of_ids(index: ShotIndex) -> None:
    assert ids(index.nearest("checkout", 3)) == ["c-2", "c-1", "c-3"]
    assert ids(index.nearest("zebra", 2)) == ["c-1", "c-2"]
    assert len(index.nearest("checkout", 99)) == len(CASES)
    assert index.nearest("checkout", 0) == []
    assert index.nearest("checkout", -1) == []


def test_no_row_of_an_excluded_cluster_or_id_is_returned(index: ShotIndex) -> None:
    found = index.nearest("errors in the checkout service", 9, exclude_clusters={"errors"})
    assert ids(found)[:2] != ["c-2", "c-1"]
    assert {f.cluster for f in found} == {"speed", "users", ""}
    assert "c-5" not in ids(index.nearest("users", 9, exclude_ids={"c-5"}))


def test_a_case_without_a_cluster_is_alone_in_its_own(index: ShotIndex) -> None:
    """Else one unclustered question would empty the whole index of unclustered examples."""
    assert "c-6" in ids(index.nearest("slow database queries", 9, exclude_clusters={""}))


@pytest.mark.parametrize(
    "query",
    [
        "",
        "   ",
        "\0",
        "\ud800",
        '"',
        "checkout AND (",
        "checkout NOT errors",
        "NEAR(checkout errors, 2)",
        "words:checkout",
        "check*",
        "^checkout",
        "-checkout +errors",
        "{a b} : c",
        "'; DROP TABLE shots; --",
        "日本語 Ünïcödé İstanbul ﬁ ß",
        "🙂🙃",
        "a" * 100_000,
        " ".join(f"word{n}" for n in range(20_000)),
    ],
)
def test_the_syntax_of_the_search_engine_is_only_words(index: ShotIndex, query: str) -> None:
    assert len(index.nearest(query, 6)) == 6
    assert index.nearest(query, 6) == index.nearest(query, 6)


def test_operators_in_a_query_do_not_narrow_it(index: ShotIndex) -> None:
    assert ids(index.nearest("checkout AND zebra", 1)) == ["c-2"]
    assert ids(index.nearest("NOT checkout", 1)) == ["c-2"]


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(), max_size=30), max_size=8),
    query=st.text(st.characters(), max_size=30),
    k=st.integers(0, 9),
    closed=st.sets(st.sampled_from(["a", "b", "c"])),
)
def test_any_text_gives_distinct_allowed_cases(
    texts: list[str], query: str, k: int, closed: set[str]
) -> None:
    cases = [case(f"c-{n}", text, "abc"[n % 3]) for n, text in enumerate(texts)]
    found = ShotIndex(cases, question).nearest(query, k, exclude_clusters=closed)
    allowed = [c for c in cases if c.cluster not in closed]
    assert len(found) == min(k, len(allowed))
    assert len(set(ids(found))) == len(found)
    assert all(c in allowed for c in found)


def test_an_index_of_nothing_finds_nothing() -> None:
    assert ShotIndex([], question).nearest("anything", 3) == []

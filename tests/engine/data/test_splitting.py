"""`data split`: whole sources, the same for a seed, and the same when rows are added."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from hypothesis import given, settings, strategies as st

from harness.core.examples import Example
from harness.engine.data.first_splits import first_splits
from harness.engine.data.linting import Rows
from harness.engine.data.splitting import Splits, split_rows, splits_of, with_splits
from harness.errors import UsageError

WORDS = ["lamp", "door", "cup", "shoe", "train", "river", "stone", "bread", "horse", "cloud",
         "paper", "wheel", "apple", "chair", "glass", "field"]  # fmt: skip


def asking(number: int) -> str:
    draws = random.Random(number)
    return " ".join(draws.choice(WORDS) for _ in range(12))


sources = st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["", "k1", "k2", "k3"]),
                             st.sampled_from(["", "red", "blue"])), max_size=50)  # fmt: skip


def examples(drawn: list[tuple[int, str, str]]) -> list[Example]:
    return [
        Example(place=f"f:{n}", inputs={"q": asking(q)}, reference="x", cluster=k,
                tags=(t,) if t else ())
        for n, (q, k, t) in enumerate(drawn)
    ]  # fmt: skip


def split(rows: list[Example], **more: object) -> Splits:
    return split_rows([Rows(name="f", open=lambda: rows)], **more)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(sources, st.integers(0, 3))
def test_what_is_asked_and_a_source_stand_in_one_split(
    drawn: list[tuple[int, str, str]], seed: int
) -> None:
    rows = examples(drawn)
    found = split(rows, seed=seed)
    by: dict[str, set[object]] = defaultdict(set)
    for row, one in zip(rows, found.splits, strict=True):
        by[str(row.inputs["q"])].add(one)
        by[row.cluster or row.place].add(one)
    assert all(len(several) == 1 for several in by.values())
    assert None not in found.splits
    assert found == split(rows, seed=seed)


@settings(max_examples=60, deadline=None)
@given(sources, st.randoms(use_true_random=False))
def test_the_order_of_rows_is_nothing(
    drawn: list[tuple[int, str, str]], draws: random.Random
) -> None:
    drawn = [(q, k, "") for q, k, _ in drawn]
    rows = examples(drawn)
    other = list(rows)
    draws.shuffle(other)
    before, after = split(rows), split(other)
    assert dict(zip([r.place for r in rows], before.splits, strict=True)) == dict(
        zip([r.place for r in other], after.splits, strict=True)
    )


@settings(max_examples=40, deadline=None)
@given(sources, sources)
def test_rows_that_were_dealt_stay_when_others_are_added(
    first: list[tuple[int, str, str]], more: list[tuple[int, str, str]]
) -> None:
    rows = examples(first)
    dealt = list(with_splits([Rows(name="f", open=lambda: rows)], split(rows)))
    longer = split(examples([*first, *more]), earlier=splits_of(dealt))
    assert [e.split for e in dealt] == list(longer.splits[: len(rows)])


def test_a_task_made_by_init_is_dealt_as_data_split_would() -> None:
    rows = [
        Example(place=f"f:{n}", inputs={"q": asking(n)}, reference="x", cluster=f"k{n // 2}")
        for n in range(60)
    ]
    made = first_splits(rows, seed=0, notes=[])
    assert split(rows, dev=0.4, test=0.4).splits == tuple(made)
    many = [Example(place=f"f:{n}", inputs={"q": asking(n)}, reference="x") for n in range(400)]
    again = split(many, dev=0.4, test=0.4).splits
    moved = sum(a != b for a, b in zip(first_splits(many, seed=0, notes=[]), again, strict=True))
    assert moved < 40  # by chance alone, 256 of 400 would


def test_each_tag_has_its_share_in_every_split() -> None:
    rows = [
        Example(place=f"f:{n}", inputs={"q": asking(n)}, reference="x", tags=("ab"[n % 10 == 0],))
        for n in range(300)
    ]
    found = split(rows)
    for counts in found.strata.values():
        total = sum(counts.values())
        assert abs(counts["dev"] - 0.2 * total) <= 2
        assert abs(counts["test"] - 0.2 * total) <= 2


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="leave nothing to train on"):
        split([], dev=0.5, test=0.5)

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings, strategies as st

from harness.core.groups import Groups, links_of, roots_of
from harness.core.splits import Group, deal
from harness.records import Split

SHARES: dict[Split, float] = {"dev": 0.2, "test": 0.2}
groups = st.lists(
    st.builds(
        Group,
        key=st.uuids().map(str),
        rows=st.integers(1, 9),
        stratum=st.sampled_from(["", "a", "b"]),
        kept=st.sampled_from([frozenset(), frozenset({"train"}), frozenset({"test"})]),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(groups, st.integers(0, 5))
def test_rows_keep_their_split_and_all_others_get_one(found: list[Group], seed: int) -> None:
    for group, split in zip(found, deal(found, SHARES, seed=seed), strict=True):
        assert split in {"train", "dev", "test"}
        assert not group.kept or group.kept == {split}


def test_shares_hold_within_a_group_overall_and_in_each_stratum() -> None:
    some = [Group(key=f"k{i}", rows=1 + i % 3, stratum="abc"[i % 3]) for i in range(300)]
    dealt = deal(some, SHARES, seed=0)
    rows: Counter[tuple[str, str | None]] = Counter()
    for group, split in zip(some, dealt, strict=True):
        rows[group.stratum, split] += group.rows
    for stratum in "abc":
        total = sum(rows[stratum, s] for s in ("train", "dev", "test"))
        assert abs(rows[stratum, "test"] - 0.2 * total) <= 3
        assert abs(rows[stratum, "dev"] - 0.2 * total) <= 3


def test_many_strata_of_one_row_still_give_every_split_its_share() -> None:
    some = [Group(key=f"k{i}", rows=1, stratum=f"tag {i}") for i in range(100)]
    counts = Counter(deal(some, SHARES, seed=0))
    assert counts == {"train": 60, "dev": 20, "test": 20}


def test_dealing_anew_after_ten_more_rows_moves_at_most_a_few() -> None:
    some = [Group(key=f"k{i}", rows=1) for i in range(200)]
    more = [*some, *(Group(key=f"new{i}", rows=1) for i in range(10))]
    before, after = deal(some, SHARES, seed=3), deal(more, SHARES, seed=3)
    assert sum(a != b for a, b in zip(before, after, strict=False)) <= 12
    assert deal(some, SHARES, seed=3) == before
    assert deal(some, SHARES, seed=4) != before


def test_a_group_with_rows_in_two_splits_has_none() -> None:
    assert deal([Group(key="k", rows=2, kept=frozenset({"train", "test"}))], SHARES, seed=0) == [
        None
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=40), st.lists(st.integers(0, 6), max_size=40))
def test_groups_of_many_rows_are_those_that_joining_one_by_one_makes(
    first: list[int], second: list[int]
) -> None:
    total = min(len(first), len(second))
    plain, links = Groups(), []
    for codes in (first[:total], second[:total]):
        links.append(links_of(np.asarray(codes, dtype=np.uint64)))
        for number, one in enumerate(codes):
            if one:  # 0 is none
                plain.join(codes.index(one), number)
    ones, others = (np.concatenate(side) for side in zip(*links, strict=True))
    roots = roots_of(total, (ones, others))
    assert roots.tolist() == [plain.root(n) for n in range(total)]

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from harness.core.groups import Groups, links_of, roots_of
from harness.core.splits import Group, deal, share_of
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


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 10**6), min_size=3, max_size=80, unique=True),
    st.lists(st.integers(10**6, 10**7), max_size=80, unique=True),
    st.randoms(use_true_random=False),
    st.integers(0, 5),
)
def test_groups_that_are_added_move_no_other_whatever_their_order(
    first: list[int], more: list[int], draws: random.Random, seed: int
) -> None:
    def dealt(keys: list[int]) -> dict[int, Split | None]:
        return dict(
            zip(keys, deal([Group(key=f"k{k}", rows=1) for k in keys], SHARES, seed=seed),
                strict=True)
        )  # fmt: skip

    before = dealt(first)
    longer = [*first, *more]
    draws.shuffle(longer)
    after = dealt(longer)
    stood_in = {k for k in first if split_by_place(k, seed=seed) != before[k]}
    stood_in |= {k for k in first if split_by_place(k, seed=seed) != after[k]}
    assert {k: after[k] for k in first if k not in stood_in} == {
        k: before[k] for k in first if k not in stood_in
    }
    assert len(stood_in) <= 4, "only one that stands in for an empty split does"
    assert len(first) < 60 or not stood_in


def split_by_place(key: int, *, seed: int) -> Split:
    place = share_of(f"k{key}", seed=seed)
    return "test" if place < 0.2 else "dev" if place < 0.4 else "train"


@pytest.mark.parametrize("rows", [3, 5, 10, 40])
def test_a_small_set_gets_a_test_and_a_dev_row_whatever_the_seed(rows: int) -> None:
    some = [Group(key=f"k{i}", rows=1) for i in range(rows)]
    for seed in range(200):
        assert {"test", "dev", "train"} == set(deal(some, SHARES, seed=seed))
        only_test = deal(some, {"dev": 0.0, "test": 0.2}, seed=seed)
        assert {"test", "train"} == set(only_test)


def test_shares_come_out_as_chance_lets_them_and_a_seed_is_another_deal() -> None:
    some = [Group(key=f"k{i}", rows=1) for i in range(400)]
    counts = [Counter(deal(some, SHARES, seed=seed)) for seed in range(50)]
    for split in ("dev", "test"):
        found = [c[split] for c in counts]
        assert abs(np.mean(found) - 80) < 4  # its sd is 8 / sqrt(50)
        assert 5 < np.std(found) < 11
    assert deal(some, SHARES, seed=3) == deal(some, SHARES, seed=3)
    assert deal(some, SHARES, seed=4) != deal(some, SHARES, seed=3)


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

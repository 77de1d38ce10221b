from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from harness.core import groups
from harness.core.groups import Groups, links_in, links_of, roots_of
from harness.core.splits import Row, deal, room, share_of
from harness.core.spool import Column, Held
from harness.records import Split

SHARES: dict[Split, float] = {"dev": 0.2, "test": 0.2}
KEYS = st.integers(0, 10**9).map(lambda n: f"k{n}")
ALONE = st.lists(st.tuples(KEYS, st.sampled_from("aaab")), max_size=150, unique_by=lambda r: r[0])


def split_rows(given: list[tuple[str, str]], *, seed: int = 0) -> list[Split | None]:
    return deal([Row(key=key, kind=kind) for key, kind in given], SHARES, seed=seed)


rows = st.lists(
    st.builds(
        Row,
        key=st.integers(0, 40).map(lambda n: f"k{n}"),
        kind=st.sampled_from(["", "a", "b"]),
        split=st.sampled_from([None, None, None, "train", "test"]),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(0, 5))
def test_rows_keep_their_split_and_all_others_get_one(found: list[Row], seed: int) -> None:
    had: dict[str, set[Split]] = {row.key: set() for row in found}
    for row in found:
        had[row.key] |= {row.split} if row.split else set()
    for row, split in zip(found, deal(found, SHARES, seed=seed), strict=True):
        assert (split is None) == (len(had[row.key]) == 2)
        assert had[row.key] in ({split}, set()) or split is None


@settings(max_examples=80, deadline=None)
@given(rows, rows, st.integers(0, 5))
def test_rows_that_are_added_at_the_end_move_no_other_of_their_kinds(
    first: list[Row], more: list[Row], seed: int
) -> None:
    some = [Row(key=f"base {n}", kind="a") for n in range(30)]  # so that no split is left empty
    some += [replace(row, split=None) for row in (*first, *more)]
    fewer = some[: 30 + len(first)]
    assert deal(fewer, SHARES, seed=seed) == deal(some, SHARES, seed=seed)[: len(fewer)]


def test_of_four_hundred_rows_of_three_kinds_none_moves_when_they_become_eight_hundred() -> None:
    for seed in range(30):
        draws = random.Random(seed)
        given = [(f"k{draws.randrange(600)}", draws.choice("aaabbc")) for _ in range(800)]
        assert split_rows(given[:400], seed=seed) == split_rows(given, seed=seed)[:400]


@settings(max_examples=80, deadline=None)
@given(ALONE, st.integers(0, 5), st.sampled_from([(0.2, 0.2), (0.4, 0.4), (0.05, 0.3)]))
def test_dev_and_test_are_within_the_room_of_their_share_after_every_row(
    given: list[tuple[str, str]], seed: int, shares: tuple[float, float]
) -> None:
    wish: dict[Split, float] = dict(zip(("dev", "test"), shares, strict=True))
    dealt = deal([Row(key=key, kind=kind) for key, kind in given], wish, seed=seed)
    for end in range(30, len(given)):  # an empty split is filled in smaller sets
        for kind in "ab":
            mine = [s for s, (_, k) in zip(dealt[:end], given, strict=False) if k == kind]
            for split, share in wish.items():
                over = mine.count(split) - share * len(mine)
                # of two that are short at once, one waits for the next row
                assert -room(len(mine)) - share <= over <= room(len(mine)) + 1e-9


def test_the_room_is_small_beside_chance() -> None:
    assert [int(room(n)) for n in (20, 80, 400, 10_000)] == [2, 3, 7, 34]
    assert room(5) < 1


@pytest.mark.parametrize(("rows", "most"), [(5, 1), (20, 2), (80, 3), (400, 7)])
def test_a_kind_has_its_share_whatever_the_seed(rows: int, most: int) -> None:
    others = [(f"o{n}", "other") for n in range(400)]
    for seed in range(60):
        given = [*others, *((f"k{n}", "kind") for n in range(rows))]
        random.Random(seed).shuffle(given)
        dealt = zip(given, split_rows(given, seed=seed), strict=True)
        mine = [split for (_, kind), split in dealt if kind == "kind"]
        assert max(abs(mine.count(s) - 0.2 * rows) for s in ("dev", "test")) <= most
        assert "test" in mine, "a kind of five has its one"


def test_groups_of_several_rows_are_counted_as_they_come_by() -> None:
    some = [Row(key=f"k{i // 3}", kind="abc"[i % 3]) for i in range(600)]
    dealt = deal(some, SHARES, seed=0)
    assert all(len(set(dealt[i : i + 3])) == 1 for i in range(0, 600, 3))
    for kind in range(3):
        counts = Counter(dealt[kind::3])
        assert max(abs(counts[s] - 40) for s in ("dev", "test")) <= room(200) + 3


@pytest.mark.parametrize(("rows_each", "most"), [(1, 0), (2, 1), (3, 3)])
def test_many_small_kinds_still_give_every_split_its_share(rows_each: int, most: int) -> None:
    for seed in range(60):
        given = [(f"k{i}", f"tag {i % 100}") for i in range(100 * rows_each)]
        random.Random(seed).shuffle(given)
        counts = Counter(split_rows(given, seed=seed))
        assert max(abs(counts[s] - 20 * rows_each) for s in ("dev", "test")) <= most
    assert Counter(split_rows([(f"k{i}", f"tag {i}") for i in range(100)])) == {
        "train": 60, "dev": 20, "test": 20
    }  # fmt: skip


def test_all_rows_together_are_within_their_own_room_however_many_kinds_there_are() -> None:
    for seed in range(30):
        given = [(f"k{i}", f"tag {i % 30}") for i in range(600)]
        random.Random(seed).shuffle(given)
        counts = Counter(split_rows(given, seed=seed))
        assert max(abs(counts[s] - 120) for s in ("dev", "test")) <= 2 * room(600)


@pytest.mark.parametrize("where", ["anywhere", "in front"])
def test_rows_that_are_put_elsewhere_move_few(where: str) -> None:
    moved = []
    for seed in range(60):
        draws = random.Random(seed)
        old, new = ([(f"{who}{i}", draws.choice("aaabbc")) for i in range(200)] for who in "on")
        both = [*new, *old]
        if where == "anywhere":  # each of both still in its own order
            at = set(draws.sample(range(400), 200))
            turns = iter(old), iter(new)
            both = [next(turns[n in at]) for n in range(400)]
        after = dict(zip(both, split_rows(both, seed=seed), strict=True))
        before = zip(old, split_rows(old, seed=seed), strict=True)
        moved.append(sum(after[row] != split for row, split in before))
    assert np.mean(moved) < 16
    assert max(moved) < 35


def test_kept_rows_count_wherever_they_stand_and_new_ones_fill_what_is_short() -> None:
    kept = [Row(key=f"old {n}", split="train") for n in range(60)]
    new = [Row(key=f"new {n}") for n in range(40)]
    for some in ([*kept, *new], [*new, *kept]):
        dealt = deal(some, SHARES, seed=0)
        assert all(split == "train" for row, split in zip(some, dealt, strict=True) if row.split)
        counts = Counter(dealt)
        assert min(counts["dev"], counts["test"]) >= 20 - room(100) - 0.2


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
            zip(keys, deal([Row(key=f"k{k}") for k in keys], SHARES, seed=seed),
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
    some = [Row(key=f"k{i}") for i in range(rows)]
    for seed in range(200):
        assert {"test", "dev", "train"} == set(deal(some, SHARES, seed=seed))
        only_test = deal(some, {"dev": 0.0, "test": 0.2}, seed=seed)
        assert {"test", "train"} == set(only_test)


def test_shares_come_out_as_chance_lets_them_and_a_seed_is_another_deal() -> None:
    some = [Row(key=f"k{i}") for i in range(400)]
    counts = [Counter(deal(some, SHARES, seed=seed)) for seed in range(50)]
    for split in ("dev", "test"):
        found = [c[split] for c in counts]
        assert abs(np.mean(found) - 80) < 4  # its sd is 8 / sqrt(50)
        assert 5 < np.std(found) < 11
    assert deal(some, SHARES, seed=3) == deal(some, SHARES, seed=3)
    assert deal(some, SHARES, seed=4) != deal(some, SHARES, seed=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=40), st.lists(st.integers(0, 6), max_size=40))
def test_groups_of_many_rows_are_those_that_joining_one_by_one_makes(
    first: list[int], second: list[int]
) -> None:
    total = min(len(first), len(second))
    plain, columns = Groups(), [Column(Held()) for _ in range(2)]
    for codes, column in zip((first[:total], second[:total]), columns, strict=True):
        for code in codes:
            column.append(code)
        for number, one in enumerate(codes):
            if one:  # 0 is none
                plain.join(codes.index(one), number)
    whole = [links_of(column.all()) for column in columns]
    for at_once in (1, 3, 1000):  # however many codes are compared at a time
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(groups, "AT_ONCE", at_once)
            for links in (whole, chain.from_iterable(map(links_in, columns))):
                roots = roots_of(total, links)
                assert roots.tolist() == [plain.root(n) for n in range(total)]


def test_links_of_many_numbers_take_no_more_memory_than_those_of_a_share() -> None:
    def peak(count: int) -> int:
        column = Column(Held())
        for number in range(count):
            column.append((number // 2 + 1) * 0x9E3779B97F4A7C15 % 2**64)
        tracemalloc.start()
        try:
            total = sum(len(ones) for ones, _ in links_in(column))
            assert total == count // 2
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(800_000) < 1.3 * peak(300_000)

"""`data split`: whole sources, the same for a seed, and the same when rows are added."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from harness.core import groups
from harness.core.examples import Example
from harness.core.groups import Groups
from harness.core.splits import key_of, room, share_of
from harness.core.twins import asked_code
from harness.engine.data import splitting
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
def test_the_order_of_rows_is_nothing_but_to_which_of_a_group_is_first(
    drawn: list[tuple[int, str, str]], draws: random.Random
) -> None:
    drawn = [(q, ("", "k1", "k2")[q % 3], "") for q, _, _ in drawn]
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


@settings(max_examples=80, deadline=None)
@given(sources, sources, st.integers(0, 3))
def test_rows_that_are_added_at_the_end_move_no_other_though_nothing_was_kept(
    first: list[tuple[int, str, str]], more: list[tuple[int, str, str]], seed: int
) -> None:
    """But where a new row joins two groups: then the later one goes where the earlier one is."""
    rows, longer = (
        examples([(q, k, "") for q, k, _ in drawn]) for drawn in (first, [*first, *more])
    )
    before, after = split(rows, seed=seed).splits, split(longer, seed=seed).splits
    of_before, of_after = group_of(rows), group_of(longer)
    joined = {g for g in of_after if len({b for b, a in zip(of_before, of_after, strict=False)
                                          if a == g}) > 1}  # fmt: skip
    # for a split that chance had left empty: two of three at most, before and after
    stood_in = {
        of_before[n] for n, s in enumerate(before) if s != by_place(rows[of_before[n]], seed)
    }
    stand_in = {
        of_after[n] for n, s in enumerate(after) if s != by_place(longer[of_after[n]], seed)
    }
    assert max(len(stood_in), len(stand_in)) <= 2
    for n in range(len(rows)):
        if of_after[n] not in joined | stand_in and of_before[n] not in stood_in:
            assert after[n] == before[n]


def group_of(rows: list[Example]) -> list[int]:
    """The first row of each row's group: by what is asked and by source, joined one by one."""
    groups, seen = Groups(), dict[str, int]()
    for n, row in enumerate(rows):
        for key in (f"asks {row.inputs['q']}", row.cluster and f"of {row.cluster}"):
            if key:
                groups.join(seen.setdefault(key, n), n)
    return [groups.root(n) for n in range(len(rows))]


def by_place(first: Example, seed: int) -> str:
    place = share_of(key_of(asked_code(first), first.cluster), seed=seed)
    return "test" if place < 0.2 else "dev" if place < 0.4 else "train"


def test_of_four_hundred_rows_none_moves_when_two_hundred_come_between_them() -> None:
    rows = [Example(place=f"f:{n}", inputs={"q": asking(n)}, reference="x") for n in range(600)]
    before = split([row for n, row in enumerate(rows) if n % 3])
    assert [s for n, s in enumerate(split(rows).splits) if n % 3] == list(before.splits)


def of_every_kind(count: int, seed: int) -> list[Example]:
    """Rows with tags and answers; some are of an earlier one's source, or near an earlier one."""
    draws = random.Random(seed)
    found: list[Example] = []
    for n in range(count):
        old = draws.choice(found) if found and draws.random() < 0.4 else None
        alike = old is not None and draws.random() < 0.5
        asked = f"{old.inputs['q']} lamp" if old and alike else asking(1000 * seed + n)
        found.append(
            Example(
                place=f"f:{n}",
                inputs={"q": asked},
                reference=draws.choice(["yes", "yes", "no"]),
                cluster=old.cluster if old else f"k{n}" if n % 2 else "",
                tags=(draws.choice(["red", "red", "red", "blue", "blue", "green"]),),
            )
        )
    return found


@pytest.mark.parametrize("by", ["tag", "answer"])
def test_of_two_hundred_rows_with_kinds_none_moves_when_two_hundred_are_added(by: str) -> None:
    for seed in range(4):
        rows = of_every_kind(400, seed)
        before, after = split(rows[:200], by=by, seed=seed), split(rows, by=by, seed=seed)
        assert before.splits == after.splits[:200]
        assert before.near > 10
        assert before.groups < 160
        for dealt in (before, after):  # groups are of some rows each
            for counts in dealt.strata.values():
                total = sum(counts.values())
                for one in ("dev", "test"):
                    assert abs(counts[one] - 0.2 * total) <= room(total) + 12


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["tag", "answer"]))
def test_rows_with_kinds_keep_their_split_when_only_some_had_one(seed: int, by: str) -> None:
    rows = of_every_kind(60, seed)
    kept = [replace(r, split=s or "") for r, s in zip(rows, split(rows, by=by).splits, strict=True)]
    more = [*of_every_kind(20, seed + 1), *kept]  # in front, too
    assert split(more, by=by, seed=seed).splits[20:] == tuple(r.split for r in kept)


def test_a_near_copy_that_is_added_follows_the_row_that_was_there() -> None:
    for number in range(40):
        old = Example(place="f:1", inputs={"q": asking(number)})
        new = Example(place="f:9", inputs={"q": asking(number) + " lamp"})
        others = [Example(place=f"f:{n}", inputs={"q": asking(n)}) for n in range(100, 120)]
        before, after = split([old, *others]), split([old, *others, new])
        assert after.near == 1
        assert after.splits == (*before.splits, before.splits[0])


@pytest.mark.parametrize("tags", ["", "x", "xxy"])
def test_a_task_made_by_init_is_dealt_as_data_split_would(tags: str) -> None:
    rows = [
        Example(
            place=f"f:{n}",
            inputs={"q": asking(n)},
            cluster=f"k{n // 2}" if n % 3 else "",
            tags=tuple(tags[n % 3 : n % 3 + 1]),
        )
        for n in range(400)
    ]
    assert split(rows, dev=0.4, test=0.4).splits == tuple(first_splits(rows, seed=0, notes=[]))


@pytest.mark.parametrize(("rows_each", "most"), [(1, 1.4), (2, 3.0)])
def test_a_small_task_has_its_shares_and_keeps_its_splits_when_rows_are_added(
    rows_each: int, most: float
) -> None:
    rows = [
        Example(
            place=f"f:{n}", inputs={"q": asking(n)}, cluster=f"k{n // rows_each}", tags=("one",)
        )
        for n in range(99)
    ]
    for seed in range(20):
        made = first_splits(rows, seed=seed, notes=[])
        for few in (48, 60, 98):
            dealt = first_splits(rows[:few], seed=seed, notes=[])
            assert dealt == made[: len(dealt)]
            for one in ("dev", "test"):
                assert abs(made[:few].count(one) - 0.4 * few) <= most


def test_a_small_task_has_its_shares_of_every_tag() -> None:
    rows = [
        Example(place=f"f:{n}", inputs={"q": asking(n)}, tags=("a" if n % 3 else "b",))
        for n in range(75)
    ]
    for seed in range(20):
        made = first_splits(rows, seed=seed, notes=[])
        for tag, total in (("a", 50), ("b", 25)):
            mine = [s for s, row in zip(made, rows, strict=True) if row.tags == (tag,)]
            for one in ("dev", "test"):
                assert abs(mine.count(one) - 0.4 * total) <= 1.4


def test_each_tag_has_its_share_in_every_split() -> None:
    rows = [
        Example(place=f"f:{n}", inputs={"q": asking(n)}, reference="x", tags=("ab"[n % 10 == 0],))
        for n in range(300)
    ]
    found = split(rows)
    for counts in found.strata.values():
        total = sum(counts.values())
        assert abs(counts["dev"] - 0.2 * total) <= room(total)
        assert abs(counts["test"] - 0.2 * total) <= room(total)


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="leave nothing to train on"):
        split([], dev=0.5, test=0.5)


def kept_rows() -> list[Example]:
    """Rows of every kind: sources, near copies, equal ones, tags, a few with a split already."""
    draws = random.Random(7)
    found = []
    for n in range(600):
        asked = asking(draws.randrange(400))
        if n % 5 == 0:
            asked += " " + draws.choice(WORDS)  # near another
        found.append(
            Example(
                place=f"f:{n}",
                id=f"r{n}",
                inputs={"q": asked},
                reference=draws.choice(["yes", "no", "Ünsure", None]),
                cluster=draws.choice(["", "", f"k{draws.randrange(90)}"]),
                tags=tuple(t for t in ("red", "blue") if draws.random() < 0.3),
                split=draws.choice(["train", "test"]) if n % 97 == 3 else "",
            )
        )
    return found


LETTERS = {"train": ".", "dev": "d", "test": "t", None: "-"}
DEALS: dict[str, dict[str, object]] = {
    "as it is": {},
    "another seed": {"seed": 3},
    "anew, by answer": {"anew": True, "by": "answer"},
    "by nothing, other shares": {"by": "none", "dev": 0.4, "test": 0.1},
    "equal rows alone": {"near": None, "seed": 5},
}


def deals() -> dict[str, str]:
    """Return how the rows are dealt, a letter a row, for each of some wishes."""
    rows = kept_rows()
    found = {}
    for name, wish in DEALS.items():
        dealt = split(rows, **wish)
        told = [
            dealt.groups,
            dealt.near,
            dealt.new,
            dealt.moved,
            dealt.left_out_rows,
            dealt.leaking_groups,
        ]
        letters = "".join(LETTERS[one] for one in dealt.splits)
        found[name] = f"{' '.join(map(str, told))} {letters}"
    return found


def test_rows_are_dealt_as_they_were_when_this_was_recorded() -> None:
    recorded = json.loads((Path(__file__).parent / "dealt.json").read_text())
    assert deals() == recorded


def test_of_many_leaks_the_first_are_named_and_all_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(splitting, "NAMED", 2)
    rows = [
        Example(place=f"f:{n}", inputs={"q": asking(n // 3)}, reference="x", split=one)
        for n, one in enumerate(["train", "test", ""] * 4 + ["train", "test"])
    ]
    found = split(rows)
    assert (found.leaking_groups, found.old_leaks, found.left_out_rows) == (5, 1, 4)
    assert [p.place for p in found.left_out] == ["f:2", "f:5"]
    told = [[p.detail for p in group] for group in found.leaks]
    assert [sorted(group) for group in told] == [["new", "test", "train"]] * 2


def test_a_leaking_group_names_a_row_of_each_split_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "SHOWN", 3)
    rows = [
        Example(place=f"f:{n}", inputs={"q": asking(n)}, cluster="k", split=one)
        for n, one in enumerate(["train"] * 20 + ["test"])
    ]
    [group] = split(rows).leaks
    named = [(p.place, p.detail) for p in group]
    assert named == [("f:0", "train"), ("f:20", "test"), ("f:1", "train")]


def test_answers_that_are_all_different_are_no_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "MOST_STRATA", 5)
    rows = [Example(place="f", inputs={"q": asking(n)}, reference=f"x{n}") for n in range(40)]
    found = split(rows, by="answer")
    assert found.too_many
    assert found.splits == split(rows, by="none").splits


def test_of_a_row_that_was_looked_at_less_is_kept_than_a_text() -> None:
    def kept(count: int) -> int:
        def rows() -> Iterator[Example]:
            for n in range(count):
                yield Example(place=f"file.jsonl:{n}", id=f"r{n}", inputs={"q": asking(n)},
                              reference=f"x{n % 3}", cluster=f"k{n // 2}")  # fmt: skip

        seen = splitting._Seen(by="answer", near=None, seed=0, also=set())
        tracemalloc.start()
        try:
            seen.look([Rows(name="f", open=rows)])
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    few, many = kept(500), kept(1500)
    assert (many - few) / 1000 < 45


def test_a_row_more_takes_a_few_bytes_more(monkeypatch: pytest.MonkeyPatch) -> None:
    look = splitting._Seen.look

    def traced(seen: splitting._Seen, sources: Sequence[Rows]) -> None:
        look(seen, sources)  # it takes what Twins and Sketches take
        tracemalloc.start()

    def peak(count: int) -> int:
        def rows() -> Iterator[Example]:
            for n in range(count):
                yield Example(place="f", inputs={"q": str(n)}, reference=f"x{n % 3}",
                              cluster=f"k{n // 2}" if n % 3 else "")  # fmt: skip

        try:
            split_rows([Rows(name="f", open=rows)], by="answer", near=None)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    monkeypatch.setattr(splitting._Seen, "look", traced)
    monkeypatch.setattr(groups, "AT_ONCE", 4096)
    few, many = peak(20_000), peak(60_000)
    assert (many - few) / 40_000 < 30, "a code of 64 bits for each row and column would be more"

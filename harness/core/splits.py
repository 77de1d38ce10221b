"""Deals rows into train, dev and test, whole groups at a time. Knows no file and no similarity.

A group (a source, a set of near-duplicates) is never cut. Where it stands is a hash of its first
row's key and the seed. Rows without a kind go by that alone: rows that are added move no other.
Kinds of rows (tags, answers) have their share each: rows are walked in their order, and a group
goes where it stands unless that would take its kind further from its share than there is room
(a biased coin with a largest imbalance: Soares & Wu 1983; Berger, Ivanova & Knoll 2003). So rows
that are added at the end move no other, and shares hold (docs/decisions/0015).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.records import SPLITS, Split

HELD_OUT: tuple[Split, ...] = ("test", "dev")
NUMBERS: dict[str, int] = {"": 0} | {split: n for n, split in enumerate(SPLITS, start=1)}
"""Splits as numbers of one byte: 0 is none."""
STEP = 8192
"""Rows that are walked at a time."""
TIGHT = 0.8
"""Next to no room: less than a row, and enough that the first of a kind goes by its own hash."""
FEW = 6
"""Up to so many rows of a kind have next to no room: a kind of five has its test row."""
FIRST = 4
"""So many first rows of every kind are also walked together, with as little room: a hundred kinds
of one row have exact shares between them.
"""
WHOLE = 2.0
"""The room that all rows together have, in rooms of a kind: with less, kinds would push each other
about, and a row that is put between others would move more of them.
"""

Numbers = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]
Kinds = npt.NDArray[np.unsignedinteger[Any]]
_TRAIN, _DEV, _TEST = (NUMBERS[split] for split in SPLITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row to be dealt. `key` is that of its group's first row; `kind` is what it is, empty where
    that is nothing to deal by; `split` is the one that it has already.
    """

    key: str
    kind: str = ""
    split: Split | None = None


def key_of(asked: int, source: str) -> str:
    """Return the key of a row: its source, else the code of what it asks."""
    return f"of {source}" if source else f"{asked:016x}"


def kind_of(tags: Sequence[str]) -> str:
    """Return the kind of a row with `tags`."""
    return ", ".join(sorted(tags))


def share_of(key: str, *, seed: int) -> float:
    """Return where a group stands in the deal, in [0, 1): the lowest are test, the next dev."""
    return order_of(key, seed=seed) / 2**64


def order_of(key: str, *, seed: int) -> int:
    """Return where a group stands in the deal."""
    return int.from_bytes(
        hashlib.sha256(f"{seed}\x1f{key}".encode("utf-8", "surrogatepass")).digest()[:8], "big"
    )


def room(rows: int) -> float:
    """Return how many rows dev and test may each be off their share of `rows` rows of a kind."""
    return TIGHT if rows <= FEW else 1 + sqrt(rows) / 3


def deal(
    rows: Sequence[Row],
    shares: Mapping[Split, float],
    *,
    seed: int,
    room: Callable[[int], float] = room,
) -> list[Split | None]:
    """Return the split of each row's group; None where its rows stand in several already. `room`
    is that of each kind, by its rows; it may not shrink as they grow.
    """
    groups: dict[str, int] = {}
    kinds: dict[str, int] = {}
    of = [groups.setdefault(row.key, len(groups)) for row in rows]
    kind = [kinds.setdefault(row.kind, len(kinds)) for row in rows]
    kept = np.zeros(len(groups), dtype=np.uint8)
    for group, row in zip(of, rows, strict=True):
        if row.split:
            kept[group] |= 1 << NUMBERS[row.split]
    found = deal_many(
        np.asarray([order_of(key, seed=seed) for key in groups], dtype=np.uint64),
        np.asarray(of, dtype=np.uint32),
        kind=np.asarray(kind, dtype=np.uint32),
        kept=kept,
        shares=shares,
        drawn=kinds.get(""),
        room=room,
    )
    return [SPLITS[n - 1] if n else None for n in found[of].tolist()]


def deal_many(
    order: npt.NDArray[np.uint64],
    of: Numbers,
    *,
    kind: Kinds,
    kept: Bytes,
    shares: Mapping[Split, float],
    drawn: int | None = None,
    room: Callable[[int], float] = room,
) -> Bytes:
    """Return the split of each group as a number, 0 where its rows stand in several already.

    `order` and `kept` are of groups, `of` (its group) and `kind` of rows. `kept` has the bit
    `1 << NUMBERS[split]` for each split in which a group has rows. `shares` are those of dev and
    test; the rest is train. Where nothing is kept, each group whose first row is of the kind
    `drawn` goes by its own place in the order alone.
    """
    is_first = not kept.any()
    found = _by_place(order, shares)
    if not is_first or (kind != drawn).any():
        found = _walk(found, of, kind=kind, kept=kept, shares=shares,
                      drawn=drawn if is_first else None, room=room)  # fmt: skip
    if is_first:
        _fill_empty(found, order, shares)
    return found


def counts_of(kind: Kinds, found: Bytes, *, kinds: int) -> npt.NDArray[np.int64]:
    """Return how many rows each kind has in each split, by number."""
    counts = np.zeros((kinds, len(SPLITS) + 1), dtype=np.int64)
    for start in range(0, len(kind), STEP):
        np.add.at(counts, (kind[start : start + STEP], found[start : start + STEP]), 1)
    return counts


def _by_place(order: npt.NDArray[np.uint64], shares: Mapping[Split, float]) -> Bytes:
    """Return the split of each group by its place alone: the lowest are test, the next dev."""
    found = np.full(len(order), NUMBERS["train"], dtype=np.uint8)
    test, dev = (shares.get(split, 0.0) for split in HELD_OUT)
    for start in range(0, len(order), STEP):
        place = order[start : start + STEP] / 2.0**64
        part = found[start : start + STEP]
        part[place < test + dev] = NUMBERS["dev"]
        part[place < test] = NUMBERS["test"]
    return found


class _Tally:
    """The rows so far, of a kind or of all."""

    __slots__ = ("dev", "rows", "test")

    def __init__(self, _: int, train: int, dev: int, test: int) -> None:
        self.rows, self.dev, self.test = train + dev + test, dev, test

    def add(self, split: int) -> None:
        """Count a row."""
        self.rows += 1
        if split == _TEST:
            self.test += 1
        elif split == _DEV:
            self.dev += 1

    def nearest(self, wished: int, test: float, dev: float, *, most: float) -> int:
        """Return where the next row goes: as wished, but for a split that is short of its share by
        more than `most` rows, which takes it, and for one that would be over, which does not.
        """
        rows = self.rows + 1
        no_test, no_dev = test * rows - self.test, dev * rows - self.dev
        if no_test > most or no_dev > most:
            return _TEST if no_test >= no_dev else _DEV
        if (wished == _TEST and 1 - no_test > most) or (wished == _DEV and 1 - no_dev > most):
            return _TRAIN
        return wished


def _walk(
    place: Bytes,
    of: Numbers,
    *,
    kind: Kinds,
    kept: Bytes,
    shares: Mapping[Split, float],
    drawn: int | None,
    room: Callable[[int], float],
) -> Bytes:
    """Deal each group where its first row is come by. Rows of kept groups count from the
    beginning, rows of the kind `drawn` not at all: their groups go by their places.
    """
    test, dev = (shares.get(split, 0.0) for split in HELD_OUT)
    found = np.zeros(len(place), dtype=np.uint8)
    for number in (_TRAIN, _DEV, _TEST):
        found[kept == 1 << number] = number
    counts = counts_of(kind, found[of], kinds=int(kind.max(initial=0)) + 1)
    tallies, whole = [_Tally(*some) for some in counts.tolist()], _Tally(*counts.sum(0).tolist())
    firsts = _Tally(*counts[counts.sum(1) <= FIRST].sum(0).tolist())
    dealt, stays = bytearray(found), bytes(kept)
    for start in range(0, len(of), STEP):
        part = slice(start, start + STEP)
        for group, one in zip(of[part].tolist(), kind[part].tolist(), strict=True):
            if stays[group]:
                continue
            tally = tallies[one]
            if not (split := dealt[group]):
                split = int(place[group])
                if one != drawn:
                    split = whole.nearest(split, test, dev, most=WHOLE * room(whole.rows + 1))
                    if tally.rows < FIRST:
                        split = firsts.nearest(split, test, dev, most=TIGHT)
                    split = tally.nearest(split, test, dev, most=room(tally.rows + 1))
                dealt[group] = split
            if one != drawn:
                if tally.rows < FIRST:
                    firsts.add(split)
                tally.add(split)
                whole.add(split)
    return np.frombuffer(dealt, dtype=np.uint8)


def _fill_empty(found: Bytes, order: npt.NDArray[np.uint64], shares: Mapping[Split, float]) -> None:
    """Give a split that came out empty, as by chance in a small set, the group that stands nearest
    to it of the split that has most.
    """
    test, dev = (shares.get(split, 0.0) for split in HELD_OUT)
    places: dict[Split, tuple[float, float]] = {
        "test": (0.0, test),
        "dev": (test, test + dev),
        "train": (test + dev, 1.0),
    }
    for split, (low, high) in places.items():
        counts = np.bincount(found, minlength=len(SPLITS) + 1)
        if counts[NUMBERS[split]] or high <= low or counts.max() < 2:
            continue
        those = np.flatnonzero(found == counts.argmax())
        place = order[those] / 2.0**64
        away = np.maximum(low - place, place - high)
        found[those[np.argmin(away)]] = NUMBERS[split]

"""Deals groups of rows into train, dev and test. Knows no file and no similarity.

A group (a source, a set of near-duplicates) is never cut. Where it stands in the deal is a hash of
its first row's key and the seed: that alone decides, so that rows which are added move no other.
Kinds of rows (tags, answers) have their exact share each, in the order of the hash; rows that have
a split keep it, and a group follows its rows (docs/decisions/0015).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.records import SPLITS, Split

HELD_OUT: tuple[Split, ...] = ("test", "dev")
NUMBERS: dict[str, int] = {"": 0} | {split: n for n, split in enumerate(SPLITS, start=1)}
"""Splits as numbers of one byte: 0 is none."""
STEP = 65_536
"""Groups that are looked at at a time."""

Numbers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows that must stay together. `key` is that of its first row, whatever rows join later;
    `stratum` is what they are, empty where that is nothing to deal by; `kept` are the splits that
    rows of it have already.
    """

    key: str
    rows: int
    stratum: str = ""
    kept: frozenset[str] = frozenset()


def key_of(asked: int, source: str) -> str:
    """Return the key of a row: its source, else the code of what it asks."""
    return f"of {source}" if source else f"{asked:016x}"


def share_of(key: str, *, seed: int) -> float:
    """Return where a group stands in the deal, in [0, 1): the lowest are test, the next dev."""
    return order_of(key, seed=seed) / 2**64


def order_of(key: str, *, seed: int) -> int:
    """Return where a group stands in the deal."""
    return int.from_bytes(
        hashlib.sha256(f"{seed}\x1f{key}".encode("utf-8", "surrogatepass")).digest()[:8], "big"
    )


def deal(
    groups: Sequence[Group], shares: Mapping[Split, float], *, seed: int
) -> list[Split | None]:
    """Return the split of each group; None for one whose rows stand in several splits already."""
    strata = {name: n for n, name in enumerate(sorted({g.stratum for g in groups}))}
    kept = [sum(1 << NUMBERS[split] for split in g.kept) for g in groups]
    found = deal_many(
        np.asarray([order_of(g.key, seed=seed) for g in groups], dtype=np.uint64),
        np.asarray([g.rows for g in groups], dtype=np.int64),
        stratum=np.asarray([strata[g.stratum] for g in groups], dtype=np.int64),
        kept=np.asarray(kept, dtype=np.uint8),
        shares=shares,
        drawn=strata.get(""),
    )
    return [SPLITS[n - 1] if n else None for n in found.tolist()]


def deal_many(
    order: npt.NDArray[np.uint64],
    rows: Numbers,
    *,
    stratum: Numbers,
    kept: Bytes,
    shares: Mapping[Split, float],
    drawn: int | None = None,
) -> Bytes:
    """Return the split of each group as a number, 0 where its rows stand in several already.

    `kept` has the bit `1 << NUMBERS[split]` for each split in which a group has rows. `shares` are
    those of dev and test; the rest is train. Where nothing is kept, each group of the stratum
    `drawn` goes by its own place in the order alone. In every other stratum, test and then dev take
    the first groups of the order until they have their share of the rows, what a stratum is short
    of (or over) going to the next one. A group that is larger than what is still needed goes by
    where the share comes out nearer.
    """
    found = np.zeros(len(order), dtype=np.uint8)
    for split in SPLITS:
        found[kept == 1 << NUMBERS[split]] = NUMBERS[split]
    is_first = not kept.any()
    sorted_by = np.lexsort((order, stratum))
    starts = np.flatnonzero(np.diff(stratum[sorted_by], prepend=-1)).tolist()
    carried: dict[Split, float] = dict.fromkeys(HELD_OUT, 0.0)
    for start, end in zip(starts, [*starts, len(order)][1:], strict=True):
        members = sorted_by[start:end]
        if is_first and stratum[members[0]] == drawn:
            found[members] = _by_place(order[members], shares)
            continue
        total = int(rows[members].sum())
        free = members[kept[members] == 0]
        for split in HELD_OUT:
            have = int(rows[members[found[members] == NUMBERS[split]]].sum())
            need = shares.get(split, 0.0) * total + carried[split]
            taken, have = _taken(rows[free], have, need)
            found[free[taken]] = NUMBERS[split]
            free = free[~taken]
            carried[split] = need - have
        found[free] = NUMBERS["train"]
    if is_first:
        _fill_empty(found, order, shares)
    return found


def _by_place(order: npt.NDArray[np.uint64], shares: Mapping[Split, float]) -> Bytes:
    """Return the split of each group by its place alone: the lowest are test, the next dev."""
    place = order / 2.0**64
    found = np.full(len(order), NUMBERS["train"], dtype=np.uint8)
    test, dev = (shares.get(split, 0.0) for split in HELD_OUT)
    found[place < test + dev] = NUMBERS["dev"]
    found[place < test] = NUMBERS["test"]
    return found


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


def _taken(sizes: Numbers, have: int, need: float) -> tuple[npt.NDArray[np.bool_], int]:
    """Return which groups a split takes, in their order, and how many rows it has then."""
    taken = np.zeros(len(sizes), dtype=np.bool_)
    for start in range(0, len(sizes), STEP):
        for at, size in enumerate(sizes[start : start + STEP].tolist(), start=start):
            if have + size / 2 <= need:
                taken[at] = True
                have += size
        if have + 0.5 > need:  # not even a group of one row fits
            break
    return taken, have

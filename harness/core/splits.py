"""Deals groups of rows into train, dev and test. Knows no file and no similarity.

A group (a source, a set of near-duplicates) is never cut. Groups are dealt stratum by stratum in
the order of a hash of their key and the seed, so that a set and a seed always give the same
splits; rows that have a split keep it, and a group follows its rows.
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
    """Rows that must stay together. `key` identifies it, whatever rows join later; `stratum` is
    what they are; `kept` are the splits that rows of it have already.
    """

    key: str
    rows: int
    stratum: str = ""
    kept: frozenset[str] = frozenset()


def key_of(asked: Sequence[int], sources: Sequence[str]) -> str:
    """Return the key of a group: that of its sources where it has any, so that it is the same
    whatever rows join; else the smallest code of what its rows ask. The order of rows is nothing.
    """
    if sources:
        return f"of {min(sources)}"
    return f"{min(asked):016x}"


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
    )
    return [SPLITS[n - 1] if n else None for n in found.tolist()]


def deal_many(
    order: npt.NDArray[np.uint64],
    rows: Numbers,
    *,
    stratum: Numbers,
    kept: Bytes,
    shares: Mapping[Split, float],
) -> Bytes:
    """Return the split of each group as a number, 0 where its rows stand in several already.

    `kept` has the bit `1 << NUMBERS[split]` for each split in which a group has rows. `shares` are
    those of dev and test; the rest is train. In each stratum, test and then dev take the first
    groups of the order until they have their share of the rows, what a stratum is short of (or
    over) going to the next one. A group that is larger than what is still needed goes by where the
    share comes out nearer.
    """
    found = np.zeros(len(order), dtype=np.uint8)
    for split in SPLITS:
        found[kept == 1 << NUMBERS[split]] = NUMBERS[split]
    sorted_by = np.lexsort((order, stratum))
    starts = np.flatnonzero(np.diff(stratum[sorted_by], prepend=-1)).tolist()
    carried: dict[Split, float] = dict.fromkeys(HELD_OUT, 0.0)
    for start, end in zip(starts, [*starts, len(order)][1:], strict=True):
        members = sorted_by[start:end]
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
    return found


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

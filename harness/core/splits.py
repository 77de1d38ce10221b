"""Deals groups of rows into train, dev and test. Knows no file and no similarity.

A group (a source, a set of near-duplicates) is never cut. Groups are dealt stratum by stratum in
the order of a hash of their key and the seed, so that a set and a seed always give the same
splits; rows that have a split keep it, and a group follows its rows.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.records import SPLITS, Split

HELD_OUT: tuple[Split, ...] = ("test", "dev")


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
    """Return the split of each group; None for one whose rows stand in several splits already.

    `shares` are those of dev and test; the rest is train. In each stratum, test and then dev take
    the first groups of the order until they have their share of the rows, what a stratum is short
    of (or over) going to the next one. A group that is larger than what is still needed goes by
    where the share comes out nearer.
    """
    found: list[Split | None] = [None] * len(groups)
    strata: dict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        strata[group.stratum].append(number)
        known = [s for s in SPLITS if s in group.kept]
        if len(known) == 1:
            found[number] = known[0]
    carried: dict[Split, float] = dict.fromkeys(HELD_OUT, 0.0)
    for stratum in sorted(strata):
        members = strata[stratum]
        total = sum(groups[n].rows for n in members)
        have = Counter({s: sum(groups[n].rows for n in members if found[n] == s) for s in HELD_OUT})
        free = [n for n in members if not groups[n].kept & set(SPLITS)]
        free.sort(key=lambda n: (order_of(groups[n].key, seed=seed), groups[n].key))
        for split in HELD_OUT:
            need = shares.get(split, 0.0) * total + carried[split]
            left = []
            for number in free:
                size = groups[number].rows
                if have[split] + size / 2 <= need:
                    found[number] = split
                    have[split] += size
                else:
                    left.append(number)
            free = left
            carried[split] = need - have[split]
        for number in free:
            found[number] = "train"
    return found

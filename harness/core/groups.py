"""Things that hang together, by number: union and find. Knows nothing of what they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from harness.core.spool import Column

Indices = npt.NDArray[np.uint32]
Links = tuple[Indices, Indices]
"""Numbers that hang together: the ones, and the others."""
AT_ONCE = 131_072
"""Codes that are compared at a time, about."""


class Groups:
    """Joins numbers; one that was never joined is alone."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def root(self, number: int) -> int:
        """Return the smallest number of the group."""
        path = []
        while (parent := self._parent.get(number, number)) != number:
            path.append(number)
            number = parent
        for one in path:
            self._parent[one] = number
        return number

    def join(self, one: int, other: int) -> None:
        """Put both, and all that hangs on them, into one group."""
        low, high = sorted((self.root(one), self.root(other)))
        self._parent.setdefault(low, low)
        self._parent[high] = low

    def several(self) -> list[list[int]]:
        """Return the groups of more than one, each in order, by their first."""
        found: dict[int, list[int]] = defaultdict(list)
        for number in sorted(self._parent):
            found[self.root(number)].append(number)
        return [found[root] for root in sorted(found) if len(found[root]) > 1]


def roots_of(total: int, links: Iterable[Links]) -> Indices:
    """Return for each number the smallest one that it hangs together with: some bytes a number,
    where `Groups` takes a hundred.
    """
    roots = np.arange(total, dtype=np.uint32)
    for some in links:
        ones, others = some
        while len(ones):
            one, other = roots[ones], roots[others]
            low, high = np.minimum(one, other), np.maximum(one, other)
            apart = low != high
            ones, others = ones[apart], others[apart]
            np.minimum.at(roots, high[apart], low[apart])
            while not np.array_equal(roots, shorter := roots[roots]):
                roots = shorter
    return roots


def links_in(column: Column) -> Iterator[Links]:
    """Yield the links of a column of codes, as `links_of` does: a share of the codes at a time, so
    that no more than those are in memory.
    """
    shares = 1 + len(column) // AT_ONCE
    for share in range(shares):
        codes, numbers, at = [], [], 0
        for part in column.parts():
            mine = np.flatnonzero((part % np.uint64(shares) == share) & (part != 0))
            codes.append(part[mine])
            numbers.append((mine + at).astype(np.uint32))
            at += len(part)
        if codes:
            ones, others = links_of(np.concatenate(codes))
            number = np.concatenate(numbers)
            yield number[ones], number[others]


def links_of(codes: npt.NDArray[np.uint64]) -> Links:
    """Return, for each number whose code another has before it, the first of that code and itself.
    Code 0 is none.
    """
    if not len(codes):
        return np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.uint32)
    order = np.argsort(codes, kind="stable").astype(np.uint32)
    ordered = codes[order]
    same = (ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)
    starts = np.flatnonzero(np.r_[True, ~same])
    lengths = np.diff(np.r_[starts, len(codes)])
    return np.repeat(order[starts], lengths - 1), order[1:][same]

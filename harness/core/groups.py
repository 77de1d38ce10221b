"""Things that hang together, by number: union and find. Knows nothing of what they are."""

from __future__ import annotations

from collections import defaultdict


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

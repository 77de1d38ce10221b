"""Numbers of many rows, kept outside of memory where somebody lends a place. Knows no file.

A rule that must compare a million rows keeps some bytes of each; an engine may lend it files.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint64]
EACH = 8192
"""Numbers that are gathered before they are written."""


class Spool(Protocol):
    """Bytes that were written, to be read from the beginning as often as one likes."""

    def write(self, data: bytes) -> None:
        """Add to the end."""

    def parts(self, step: int) -> Iterator[bytes]:
        """Yield all that was written, `step` bytes at a time; the last part may be shorter."""


Spools = Callable[[], Spool]


class Held:
    """A spool in memory."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        """Add to the end."""
        self._data += data

    def parts(self, step: int) -> Iterator[bytes]:
        """Yield all that was written."""
        for start in range(0, len(self._data), step):
            yield bytes(self._data[start : start + step])


class Column:
    """One number of 64 bits for each row."""

    def __init__(self, spool: Spool) -> None:
        self._spool, self._new, self._length = spool, array("Q"), 0

    def __len__(self) -> int:
        return self._length

    def append(self, value: int) -> None:
        """Add the next row's number."""
        self._new.append(value)
        self._length += 1
        if len(self._new) >= EACH:
            self._flush()

    def _flush(self) -> None:
        if self._new:
            self._spool.write(self._new.tobytes())
            self._new = array("Q")

    def parts(self) -> Iterator[Codes]:
        """Yield the numbers of all rows, EACH rows at a time."""
        self._flush()
        for part in self._spool.parts(8 * EACH):
            yield np.frombuffer(part, dtype=np.uint64)

    def all(self) -> Codes:
        """Return the numbers of all rows: eight bytes each, while somebody holds them."""
        found = np.empty(self._length, dtype=np.uint64)
        at = 0
        for numbers in self.parts():
            found[at : at + len(numbers)] = numbers
            at += len(numbers)
        return found


class Marks:
    """Rows that are marked, by number: a byte a row."""

    def __init__(self, rows: int) -> None:
        self.mask = np.zeros(rows, dtype=np.bool_)

    def __contains__(self, number: int) -> bool:
        return number < len(self.mask) and bool(self.mask[number])

    def __iter__(self) -> Iterator[int]:
        return map(int, np.flatnonzero(self.mask))

    def __len__(self) -> int:
        return int(np.count_nonzero(self.mask))

    def __bool__(self) -> bool:
        return bool(self.mask.any())

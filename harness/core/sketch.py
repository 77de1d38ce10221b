"""Finds texts that may be nearly the same among a million: MinHash in bands. Decides nothing.

A pair of candidates has still to be compared; `harness.core.near` does that. Words are hashed by
CRC-32, so that a text has the same sketch in every process. A sketch is 64 bytes, in a spool.
"""

from __future__ import annotations

import re
import zlib

import numpy as np
import numpy.typing as npt

from harness.core.near import WORDS
from harness.core.spool import Codes, Held, Spool

BANDS, ROWS = 16, 5
"""A pair of similarity s is found with the chance 1 - (1 - s^ROWS)^BANDS: 0.998 at 0.8, 0.99999 at
0.9, 0.4 at 0.5.
"""
BATCH = 1024
PARTNERS = 20
"""Texts of one band value that each is paired with, the nearest before it: a phrase that 10,000
rows share makes no 50 million pairs, and they still hang together.
"""
MOST = 125_000
"""Pairs of one band at most, the nearest first: two million, and 16 MB, in all."""
_WORD = re.compile(r"\w+|[^\w\s]")
_rng = np.random.Generator(np.random.PCG64(20260101))
_FACTORS = _rng.integers(1, 2**63, size=BANDS * ROWS, dtype=np.uint64) | np.uint64(1)
_OFFSETS = _rng.integers(0, 2**63, size=BANDS * ROWS, dtype=np.uint64)
_POSITIONS = _rng.integers(1, 2**63, size=WORDS, dtype=np.uint64) | np.uint64(1)
_BAND = _rng.integers(1, 2**63, size=ROWS, dtype=np.uint64) | np.uint64(1)
_HIGH = np.uint64(32)


class Sketches:
    """Sketches of texts in the order in which they were added."""

    def __init__(self, spool: Spool | None = None) -> None:
        self._spool: Spool = spool or Held()
        self._waiting: list[str] = []
        self._count = 0
        self.left_out = 0
        """Pairs beyond MOST: a pair that shares several bands is counted in each."""

    def __len__(self) -> int:
        return self._count

    def add(self, text: str) -> None:
        """Add a normalised text."""
        self._count += 1
        self._waiting.append(text)
        if len(self._waiting) >= BATCH:
            self._flush()

    def candidates(self, context: Codes) -> Codes:
        """Return the pairs that share a band, each once, as `later << 32 | earlier`, in order.

        Of the texts whose `context` is not 0, and not empty; both of a pair have the same one.
        """
        self._flush()
        found = [np.zeros(0, dtype=np.uint64)]
        for band in range(BANDS):
            both = self._band(band, context)
            both.sort()
            values = np.empty(len(both), dtype=np.uint32)
            np.right_shift(both, _HIGH, out=values, casting="unsafe")
            room = MOST
            for lag in range(1, PARTNERS + 1):
                same = np.flatnonzero(values[lag:] == values[:-lag])
                if not len(same):
                    break
                earlier, later = (both[at].astype(np.uint32) for at in (same, same + lag))
                fits = context[earlier] == context[later]
                earlier, later = earlier[fits], later[fits]
                self.left_out += max(0, len(earlier) - room)
                pairs = later[:room].astype(np.uint64) << _HIGH | earlier[:room]
                room -= len(pairs)
                found.append(pairs)
        return np.unique(np.concatenate(found))

    def _band(self, band: int, context: Codes) -> Codes:
        """Return the texts that are compared, as `value << 32 | number`."""
        found = np.empty(np.count_nonzero(context), dtype=np.uint64)
        at = number = 0
        for part in self._spool.parts(4 * BANDS * BATCH):
            values = np.frombuffer(part, dtype=np.uint32).reshape(-1, BANDS)[:, band]
            mine = np.flatnonzero((context[number : number + len(values)] != 0) & (values != 0))
            found[at : at + len(mine)] = values[mine].astype(np.uint64) << _HIGH | (
                mine + number
            ).astype(np.uint64)
            at += len(mine)
            number += len(values)
        return found[:at]

    def _flush(self) -> None:
        if not self._waiting:
            return
        hashes, lengths = [], []
        crc = zlib.crc32
        for text in self._waiting:
            words = [crc(w.encode("utf-8", "surrogatepass")) for w in _WORD.findall(text)]
            lengths.append(len(words))
            # padded, so that the last shingles of a text never reach into the next one
            hashes += [*words, *([0] * (WORDS - 1))]
        self._waiting = []
        self._spool.write(_sketches(hashes, lengths).tobytes())


def _sketches(hashes: list[int], lengths: list[int]) -> npt.NDArray[np.uint32]:
    words = np.asarray(hashes, dtype=np.uint64)
    shingles = sum(
        (words[i : len(words) - (WORDS - 1) + i] * _POSITIONS[i] for i in range(WORDS)),
        start=np.zeros(max(0, len(words) - (WORDS - 1)), dtype=np.uint64),
    )
    shingles ^= shingles >> _HIGH
    steps = np.asarray(lengths, dtype=np.int64) + (WORDS - 1)
    starts = np.concatenate(([0], np.cumsum(steps)[:-1]))
    found = np.zeros((len(lengths), BANDS), dtype=np.uint32)
    for number, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        if not length:
            continue
        mine = shingles[start : start + max(1, length - (WORDS - 1))]
        mixed = (mine[:, None] * _FACTORS[None, :] + _OFFSETS[None, :]) >> _HIGH
        lowest = mixed.min(axis=0).reshape(BANDS, ROWS)
        keys = (lowest * _BAND).sum(axis=1, dtype=np.uint64) >> _HIGH
        found[number] = np.maximum(keys, np.uint64(1)).astype(np.uint32)
    return found

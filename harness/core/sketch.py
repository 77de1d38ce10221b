"""Finds texts that may be nearly the same among a million: MinHash in bands. Decides nothing.

A pair of candidates has still to be compared; `harness.core.near` does that. Words are hashed by
CRC-32, so that a text has the same sketch in every process. Memory: 64 bytes a text.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from harness.core.near import WORDS

BANDS, ROWS = 16, 5
"""A pair of similarity s is found with the chance 1 - (1 - s^ROWS)^BANDS: 0.998 at 0.8, 0.99999 at
0.9, 0.4 at 0.5.
"""
BATCH = 1024
PARTNERS = 20
"""Texts of one band value that each is paired with, the nearest before it: a phrase that 10,000
rows share makes no 50 million pairs, and they still hang together.
"""
_WORD = re.compile(r"\w+|[^\w\s]")
_rng = np.random.Generator(np.random.PCG64(20260101))
_FACTORS = _rng.integers(1, 2**63, size=BANDS * ROWS, dtype=np.uint64) | np.uint64(1)
_OFFSETS = _rng.integers(0, 2**63, size=BANDS * ROWS, dtype=np.uint64)
_POSITIONS = _rng.integers(1, 2**63, size=WORDS, dtype=np.uint64) | np.uint64(1)
_BAND = _rng.integers(1, 2**63, size=ROWS, dtype=np.uint64) | np.uint64(1)
_HIGH = np.uint64(32)

Numbers = npt.NDArray[np.int64]


class Sketches:
    """Sketches of texts in the order in which they were added."""

    def __init__(self) -> None:
        self._bands = array("I")
        self._waiting: list[str] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, text: str) -> None:
        """Add a normalised text."""
        self._count += 1
        self._waiting.append(text)
        if len(self._waiting) >= BATCH:
            self._flush()

    def candidates(self, among: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
        """Yield pairs (earlier, later) that share a band, each at least once, of the texts that
        are true in `among` and not empty.
        """
        self._flush()
        bands = np.frombuffer(self._bands, dtype=np.uint32).reshape(-1, BANDS)
        rows = np.flatnonzero(among & (bands[:, 0] != 0))
        seen: set[int] = set()
        for band in range(BANDS):
            values = bands[rows, band]
            order = np.argsort(values, kind="stable")
            values = values[order]
            starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
            ends = np.r_[starts[1:], len(values)]
            for start, end in zip(starts, ends, strict=True):
                if end - start < 2:
                    continue
                group = rows[order[start:end]]
                for later in range(1, len(group)):
                    for earlier in range(max(0, later - PARTNERS), later):
                        pair = (int(group[earlier]) << 32) | int(group[later])
                        if pair not in seen:
                            seen.add(pair)
                            yield int(group[earlier]), int(group[later])

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
        self._bands.frombytes(_sketches(hashes, lengths).tobytes())


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

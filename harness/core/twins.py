"""Rows that are the same, or nearly: found in two looks at them, in flat memory.

The first look keeps some bytes of each row, the second the words of those that may be near: a pair
counts only with its true Jaccard similarity. Knows no split and no finding.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.core.examples import Example
from harness.core.near import near_pairs, normalised, plain_text, shingles
from harness.core.sketch import Sketches
from harness.records import Json, canonical_json

NEAR = 0.8
FEW = 2000
"""Up to so many rows every pair is found for sure, without sketches."""
HELD = 3_000_000
"""Shingles that are kept at a time in the second look; pairs beyond are counted, not compared."""

Codes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows, by number, the earlier first."""

    one: int
    other: int
    similarity: float


def code(*parts: str) -> int:
    """Return 64 bits that tell texts apart: of a million, two are taken for one once in 40 million
    sets. 0 is never returned: it means none.
    """
    text = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") or 1


def asked_code(example: Example) -> int:
    """Identify what is asked, but for case, spacing and closing punctuation."""
    parts = [normalised(f"{k}: {plain_text(v)}") for k, v in sorted(example.inputs.items())]
    parts += [f"{m.role} {normalised(m.content)}" for m in example.messages]
    parts += [canonical_json(list(m.tool_calls)) for m in example.messages if m.tool_calls]
    parts += [i for m in example.messages for i in m.images]
    return code(*parts, *example.images)


def value_code(value: Json) -> int:
    """Identify a value; text but for case, spacing and closing punctuation. None is 0."""
    if value is None:
        return 0
    return code(normalised(value)) if isinstance(value, str) else code(canonical_json(value))


class Twins:
    """Finds equal and near rows among those that were added."""

    def __init__(self, *, near: float | None = NEAR) -> None:
        self._near = near
        self._asked, self._context = array("Q"), array("Q")
        self._texts: list[str] | None = []
        self._sketches = Sketches()
        self._pairs: list[Pair] = []
        self._open: dict[int, list[int]] = defaultdict(list)  # later: its earlier partners
        self._last: dict[int, int] = {}  # earlier: the last row that it is compared with
        self._seen: dict[int, frozenset[str]] = {}
        self._held = 0
        self.uncompared = 0

    def __len__(self) -> int:
        return len(self._asked)

    def add(self, example: Example, *, content: str, context: str) -> int:
        """Add the next row, and return what it asks as a code. `content` is normalised."""
        asked = asked_code(example)
        self._asked.append(asked)
        self._context.append(code(context, *example.images))
        if self._near is None:
            return asked
        if self._texts is not None:
            self._texts.append(content)
            if len(self._texts) > FEW:
                for text in self._texts:
                    self._sketches.add(text)
                self._texts = None
        else:
            self._sketches.add(content)
        return asked

    @property
    def asked(self) -> Codes:
        """What each row asks, as a code."""
        return np.frombuffer(self._asked, dtype=np.uint64)

    def settle(self) -> set[int]:
        """End the first look. Return the rows that must be seen again."""
        if self._near is None or not len(self):
            return set()
        first = np.zeros(len(self), dtype=bool)
        first[np.unique(self.asked, return_index=True)[1]] = True
        context = np.frombuffer(self._context, dtype=np.uint64)
        if self._texts is not None:
            rows = [int(r) for r in np.flatnonzero(first) if self._texts[r]]
            texts = [self._texts[r] for r in rows]
            self._pairs = [
                Pair(rows[p.other], rows[p.index], p.similarity)
                for p in near_pairs(texts, texts, least=self._near)
                if p.other < p.index and context[rows[p.index]] == context[rows[p.other]]
            ]
            self._texts = []
            return {n for p in self._pairs for n in (p.one, p.other)}
        for one, other in self._sketches.candidates(first):
            if context[one] == context[other]:
                self._open[other].append(one)
                self._last[one] = max(other, self._last.get(one, 0))
        return set(self._open) | set(self._last)

    def again(self, number: int, content: str) -> None:
        """Look at the words of a row that was asked for; rows come in order."""
        if number not in self._open and number not in self._last:
            return
        mine = shingles(content)
        partners = self._open.pop(number, [])
        for one in partners:
            theirs = self._seen.get(one)
            if theirs is None:
                self.uncompared += 1
            else:
                shared = len(mine & theirs)
                similarity = shared / (len(mine) + len(theirs) - shared)
                if self._near is not None and similarity >= self._near - 1e-9:
                    self._pairs.append(Pair(one, number, similarity))
            if self._last.get(one) == number and self._seen.pop(one, None) is not None:
                self._held -= len(theirs or ())
        if self._last.get(number, 0) > number and self._held + len(mine) <= HELD:
            self._seen[number] = mine
            self._held += len(mine)

    def pairs(self) -> list[Pair]:
        """Return the near pairs, of rows that are not the same; the most similar first."""
        return sorted(self._pairs, key=lambda p: (-p.similarity, p.one, p.other))


def repeated(codes: Codes) -> list[npt.NDArray[np.int64]]:
    """Return the groups of rows that have one code, each in order; code 0 is none."""
    if not len(codes):
        return []
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ends = np.r_[starts[1:], len(codes)]
    return [
        order[start:end]
        for start, end in zip(starts, ends, strict=True)
        if end - start > 1 and ordered[start]
    ]

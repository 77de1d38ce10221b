"""Rows that are the same, or nearly: found in two looks at them, in flat memory.

The first look keeps some bytes of each row, the second the words of those that may be near: a pair
counts only with its true Jaccard similarity. Knows no split and no finding.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.core.examples import Example
from harness.core.groups import links_in
from harness.core.near import near_pairs, normalised, plain_text, shingles
from harness.core.sketch import Sketches
from harness.core.spool import Codes, Column, Held, Marks, Spools
from harness.records import Json, canonical_json

NEAR = 0.8
FEW = 2000
"""Up to so many rows every pair is found for sure, without sketches."""
HELD = 3_000_000
"""Shingles that are kept at a time in the second look; pairs beyond are counted, not compared."""

__all__ = ["FEW", "HELD", "NEAR", "Codes", "Pair", "Twins", "asked_code", "code", "repeated",
           "value_code"]  # fmt: skip


_HALF = np.uint64(32)


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
    parts = [
        normalised(f"{k}: {plain_text(v)}")
        for k, v in sorted(example.inputs.items())
        if k not in example.pictured
    ]
    parts += [f"{m.role} {normalised(m.content)}" for m in example.messages]
    parts += [canonical_json(list(m.tool_calls)) for m in example.messages if m.tool_calls]
    parts += [i for m in example.messages for i in m.images]
    return code(*parts, *example.images)


def value_code(value: Json) -> int:
    """Identify a value; text but for case, spacing and closing punctuation, 7.0 as 7. None is 0."""
    if value is None:
        return 0
    if isinstance(value, str):
        return code(normalised(value))
    return code(canonical_json(_whole(value)))


def _whole(value: Json) -> Json:
    """Return a value whose whole numbers are written without a fraction."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(inner) for inner in value]
    return value


class Twins:
    """Finds equal and near rows among those that were added. `spools` lend room for what is kept
    of each row; without them it is kept in memory. `also` are pairs of rows, by number, to be
    compared whatever the sketches say.
    """

    def __init__(
        self,
        *,
        near: float | None = NEAR,
        spools: Spools = Held,
        also: Iterable[tuple[int, int]] = (),
    ) -> None:
        self._near, self._also = near, tuple(also)
        self._asked, self._context = Column(spools()), Column(spools())
        self._texts: list[str] | None = []
        self._sketches = Sketches(spools())
        self._found = (array("I"), array("I"), array("d"))  # one, other, similarity
        self._pairs: Codes = np.zeros(0, dtype=np.uint64)  # later << 32 | earlier, in order
        self._at = 0
        self._last = np.zeros(0, dtype=np.uint32)  # of an earlier row: the last one beside it
        self._seen: dict[int, frozenset[str]] = {}
        self._held = 0
        self.uncompared = 0

    def __len__(self) -> int:
        return len(self._asked)

    def add(self, example: Example, *, content: str, context: str) -> int:
        """Add the next row, and return what it asks as a code. `content` is normalised."""
        asked = asked_code(example)
        self._asked.append(asked)
        if self._near is None:
            return asked
        self._context.append(code(context, *example.images))
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
    def asked(self) -> Column:
        """What each row asks, as a code."""
        return self._asked

    def settle(self) -> Marks:
        """End the first look. Return the rows that must be seen again."""
        marks = Marks(len(self))
        if self._near is None or not len(self):
            return marks
        context = self._context.all()
        for _, later in links_in(self._asked):
            context[later] = 0  # the row was asked before
        if self._texts is not None:
            rows = [r for r in np.flatnonzero(context).tolist() if self._texts[r]]
            texts = [self._texts[r] for r in rows]
            for p in near_pairs(texts, texts, least=self._near):
                one, other = rows[p.other], rows[p.index]
                if one < other and context[one] == context[other]:
                    self._add(one, other, p.similarity)
            self._texts = []
            for found in self._found[:2]:
                marks.mask[found] = True
            return marks
        self._pairs = self._sketches.candidates(context)
        if self._also:
            self._pairs = np.union1d(self._pairs, self._asked_first(context))
        self.uncompared = self._sketches.left_out
        del context
        later = (self._pairs >> _HALF).astype(np.uint32)
        earlier = self._pairs.astype(np.uint32)
        self._last = np.zeros(len(self), dtype=np.uint32)
        np.maximum.at(self._last, earlier, later)
        marks.mask[later] = marks.mask[earlier] = True
        return marks

    def _asked_first(self, context: Codes) -> Codes:
        """Return the pairs of `also`, each row as the first one that asks the same."""
        _, first, same = np.unique(self._asked.all(), return_index=True, return_inverse=True)
        pairs: Codes = np.sort(first[same[np.array(self._also)]])
        pairs = pairs[context[pairs[:, 0]] == context[pairs[:, 1]]].astype(np.uint64)
        return pairs[:, 1] << _HALF | pairs[:, 0]

    def again(self, number: int, content: str) -> bool:
        """Look at the words of a row that was asked for; rows come in order. Return whether it is
        near an earlier one.
        """
        is_near, mine = False, None
        while self._at < len(self._pairs) and int(self._pairs[self._at]) >> 32 <= number:
            pair, self._at = int(self._pairs[self._at]), self._at + 1
            if pair >> 32 < number:
                continue
            mine = shingles(content) if mine is None else mine
            one = pair & 0xFFFFFFFF
            theirs = self._seen.get(one)
            if theirs is None:
                self.uncompared += 1
            else:
                shared = len(mine & theirs)
                similarity = shared / (len(mine) + len(theirs) - shared)
                if self._near is not None and similarity >= self._near - 1e-9:
                    self._add(one, number, similarity)
                    is_near = True
            if self._last[one] == number and self._seen.pop(one, None) is not None:
                self._held -= len(theirs or ())
        if number < len(self._last) and self._last[number] > number:
            mine = shingles(content) if mine is None else mine
            if self._held + len(mine) <= HELD:
                self._seen[number] = mine
                self._held += len(mine)
        return is_near

    def near_rows(self) -> Marks:
        """Return the rows that are of a near pair, or wait to be compared."""
        marks = Marks(len(self))
        for found in self._found[:2]:
            marks.mask[found] = True
        marks.mask[list(self._seen)] = True
        return marks

    def _add(self, one: int, other: int, similarity: float) -> None:
        ones, others, similar = self._found
        ones.append(one)
        others.append(other)
        similar.append(similarity)

    def found(self) -> Iterator[Pair]:
        """Yield the near pairs, of rows that are not the same; the most similar first."""
        ones, others, similar = self._found
        order = np.lexsort((np.asarray(others), np.asarray(ones), -np.asarray(similar)))
        for at in order.tolist():
            yield Pair(ones[at], others[at], similar[at])

    def pairs(self) -> list[Pair]:
        """Return the near pairs."""
        return list(self.found())

    def links(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """Return the rows of the near pairs, the earlier and the later ones."""
        ones, others, _ = self._found
        return np.array(ones, dtype=np.uint32), np.array(others, dtype=np.uint32)


def repeated(codes: Codes) -> list[npt.NDArray[np.int64]]:
    """Return the groups of rows that have one code, each in order; code 0 is none."""
    if not len(codes):
        return []
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ends = np.r_[starts[1:], len(codes)]
    several = (ends - starts > 1) & (ordered[starts] != 0)
    return [
        order[start:end].copy()
        for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True)
    ]

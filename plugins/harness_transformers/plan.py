"""Which requests are answered together, and behind which shared prefix. Touches nothing.

A plan depends on the set of prompts alone, not on the order in which they came, so that the same
requests make the same batches: in bfloat16 the company of a row can tip a near tie.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness_transformers.encoding import common_prefix_length

_WORTH = 48
"""Tokens a row that a closer prefix must save before a group is split off for it."""
_FEW = 8
"""A group of fewer rows than this is not worth a batch of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A prompt to be answered: its ids, the most tokens to draw, and what tells it from others."""

    index: int
    ids: tuple[int, ...]
    new_tokens: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Asks answered together; the first `prefix` ids are the same in all of them."""

    asks: tuple[Ask, ...]
    prefix: int


def plan(asks: Sequence[Ask], *, rows: int, tokens: int, shares_prefix: bool) -> list[Batch]:
    """Return batches of at most `rows` rows and about `tokens` own positions.

    Within a group rows are sorted by length (little padding) and cut into equal parts.
    """
    ordered = sorted(asks, key=lambda ask: (ask.ids, ask.digest))
    groups = _groups(ordered) if shares_prefix else [ordered]
    batches = []
    for group in groups:
        prefix = _shared(group) if shares_prefix and len(group) > 1 else 0
        by_length = sorted(group, key=lambda ask: (len(ask.ids), ask.digest, ask.ids))
        widest = max(len(ask.ids) - prefix + ask.new_tokens for ask in group)
        parts = math.ceil(len(group) / max(1, min(rows, tokens // widest)))
        size = math.ceil(len(group) / parts)
        batches += [
            Batch(asks=tuple(by_length[i : i + size]), prefix=prefix)
            for i in range(0, len(by_length), size)
        ]
    return batches


def _groups(ordered: list[Ask]) -> list[list[Ask]]:
    """Split sorted asks where a part of them shares much more than the whole does."""
    if len(ordered) < 2 * _FEW:
        return [ordered] if ordered else []
    whole = _shared(ordered)
    pieces: list[list[Ask]] = [[ordered[0]]]
    for before, after in itertools.pairwise(ordered):
        if common_prefix_length(before.ids, after.ids) < whole + _WORTH:
            pieces.append([])
        pieces[-1].append(after)
    split = [piece for piece in pieces if len(piece) >= _FEW]
    if not split or len(pieces) == 1:
        return [ordered]
    rest = [ask for piece in pieces if len(piece) < _FEW for ask in piece]
    found = [group for piece in split for group in _groups(piece)]
    return [*found, rest] if rest else found


def _shared(ordered: list[Ask]) -> int:
    """Length of the prefix of all: sorted, the first and the last differ soonest.

    At least the last token stays a row's own, since its logits are what is asked for.
    """
    shortest = min(len(ask.ids) for ask in ordered)
    return min(common_prefix_length(ordered[0].ids, ordered[-1].ids), shortest - 1)

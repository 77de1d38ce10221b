"""Which requests are answered together, and behind which shared prefix. Touches nothing.

A plan depends on the set of prompts alone, not on the order in which they came, so that the same
requests make the same batches: in bfloat16 the company of a row can tip a near tie.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness import Request
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


def kind_of(request: Request) -> str:
    """Requests of one kind may share a batch: all but the seed, which each row has for itself."""
    decoding = request.decoding
    return json.dumps(
        [
            decoding.temperature,
            decoding.top_p,
            decoding.stop,
            request.schema,
            has_images(request),
        ],
        sort_keys=True,
    )


def has_images(request: Request) -> bool:
    """Tell whether any turn shows an image."""
    return any(m.images for m in request.messages)


def digest_of(ids: Sequence[int], request: Request) -> str:
    """Return what tells rows of equal length apart, the same way in every run."""
    plain: list[Any] = [list(ids), request.decoding.seed, request.decoding.max_tokens]
    images = [image for m in request.messages for image in m.images]
    text = json.dumps([*plain, images] if images else plain)  # images alike are ids alike
    return hashlib.sha256(text.encode()).hexdigest()


def room_tokens(config: Any, *, dtype: str, memory_gb: float) -> int:
    """Return how many positions of all rows together fit into the memory of a batch."""
    config = config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = 4 if dtype == "float32" else 2
    kept = 2 * config.num_hidden_layers * heads * dim * width
    # While a prompt is read, each position also carries a dozen vectors through a layer.
    passing = 12 * max(config.hidden_size, config.intermediate_size) * width
    return max(1, int(memory_gb * 1e9 / (kept + passing)))


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

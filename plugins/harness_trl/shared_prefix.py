"""What the rows of a batch begin with alike is computed once. Knows nothing of losses.

The rows of a task carry the same instructions before each question. Attention looks back alone, so
what a model makes of a common beginning is the same in every row: its keys and values are computed
for one row and read by all, and their gradients are added up on the way back. The numbers are those
of the long way, up to the order of additions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from harness import PreparedRow
from harness_trl.recipe import Recipe

FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Architectures for which the tests find the same losses and gradients both ways."""
LEAST = 8
"""Tokens from which a second pass through the model is worth its calls."""


def can_share(model: Any, recipe: Recipe) -> bool:
    """Tell whether a beginning may be computed once: full attention in every layer, nothing drawn
    by chance (each row has its own dropout), layers kept and not computed twice.
    """
    from transformers import DynamicCache

    config = model.config
    if getattr(config, "model_type", "") not in FAMILIES or recipe.gradient_checkpointing:
        return False
    if recipe.dropout or getattr(config, "attention_dropout", 0.0):
        return False
    layers = DynamicCache(config=config).layers
    return all(type(layer).__name__ == "DynamicLayer" for layer in layers)


def shared_length(rows: Sequence[PreparedRow]) -> int:
    """Return how many tokens all rows begin with alike, before any that is learnt; 0 where too few
    to be worth it. The last of them predicts nothing that is learnt either.
    """
    if len(rows) < 2 or any(row.pixels for row in rows):
        return 0
    alike = sum(
        1
        for _ in takewhile(
            lambda ids: len(set(ids)) == 1, zip(*(r.input_ids for r in rows), strict=False)
        )
    )
    first = min(_first_learnt(row) for row in rows)
    length = min(alike, first - 1)
    return length if length >= LEAST else 0


def keys_of(model: Any, ids: Any, *, rows: int) -> Any:
    """Return the cache of a beginning as if `rows` rows had it, its gradients kept.

    Shapes: ids (1, tokens).
    """
    cache = model(input_ids=ids, use_cache=True).past_key_values
    for layer in cache.layers:
        layer.keys = layer.keys.expand(rows, -1, -1, -1)
        layer.values = layer.values.expand(rows, -1, -1, -1)
    return cache


def _first_learnt(row: PreparedRow) -> int:
    return next((n for n, label in enumerate(row.labels) if label >= 0), len(row.labels))

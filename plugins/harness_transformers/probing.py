"""Greedy replies with what the model thought of each token, for parity with a server.

Knows nothing of requests or servers: ids in, steps in the shape of `Reply.logprobs` out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set as AbstractSet
from typing import Any

from harness_transformers.sessions import Session


def greedy_steps(
    session: Session,
    *,
    steps: int,
    top: int,
    stops: AbstractSet[int],
    decode: Callable[[Sequence[int]], str],
) -> tuple[list[dict[str, Any]], bool]:
    """Return up to `steps` greedy tokens of the session's one row, each with its log probability
    and the `top` nearest, and whether the reply ended. The token that ends it is left out.
    """
    found: list[dict[str, Any]] = []
    logits = session.start()
    for _ in range(steps):
        chances = logits[0].float().log_softmax(-1)
        values, ids = chances.topk(top)
        token = int(ids[0])
        if token in stops:
            return found, True
        nearest = [[decode([int(i)]), float(v)] for v, i in zip(values, ids, strict=True)]
        found.append({"token": decode([token]), "logprob": float(values[0]), "top": nearest})
        logits = session.step([token])
    return found, False

"""Greedy replies with what the model thought of each token, for parity with a server.

Knows nothing of requests or servers: ids in, steps in the shape of `Reply.logprobs` out. The step
that ends a reply is told apart, with its id and by how much the end was preferred to going on.
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
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return up to `steps` greedy tokens of the session's one row, each with its log probability
    and the `top` nearest; and the token that ended the reply, None where none did.

    Of that one `id` is told too, and `margin`: its log probability less that of the best token
    which ends nothing, in nats.
    """
    found: list[dict[str, Any]] = []
    logits = session.start()
    for _ in range(steps):
        chances = logits[0].float().log_softmax(-1)
        values, ids = chances.topk(top)
        token = int(ids[0])
        nearest = [[decode([int(i)]), float(v)] for v, i in zip(values, ids, strict=True)]
        step = {"token": decode([token]), "logprob": float(values[0]), "top": nearest}
        if token in stops:
            chances[sorted(s for s in stops if s < chances.numel())] = float("-inf")
            return found, {**step, "id": token, "margin": float(values[0] - chances.max())}
        found.append(step)
        logits = session.step([token])
    return found, None

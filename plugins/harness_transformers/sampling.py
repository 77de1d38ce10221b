"""Logits to the next token, greedy or drawn. Knows nothing of models or text.

A drawn row has a random generator of its own, seeded from the request, so that its company in a
batch does not change its luck.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from harness import Decoding


def random_source(decoding: Decoding, digest: str) -> Any:
    """Return a generator seeded by the decoding's seed and the request, or at random.

    `None` for greedy decoding, which draws nothing.
    """
    import torch

    if decoding.temperature <= 0:
        return None

    source = torch.Generator(device="cpu")
    if decoding.seed is None:
        source.seed()
    else:
        whole = hashlib.sha256(f"{decoding.seed} {digest}".encode()).digest()
        source.manual_seed(int.from_bytes(whole[:8], "big") >> 1)
    return source


def choose(logits: Any, decoding: Decoding, sources: Sequence[Any]) -> list[int]:
    """Return one token a row. Shapes: logits `[rows, vocabulary]` in float32."""
    import torch

    if decoding.temperature <= 0:
        # numpy's search is ten times as fast as torch's on a CPU.
        ids = logits.numpy().argmax(-1) if logits.device.type == "cpu" else logits.argmax(-1)
        return [int(i) for i in ids.tolist()]
    shares, order = torch.softmax(logits / decoding.temperature, dim=-1).sort(-1, descending=True)
    heap = shares.double().cumsum(-1)
    if decoding.top_p is not None and decoding.top_p < 1:
        # The nucleus: the fewest tokens that hold `top_p`, the first always among them.
        size = (heap < decoding.top_p).sum(-1, keepdim=True).clamp(max=heap.shape[-1] - 1)
        total = heap.gather(-1, size)
    else:
        total = heap[:, -1:]
    luck = [torch.rand(1, generator=source, dtype=torch.float64) for source in sources]
    drawn = torch.stack(luck).to(heap.device) * total
    place = torch.searchsorted(heap, drawn, right=True).clamp(max=heap.shape[-1] - 1)
    return [int(i) for i in order.gather(-1, place)[:, 0].tolist()]

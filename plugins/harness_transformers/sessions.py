"""One batch in progress: its first logits, its next ones, and dropping rows that are done.

Two roads to the same logits: `SharedSession` for plain decoders, `GenericSession` (transformers'
own cache and masks) for all others. Knows nothing of sampling, requests or text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from harness_transformers import attention

_READ_TOKENS = 2048
"""Prompt tokens read at once on a CPU: more would fall out of its cache between two operations."""


class Session(Protocol):
    """A batch that is being answered. Logits are `[rows, vocabulary]`."""

    def start(self) -> Any:
        """Read the prompts and return the first logits."""

    def step(self, tokens: Sequence[int]) -> Any:
        """Append one token to each row and return the next logits."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the rows at these indices only."""


class SharedSession:
    """Rows behind a prefix that was read once, with attention of our own."""

    def __init__(
        self, model: Any, suffixes: Sequence[Sequence[int]], *, room: int, pad_id: int, prefix: Any
    ) -> None:
        self._model = model
        self._ids, self._pad = _left_padded(suffixes, pad_id)
        self._memory = attention.SharedMemory(
            layers=model.config.get_text_config().num_hidden_layers,
            rows=len(self._ids),
            capacity=len(self._ids[0]) + room,
            prefix=prefix,
        )

    def start(self) -> Any:
        """Read the suffixes, a few rows at a time, and return the first logits."""
        import torch

        width = len(self._ids[0])
        at_once = _READ_TOKENS if self._model.device.type == "cpu" else 8 * _READ_TOKENS
        step = max(1, at_once // width)
        logits = []
        for first in range(0, len(self._ids), step):
            rows = slice(first, first + step)
            pad = self._pad[rows]
            unread = min(pad)  # padding that all of these rows begin with is never computed
            self._memory.aim(rows, length=unread)
            ids = [row[unread:] for row in self._ids[rows]]
            logits.append(self._forward(ids, pad=pad))
        self._memory.aim(slice(None), length=width)
        return torch.cat(logits)

    def step(self, tokens: Sequence[int]) -> Any:
        """Append one token to each row and return the next logits."""
        return self._forward([[token] for token in tokens], pad=self._pad)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the rows at these indices only."""
        import torch

        self._pad = [self._pad[row] for row in rows]
        self._memory.keep(torch.tensor(rows, device=self._model.device))

    def _forward(self, ids: list[list[int]], *, pad: list[int]) -> Any:
        import torch

        tensor = torch.tensor(ids, device=self._model.device)
        return attention.forward(self._model, self._memory, ids=tensor, pad=pad)


class GenericSession:
    """Rows through the model's own attention and transformers' cache; no prefix is shared."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], *, pad_id: int) -> None:
        import torch
        from transformers import DynamicCache

        self._model = model
        ids, pad = _left_padded(prompts, pad_id)
        self._ids = torch.tensor(ids, device=model.device)
        columns = torch.arange(self._ids.shape[1], device=model.device)
        self._mask = (columns[None] >= torch.tensor(pad, device=model.device)[:, None]).long()
        self._cache = DynamicCache(config=model.config)

    def start(self) -> Any:
        """Read the prompts and return the first logits."""
        return self._forward(self._ids)

    def step(self, tokens: Sequence[int]) -> Any:
        """Append one token to each row and return the next logits."""
        import torch

        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        return self._forward(torch.tensor(tokens, device=self._model.device)[:, None])

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the rows at these indices only."""
        import torch

        chosen = torch.tensor(rows, device=self._model.device)
        self._mask = self._mask[chosen]
        self._cache.batch_select_indices(chosen)

    def _forward(self, ids: Any) -> Any:
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1]


def _left_padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[list[list[int]], list[int]]:
    width = max(len(row) for row in rows)
    pad = [width - len(row) for row in rows]
    return [[pad_id] * n + list(row) for n, row in zip(pad, rows, strict=True)], pad

"""One batch in progress: its first logits, its next ones, and dropping rows that are done.

Two roads to the same logits: `SharedSession` for plain decoders, `GenericSession` (transformers'
own cache and masks) for all others. Knows nothing of sampling, requests or text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from harness_transformers import attention, vision

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

    def _positions(self, new: int) -> Any:
        return (self._mask.cumsum(-1) - 1).clamp(min=0)[:, -new:]

    def _forward(self, ids: Any, **pixels: Any) -> Any:
        out = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=self._positions(ids.shape[1]),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            **pixels,
        )
        return out.logits[:, -1]


class PicturedSession(GenericSession):
    """Rows with images: what those became is read with the prompts, and is in the cache then."""

    def __init__(self, model: Any, seen: Sequence[vision.Seen], *, pad_id: int) -> None:
        super().__init__(model, [row.ids for row in seen], pad_id=pad_id)
        width = max(len(row.ids) for row in seen)
        starts = [width - len(row.ids) for row in seen]
        self._pixels = vision.joined(seen, starts=starts, width=width, model=model)
        self._grid: Any = None
        self._ahead: Any = None

    def start(self) -> Any:
        """Read the prompts with their images and return the first logits."""
        pixels, self._pixels = self._pixels, {}
        self._grid, self._ahead = self._placed(pixels)
        logits = self._forward(self._ids, **pixels)
        self._grid = None
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the rows at these indices only."""
        super().keep(rows)
        if self._ahead is not None:
            self._ahead = self._ahead[list(rows)]

    def _positions(self, new: int) -> Any:
        if self._grid is not None:
            return self._grid
        plain = super()._positions(new)
        return plain if self._ahead is None else plain + self._ahead

    def _placed(self, pixels: dict[str, Any]) -> tuple[Any, Any]:
        """Positions of a model that gives a picture's tokens a row and a column (Qwen2-VL's plan),
        and the step from a row's count of tokens to its next position; None for all others.
        """
        place = getattr(self._model.model, "get_rope_index", None)
        if place is None or "image_grid_thw" not in pixels:
            return None, None
        told = {k: v for k, v in pixels.items() if k in ("image_grid_thw", "mm_token_type_ids")}
        grid, ahead = place(self._ids, attention_mask=self._mask, **told)
        return grid, ahead.view(-1, 1)


def _left_padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[list[list[int]], list[int]]:
    width = max(len(row) for row in rows)
    pad = [width - len(row) for row in rows]
    return [[pad_id] * n + list(row) for n, row in zip(pad, rows, strict=True)], pad

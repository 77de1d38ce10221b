"""Attention over a prefix that all rows of a batch share, and over each row's own tokens.

The prefix's keys and values are kept once, not once a row: for forty rows behind seven hundred
shared tokens, 16 MB are read for every new token instead of 650. Rows' own keys and values stand
in buffers that are written in place. Knows nothing of requests or text.

Right for decoders whose layers see the whole past in the ordinary way; `install` finds out.
"""

from __future__ import annotations

import threading
from typing import Any

NAME = "harness_shared_prefix"
_QUERY_BLOCK = 128
_TRIAL = 16
_LIKE = 0.99
_here = threading.local()


class NotPlainError(Exception):
    """The model attends in a way that `attend` does not compute."""


class SharedMemory:
    """Keys and values of a batch, behind an optional shared prefix.

    Quacks like a transformers cache as far as a decoder asks (`update`, `get_seq_length`).
    Shapes, for each layer: prefix `[heads, prefix, dim]`, rows `[rows, heads, capacity, dim]`.
    """

    def __init__(
        self, *, layers: int, rows: int, capacity: int, prefix: SharedMemory | None = None
    ) -> None:
        self.capacity = capacity
        self.length = 0
        self._rows = rows
        self._aim = slice(None)
        self.keys: list[Any] = [None] * layers
        self.values: list[Any] = [None] * layers
        self.prefix_length = 0 if prefix is None else prefix.length
        self.prefix_keys = [] if prefix is None else [k[0] for k in prefix.keys]
        self.prefix_values = [] if prefix is None else [v[0] for v in prefix.values]
        self.mask: Any = None

    def update(self, key: Any, value: Any, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Write a layer's new positions and return all of the rows' own ones."""
        _, heads, new, dim = key.shape
        if self.keys[layer] is None:  # zeros: what is masked must still be a number
            room = (self._rows, heads, self.capacity)
            self.keys[layer] = key.new_zeros(*room, dim)
            self.values[layer] = value.new_zeros(*room, value.shape[-1])
        end = self.length + new
        keys, values = self.keys[layer][self._aim], self.values[layer][self._aim]
        keys[:, :, self.length : end] = key
        values[:, :, self.length : end] = value
        return keys[:, :, :end], values[:, :, :end]

    def get_seq_length(self, *_: Any) -> int:
        """Return how many positions came before, the prefix included."""
        return self.prefix_length + self.length

    def aim(self, rows: slice, *, length: int) -> None:
        """Let the next positions be those of some rows, after `length` of their own."""
        self._aim = rows
        self.length = length

    def keep(self, rows: Any) -> None:
        """Forget all rows but those at the indices `rows`."""
        self.keys = [k[rows] for k in self.keys]
        self.values = [v[rows] for v in self.values]


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,  # unused: the memory holds the mask, once for all layers
    *,
    scaling: float | None = None,
    **extra: Any,
) -> tuple[Any, None]:
    """Attend to prefix and own past, one softmax over both. Called by every attention layer."""
    for name in ("sliding_window", "softcap", "s_aux", "position_bias"):
        if extra.get(name) is not None:
            raise NotPlainError(f"attention with {name}")
    import torch

    memory: SharedMemory = _here.memory
    rows, heads, new, dim = query.shape
    shared: tuple[Any, Any] | None = None
    if memory.prefix_length:
        shared = memory.prefix_keys[module.layer_idx], memory.prefix_values[module.layer_idx]
    query = query * (dim**-0.5 if scaling is None else scaling)
    # Query heads of one key head stand side by side, so that keys are never repeated.
    grouped = query.view(rows, key.shape[1], heads // key.shape[1], new, dim)
    if new == 1:
        out = _one_step(grouped[:, :, :, 0], key, value, mask=memory.mask, shared=shared)
        return out.reshape(rows, 1, heads, -1), None
    out = torch.empty(
        (*grouped.shape[:-1], value.shape[-1]), dtype=query.dtype, device=query.device
    )
    # Row by row and in blocks, a CPU keeps the scores in its cache and skips the future: three
    # times as fast here as the library's kernel. A GPU would rather have it in one piece.
    width, block = (1, _QUERY_BLOCK) if query.device.type == "cpu" else (rows, new)
    for row in range(0, rows, width):
        chosen = slice(row, row + width)
        for start in range(0, new, block):
            stop = min(start + block, new)
            seen = key.shape[2] - new + stop
            out[chosen, :, :, start:stop] = _block(
                grouped[chosen, :, :, start:stop],
                key[chosen, :, :seen],
                value[chosen, :, :seen],
                mask=memory.mask[chosen, :, start:stop, :seen],
                shared=shared,
            )
    return out.permute(0, 3, 1, 2, 4).reshape(rows, new, heads, -1), None


def _one_step(
    query: Any, key: Any, value: Any, *, mask: Any, shared: tuple[Any, Any] | None
) -> Any:
    """One new position a row.

    Shapes: query `[rows, heads, group, dim]`, mask `[rows, 1, 1, own]`.
    """
    import torch

    rows, heads, group, dim = query.shape
    # keys @ query, not query @ keys: the tall operand first is five times as fast on a CPU.
    near = torch.matmul(key, query.transpose(2, 3)).transpose(2, 3) + mask
    if shared is None:
        return torch.matmul(torch.softmax(near, dim=-1), value)
    prefix = shared[0].shape[1]
    flat = query.transpose(0, 1).reshape(heads, rows * group, dim)
    far = torch.matmul(flat, shared[0].transpose(1, 2)).view(heads, rows, group, prefix)
    weights = torch.softmax(torch.cat((far.transpose(0, 1), near), dim=-1), dim=-1)
    flat = weights[..., :prefix].transpose(0, 1).reshape(heads, rows * group, prefix)
    out = torch.matmul(flat, shared[1]).view(heads, rows, group, -1).transpose(0, 1)
    return out + torch.matmul(weights[..., prefix:], value)


def _block(query: Any, key: Any, value: Any, *, mask: Any, shared: tuple[Any, Any] | None) -> Any:
    """A block of positions.

    Shapes: query `[rows, heads, group, new, dim]`, mask `[rows, 1, new, own]`.
    """
    import torch

    rows, heads, group, new, dim = query.shape
    flat = query.reshape(rows, heads, group * new, dim)
    near = torch.matmul(flat, key.transpose(2, 3)).view(rows, heads, group, new, -1)
    near += mask.unsqueeze(2)
    if shared is None:
        weights = torch.softmax(near, dim=-1).view(rows, heads, group * new, -1)
        return torch.matmul(weights, value).view(rows, heads, group, new, -1)
    prefix = shared[0].shape[1]
    far = torch.matmul(flat, shared[0].transpose(1, 2)).view(rows, heads, group, new, prefix)
    weights = torch.softmax(torch.cat((far, near), dim=-1), dim=-1)
    weights = weights.view(rows, heads, group * new, -1)
    out = torch.matmul(weights[..., :prefix], shared[1])
    out += torch.matmul(weights[..., prefix:], value)
    return out.view(rows, heads, group, new, -1)


def install(model: Any) -> bool:
    """Make `model` attend through `attend` where that is right for it, and tell whether it is.

    Told by its configuration (no sliding or chunked layers) and by a trial of a few tokens whose
    logits must point where those of the model's own attention do (cosine 0.99: in bfloat16 the
    library's own two kernels agree to 0.9996, a wrong mask or scale is far off).
    """
    import torch
    from transformers import AttentionInterface

    if getattr(model.config, "vision_config", None) is not None:
        return False  # its tower would attend so too, which is wrong for pictures
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ("full_attention",))
    if kinds != {"full_attention"} or not getattr(model, "_supports_attention_backend", False):
        return False
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return False
    AttentionInterface.register(NAME, attend)
    before = config._attn_implementation
    ids = torch.arange(_TRIAL, device=model.device).view(1, _TRIAL)
    ids = (ids * 37 + config.vocab_size // 2) % config.vocab_size
    half = _TRIAL // 2
    with torch.inference_mode():
        expected = model(input_ids=ids, use_cache=False).logits[:, -1].float()
        model.set_attn_implementation(NAME)
        try:
            prefix = read_prefix(model, ids[0, :half].tolist())
            memory = SharedMemory(
                layers=config.num_hidden_layers, rows=1, capacity=_TRIAL, prefix=prefix
            )
            got = forward(model, memory, ids=ids[:, half:], pad=[0]).float()
        except (NotPlainError, AttributeError, TypeError, KeyError):
            got = expected * float("nan")
    likeness = torch.nn.functional.cosine_similarity(got - got.mean(), expected - expected.mean())
    is_plain = bool(likeness.item() > _LIKE)
    if not is_plain:
        model.set_attn_implementation(before)
    return is_plain


def read_prefix(model: Any, ids: list[int]) -> SharedMemory:
    """Return the memory of one row of ids, to stand before the rows of a batch."""
    import torch

    layers = model.config.get_text_config().num_hidden_layers
    memory = SharedMemory(layers=layers, rows=1, capacity=len(ids))
    forward(model, memory, ids=torch.tensor([ids], device=model.device), pad=[0])
    return memory


def forward(model: Any, memory: SharedMemory, *, ids: Any, pad: list[int]) -> Any:
    """Return the logits of the last position of each row that the memory is aimed at.

    `pad` counts the padding that each of those rows' own tokens begin with.
    """
    import torch

    new = ids.shape[1]
    own = memory.length + new
    padding = torch.tensor(pad, device=ids.device)
    columns = torch.arange(own, device=ids.device)
    lowest = torch.finfo(model.dtype).min  # not -inf: a row of padding alone must not become NaN
    hidden = (columns[None, :] < padding[:, None])[:, None, None, :]
    if new > 1:
        hidden = hidden | (columns[None, :] > columns[memory.length :, None])[None, None]
    memory.mask = torch.zeros(hidden.shape, dtype=model.dtype, device=ids.device)
    memory.mask.masked_fill_(hidden, lowest)
    positions = memory.prefix_length + columns[None, memory.length :] - padding[:, None]
    _here.memory = memory
    try:
        out = model(
            input_ids=ids,
            position_ids=positions.clamp_(min=0),
            past_key_values=memory,
            use_cache=True,
            logits_to_keep=1,
        )
    finally:
        del _here.memory
    memory.length = own
    return out.logits[:, -1]

"""The heads of safetensors files: what a weight file says it holds. Reads no weights.

Source: github.com/huggingface/safetensors, section Format: 8 bytes of length, little-endian; that
many bytes of JSON; the numbers.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import UsageError

LONGEST = 100_000_000
"""Bytes of a head: the format's own limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorHead:
    """One tensor, as a file tells of it. `dtype` is the format's own name, as `BF16`."""

    dtype: str
    shape: tuple[int, ...]


def tensor_heads(path: Path) -> Mapping[str, TensorHead]:
    """Return what a safetensors file holds, by name. Raises UsageError where it is none."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            plain = json.loads(file.read(min(length, LONGEST)))
        return {
            name: TensorHead(dtype=told["dtype"], shape=tuple(told["shape"]))
            for name, told in plain.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as exc:
        raise UsageError(f"{path} is not a whole safetensors file: {exc}. Copy it again.") from exc

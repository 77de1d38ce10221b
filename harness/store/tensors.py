"""The heads of weight files: whether they are whole, and what they say they hold. Reads no weights.

A copy that broke off, or a download that was a page of HTML, is found here in a millisecond, where
a library would say so after minutes or not at all.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

from harness.errors import StoreError

LONGEST_HEAD = 100_000_000
"""Bytes of a safetensors head: the format's own limit."""


def safetensors_shapes(path: Path) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of each tensor by its name. Raises StoreError where the file is not whole.

    Source: the safetensors format: 8 bytes of length, little-endian; that many bytes of JSON; the
    numbers, without a gap.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else None
        if length is None or length > min(LONGEST_HEAD, size - 8):
            raise _broken(path, "its head is cut short, or it is something else")
        try:
            head = json.loads(file.read(length))
        except (ValueError, RecursionError) as exc:
            raise _broken(path, "its head is not JSON") from exc
    shapes, end = {}, 0
    try:
        for name, told in head.items():
            if name == "__metadata__":
                continue
            first_byte, last_byte = told["data_offsets"]
            if not 0 <= first_byte <= last_byte:
                raise ValueError(name)
            shapes[name] = tuple(int(n) for n in told["shape"])
            end = max(end, last_byte)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise _broken(path, "its head does not say where its tensors are") from exc
    if 8 + length + end != size:
        raise _broken(path, f"it holds {size} of {8 + length + end} bytes")
    return shapes


def check_weights(folder: Path) -> int:
    """Read the head of every weight file below `folder`, and return how many there are.

    Raises StoreError for one that is not whole, or a part that an index names and is not there.
    """
    files = sorted(folder.rglob("*.safetensors"))
    for path in files:
        safetensors_shapes(path)
    for index in sorted(folder.rglob("*.safetensors.index.json")):
        try:
            parts = set(json.loads(index.read_bytes())["weight_map"].values())
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise StoreError(f"{index} is no index of weights: {exc}") from exc
        lost = sorted(str(p) for p in parts if not (index.parent / str(p)).is_file())
        if lost:
            raise StoreError(f"{index} names {', '.join(lost[:3])}, which is not there")
    models = sorted(folder.rglob("*.gguf"))
    for path in models:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise StoreError(f"{path} is not a GGUF file: copy it again")
    return len(files) + len(models)


def _broken(path: Path, why: str) -> StoreError:
    return StoreError(f"{path} is not a whole safetensors file: {why}. Copy it again.")

"""What a batch failed of, in words that say what to change. Knows nothing of requests or models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness import BackendError


def explained(exc: Exception, *, name: str, rows: int, options: Mapping[str, Any]) -> BackendError:
    """Return the error of a batch of `rows` rows of `local:name`: out of memory, or anything."""
    import torch

    text = str(exc)
    short = isinstance(exc, MemoryError | torch.OutOfMemoryError)
    if short or "allocate memory" in text or "out of memory" in text.lower():
        return BackendError(
            f"local:{name} ran out of memory with {rows} rows in a batch. Lower its "
            f"options batch_rows (now {options['batch_rows']}) or memory_gb (now "
            f"{options['memory_gb']}), or shorten the prompts."
        )
    error = BackendError(f"local:{name} failed on a batch of {rows} rows: {text}")
    error.__cause__ = exc
    return error

"""What goes wrong in a training, in words that say what to do. Knows nothing of models."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

from harness import BackendError
from harness_trl.recipe import Recipe


@contextlib.contextmanager
def explained(recipe: Recipe) -> Iterator[None]:
    """Turn what torch raises in a training into a BackendError that says what to do."""
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as exc:
        text = str(exc)
        short = isinstance(exc, MemoryError | torch.OutOfMemoryError)
        if short or "allocate memory" in text or "out of memory" in text.lower():
            raise BackendError(
                f"the memory does not hold batch_size = {recipe.batch_size} rows of up to "
                f"max_length = {recipe.max_length} tokens: nothing was written. In the recipe: "
                f"{'; or '.join(memory_hints(recipe))}."
            ) from exc
        raise BackendError(f"the training failed, nothing was written: {text}") from exc


def memory_hints(recipe: Recipe) -> list[str]:
    """Return what to change in `recipe` to need less, the cheapest first."""
    hints = []
    if recipe.batch_size > 1:
        half = recipe.batch_size // 2
        more = math.ceil(recipe.batch_size * recipe.gradient_accumulation / half)
        hints.append(
            f"batch_size = {half} with gradient_accumulation = {more} (the same rows a step)"
        )
    if not recipe.gradient_checkpointing:
        hints.append("gradient_checkpointing = true (a third slower, layers are computed twice)")
    hints.append("a smaller max_length, with shorter prompts")
    if recipe.method == "full":
        hints.append('method = "lora", which trains a hundredth of the numbers')
    elif recipe.method != "qlora":
        hints.append('method = "qlora", which holds the frozen weights in 4 bits')
    return hints


def check_loss(loss: float, *, step: int, steps: int, learning_rate: float) -> None:
    """Raise BackendError where a loss is no number."""
    if not math.isfinite(loss):
        raise BackendError(
            f"the loss is {loss} at step {step} of {steps}: nothing was written. Lower "
            f"learning_rate (now {learning_rate}) in the recipe."
        )

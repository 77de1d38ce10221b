"""Which model a job trains: its folder, size, device, tokenizer and template. Loads no weights."""

from __future__ import annotations

import json
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_transformers.artifacts import Parts, parts_of
from harness_transformers.encoding import use_kwargs, use_template
from harness_transformers.heads import TensorHead, tensor_heads
from harness_transformers.models import choose_device, choose_dtype, find_model, load_tokenizer

from harness import RecipeError, TuneJob

if TYPE_CHECKING:
    from harness_trl.recipe import Recipe


def model_folder(job: TuneJob) -> Path:
    """Return the folder of the job's base. Raises UsageError where there is no such model."""
    return find_model(job.base, cache_dir=job.cache_dir)


def parts_of_job(job: TuneJob) -> Parts:
    """Return what the training goes on from: the base, or the artifact in `job.start`.

    Raises UsageError where that one was made for another base, holds a pickle, or is none.
    """
    return parts_of(model_folder(job), job.start, name=job.base)


def makes_whole_model(job: TuneJob, recipe: Recipe) -> bool:
    """Tell whether the artifact is a model (`merged/`) and no adapter.

    So it is too where an adapter is trained on a whole model that was tuned before: merged into
    it, for the base alone could not wear it.
    """
    starts_whole = job.start is not None and parts_of_job(job).adapter is None
    return recipe.method == "full" or starts_whole


def tokenizer_of(job: TuneJob) -> Any:
    """Return the tokenizer that the artifact will carry, its chat template decided.

    A base model without one gets the template of the task's `[backends]` table.
    Raises UsageError where the model has another one of its own.
    """
    parts = parts_of_job(job)
    tokenizer = load_tokenizer(parts.tokenizer, model=parts.model)
    use_kwargs(tokenizer, job.options.get("chat_template_kwargs"))
    asked = job.options.get("chat_template")
    if asked is not None:
        use_template(tokenizer, asked)
    return tokenizer


def device_of(recipe: Recipe) -> str:
    """Return `cpu` or `cuda`. Raises RecipeError where the recipe wants a GPU and there is none."""
    if recipe.device == "cuda" and choose_device() != "cuda":
        raise RecipeError(
            'device = "cuda", but torch sees no CUDA device here. Install a CUDA build of '
            'torch and check nvidia-smi, or set device = "cpu" (or leave it out).',
            keys=["device"],
        )
    return choose_device() if recipe.device == "auto" else recipe.device


def dtype_of(recipe: Recipe) -> str:
    """Return the dtype that is computed in. An adapter's own numbers are always float32.

    float16 is never chosen: it would need loss scaling.
    """
    chosen = choose_dtype(device_of(recipe)) if recipe.dtype == "auto" else recipe.dtype
    return "float32" if chosen == "float16" else chosen


@cache
def count_parameters(folder: Path) -> int:
    """Return how many numbers the weights of a model folder hold, by their headers alone."""
    return sum(prod(t.shape) for t in _tensors(folder).values())


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model folder's weights by name."""
    return {name: t.shape for name, t in _tensors(folder).items()}


def context_of(folder: Path) -> int | None:
    """Return how many tokens the model holds at once, None where its configuration is silent."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    found = config.get("text_config", config).get("max_position_embeddings")
    return found if isinstance(found, int) else None


def stored_dtype(folder: Path) -> str:
    """Return the torch name of the dtype that most of a model's weights are stored in."""
    names = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
    sizes: dict[str, int] = {}
    for tensor in _tensors(folder).values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + prod(tensor.shape)
    return names.get(max(sizes, key=sizes.__getitem__), "float32")


def _tensors(folder: Path) -> dict[str, TensorHead]:
    found: dict[str, TensorHead] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= tensor_heads(file)
    return found

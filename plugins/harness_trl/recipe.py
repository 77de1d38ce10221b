"""The recipe of a LoRA tune: every knob, its default and its limits. Knows nothing of models."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import ConfigDict, Field

from harness import TuneJob, UsageError

Targets = Literal["all-linear"] | Annotated[list[str], Field(min_length=1)]


class Recipe(pydantic.BaseModel):
    """What a recipe file may say. The defaults taught a 135M model on 200 rows within minutes.

    `alpha` over `rank` scales the adapter; `max_length` is in tokens, prompt and reply together;
    `dtype` `auto` is bfloat16 where the hardware computes in it; `seed` `None` takes the job's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(default=16, ge=1, le=512)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: Targets = "all-linear"
    epochs: int = Field(default=3, ge=1, le=1000)
    batch_size: int = Field(default=4, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, lt=1)
    warmup_steps: int = Field(default=5, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_length: int = Field(default=512, ge=8)
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    seed: int | None = Field(default=None, ge=0)


def read_recipe(job: TuneJob) -> Recipe:
    """Return the job's recipe with defaults filled in, `seed` included.

    Raises UsageError naming each key that is unknown or out of its limits.
    """
    try:
        recipe = Recipe.model_validate(dict(job.recipe))
    except pydantic.ValidationError as exc:
        problems = []
        for error in exc.errors():
            key = ".".join(str(part) for part in error["loc"])
            if error["type"] == "extra_forbidden":
                problems.append(f"unknown key {key!r}")
            else:
                problems.append(f"{key} = {error['input']!r}: {error['msg']}")
        known = ", ".join(Recipe.model_fields)
        raise UsageError(f"recipe: {'; '.join(problems)}. Known keys: {known}.") from exc
    return recipe if recipe.seed is not None else recipe.model_copy(update={"seed": job.seed})


def warmup_of(recipe: Recipe, *, steps: int) -> int:
    """Return the warm-up steps: as the recipe says, but at most a tenth of a short training."""
    return min(recipe.warmup_steps, steps // 10)

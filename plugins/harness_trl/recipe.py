"""What a recipe file may say: every key, its limits, and defaults that suit the model's size.

Knows of a model only how many parameters it has. A tuner's own recipe is a subclass of `Recipe`
with more keys and, in `sizes.toml`, a table of its own if its defaults differ.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, overload

import pydantic
from pydantic import ConfigDict, Field

from harness import RecipeError, TuneJob, UsageError
from harness_trl.base import context_of, count_parameters, model_folder

Targets = Literal["all-linear"] | Annotated[list[str], Field(min_length=1)]
LOW_RANK = ("rank", "alpha", "dropout", "targets")
"""Keys that say something of an adapter, and nothing of training all weights."""


class Recipe(pydantic.BaseModel):
    """What the recipe of every local tuner may say.

    A base model's chat template is no matter of a recipe: `[backends]` in task.toml has it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    sizes: ClassVar[str] = "sft"
    """The table of `sizes.toml` with this recipe's defaults by size."""

    method: Literal["lora", "dora", "qlora", "full"] = "lora"
    """`lora` (arXiv 2106.09685); `dora`, LoRA with learnt magnitudes (2402.09353); `qlora`,
    LoRA on a base held in 4 bits (2305.14314); `full`, all weights: a whole model is made."""
    rank: int = Field(default=16, ge=1, le=512)
    """Size of the adapter."""
    alpha: float = Field(default=32.0, gt=0)
    """Over `rank`, how much the adapter counts. Not set: twice the rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs left out at a time."""
    targets: Targets = "all-linear"
    """The layers that are adapted, by name."""
    epochs: int = Field(default=3, ge=1, le=1000)
    """How often every row is learnt."""
    batch_size: int = Field(default=4, ge=1)
    """Rows computed at a time."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """So many batches make one step, on one device or on several."""
    gradient_checkpointing: bool = False
    """Layers are computed twice instead of kept: a third slower, the same numbers, less memory."""
    learning_rate: float = Field(default=1e-3, gt=0, lt=1)
    """The highest one: after the warm-up a cosine leads to zero."""
    warmup_steps: int = Field(default=5, ge=0)
    """At most a tenth of the training."""
    weight_decay: float = Field(default=0.0, ge=0)
    """What each step takes off the weights."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """A longer gradient is cut to this length."""
    max_length: int = Field(default=512, ge=8)
    """Tokens of a row, prompt and reply together; at most what the model holds. Longer rows are
    refused and never cut."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """`auto` is bfloat16 where the hardware computes in it, else float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`cuda` is refused at once where there is none."""
    launch: Literal["ddp", "zero2", "zero3", "fsdp2"] = "ddp"
    """How several GPUs share the work (`--devices`)."""
    seed: int | None = Field(default=None, ge=0)
    """Not set: the command's."""

    @pydantic.model_validator(mode="after")
    def _no_rank_of_a_whole_model(self) -> Self:
        named = [key for key in LOW_RANK if key in self.model_fields_set]
        if self.method == "full" and named:
            raise ValueError(
                f"method = 'full' trains all weights: {', '.join(named)} would do nothing"
            )
        return self


RecipeT = TypeVar("RecipeT", bound=Recipe)


@overload
def read_recipe(job: TuneJob) -> Recipe: ...
@overload
def read_recipe(job: TuneJob, kind: type[RecipeT]) -> RecipeT: ...
def read_recipe(job: TuneJob, kind: type[Recipe] = Recipe) -> Recipe:
    """Return the job's recipe as `kind`, with what suits the model's size filled in.

    Raises RecipeError naming each key that is unknown or out of its limits, and for a
    `max_length` that the model's context does not hold; UsageError where there is no such model.
    """
    said = parse_recipe(job, kind)
    folder = model_folder(job)
    filled = chosen_by_size(kind, method=said.method, parameters=count_parameters(folder))
    filled = {key: value for key, value in filled.items() if key not in job.recipe}
    if said.method == "full":
        filled = {key: value for key, value in filled.items() if key not in LOW_RANK}
    elif "alpha" not in job.recipe:
        filled["alpha"] = 2.0 * filled.get("rank", said.rank)
    context = context_of(folder)
    if context is not None and said.max_length > context:
        if "max_length" in job.recipe:
            raise RecipeError(
                f"max_length = {said.max_length}, but {job.base} holds {context} tokens, "
                f"prompt and reply together. Set max_length = {context} or less.",
                keys=["max_length"],
            )
        filled["max_length"] = context
    if said.seed is None:
        filled["seed"] = job.seed
    return said.model_copy(update=filled)


def chosen_by_size(kind: type[Recipe], *, method: str, parameters: int) -> dict[str, Any]:
    """Return the defaults that `sizes.toml` has for a model of so many parameters."""
    rows = _sizes()[kind.sizes]
    row = next(row for row in rows if parameters <= row["up_to"] * 1e9)
    chosen = {k: v for k, v in row.items() if k not in ("up_to", "full_learning_rate")}
    if kind.sizes == Recipe.sizes:  # a default of the subclass's own stands
        own = {k for k in chosen if kind.model_fields[k].default != Recipe.model_fields[k].default}
        chosen = {k: v for k, v in chosen.items() if k not in own}
    if method == "full" and "learning_rate" in chosen:
        chosen["learning_rate"] = row["full_learning_rate"]
    return chosen


@cache
def _sizes() -> Mapping[str, Any]:
    return tomllib.loads(Path(__file__).with_name("sizes.toml").read_text(encoding="utf-8"))


def parse_recipe(job: TuneJob, kind: type[RecipeT]) -> RecipeT:
    """Return what the recipe says; no model is looked for."""
    try:
        return kind.model_validate(dict(job.recipe))
    except pydantic.ValidationError as exc:
        problems, keys, has_unknown = [], [], False
        order = {key: place for place, key in enumerate(job.recipe)}
        for error in sorted(
            exc.errors(), key=lambda e: order.get(str(next(iter(e["loc"]), "")), -1)
        ):
            key = ".".join(str(part) for part in error["loc"])
            keys.append(key.partition(".")[0])
            if key == "chat_template":
                problems.append(
                    "chat_template belongs in task.toml, where training and serving both read it: "
                    f'[backends."local:{job.base}"] chat_template = "plain", or a .jinja file of '
                    "the task's folder"
                )
            elif error["type"] == "extra_forbidden":
                has_unknown = True
                like = difflib.get_close_matches(key, kind.model_fields, n=1)
                problems.append(f"unknown key {key!r}{f' ({like[0]}?)' if like else ''}")
            elif not key:
                problems.append(error["msg"].removeprefix("Value error, "))
            else:
                problems.append(f"{key} = {error['input']!r}: {error['msg']}")
        known = f" Known keys: {', '.join(kind.model_fields)}." if has_unknown else ""
        raise RecipeError(f"{'; '.join(problems)}.{known}", keys=[k for k in keys if k]) from exc


def warmup_of(recipe: Recipe, *, steps: int) -> int:
    """Return the warm-up steps: as the recipe says, but at most a tenth of a short training."""
    return min(recipe.warmup_steps, steps // 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How the rows of one step are dealt out."""

    batch_size: int
    accumulation: int
    devices: int

    @property
    def rows(self) -> int:
        """The rows of one step: what a learning rate is chosen for."""
        return self.batch_size * self.accumulation * self.devices

    def steps(self, rows: int, *, epochs: int) -> int:
        """Return the steps of a whole training on so many rows."""
        return math.ceil(rows / self.rows) * epochs


def batching_of(recipe: Recipe, *, devices: int = 1) -> Batching:
    """Return how a step's rows are dealt to `devices`: as many rows a step as on one.

    Accumulation is given up first, then the batch is divided. Raises RecipeError where neither
    can be.
    """
    whole = recipe.batch_size * recipe.gradient_accumulation
    if recipe.gradient_accumulation % devices == 0:
        accumulation, size = recipe.gradient_accumulation // devices, recipe.batch_size
    elif whole % devices == 0 and recipe.batch_size % devices == 0:
        accumulation, size = recipe.gradient_accumulation, recipe.batch_size // devices
    elif whole % devices == 0:
        accumulation, size = 1, whole // devices
    else:
        raise RecipeError(
            f"the {whole} rows of a step (batch_size = {recipe.batch_size} x "
            f"gradient_accumulation = {recipe.gradient_accumulation}) cannot be dealt to {devices} "
            f"devices alike. Make their product a multiple of {devices}.",
            keys=["batch_size", "gradient_accumulation"],
        )
    return Batching(batch_size=size, accumulation=accumulation, devices=devices)


def refuse_devices(job: TuneJob, *, tuner: str) -> None:
    """Raise UsageError where a tuner of one process is asked for more."""
    if job.devices > 1:
        raise UsageError(
            f"{tuner} trains in one process, not in {job.devices}: leave out --devices, or train "
            "with trl-sft"
        )

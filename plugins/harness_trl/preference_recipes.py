"""The recipes of preference and reward tuners: their knobs above those of every adapter.

Knows nothing of trainers.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import pydantic
from pydantic import Field

from harness_trl.recipe import Recipe

DpoLoss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]
"""The names of TRL 1.16. Each is explained, with its paper, in TRL's documentation of DPO."""


class PreferenceRecipe(Recipe):
    """What all of them share. `max_steps` ends a training before its epochs do. All weights are
    never trained: the reference is the model without the adapter, or with the one before.
    """

    sizes: ClassVar[str] = "preferences"

    method: Literal["lora", "dora", "qlora"] = "lora"
    learning_rate: float = Field(default=1e-4, gt=0, lt=1)
    epochs: int = Field(default=1, ge=1, le=1000)
    max_steps: int | None = Field(default=None, ge=1)


class DpoRecipe(PreferenceRecipe):
    """`loss` is one or several of TRL's names, `loss_weights` what each counts; `beta` how dearly
    the reference is kept; `label_smoothing` the share of pairs that may be the wrong way round.
    `reference` is the adapter that it starts from, or the base without any.
    `precompute_ref_log_probs` asks the reference once for every pair, before the first step.
    """

    loss: DpoLoss | list[DpoLoss] = "sigmoid"
    loss_weights: list[float] | None = None
    beta: float = Field(default=0.1, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    reference: Literal["start", "base"] = "start"
    precompute_ref_log_probs: bool = False

    @property
    def losses(self) -> list[str]:
        """The names, as a list."""
        return [self.loss] if isinstance(self.loss, str) else list(self.loss)

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.losses:
            raise ValueError("loss: name at least one")
        if self.loss_weights is not None and len(self.loss_weights) != len(self.losses):
            raise ValueError(
                f"loss_weights: {len(self.loss_weights)} weights for {len(self.losses)} losses"
            )
        if "exo_pair" in self.losses and self.label_smoothing == 0:
            raise ValueError("loss exo_pair needs label_smoothing above 0; its paper says 0.001")
        return self


class KtoRecipe(PreferenceRecipe):
    """`batch_size` counts single replies, and is even: half wanted, half not. The weights tell what
    a wanted and an unwanted reply count.
    """

    batch_size: int = Field(default=4, ge=2, multiple_of=2)
    loss: Literal["kto", "apo_zero_unpaired"] = "kto"
    beta: float = Field(default=0.1, gt=0)
    desirable_weight: float = Field(default=1.0, ge=0)
    undesirable_weight: float = Field(default=1.0, ge=0)
    reference: Literal["start", "base"] = "start"


class OrpoRecipe(PreferenceRecipe):
    """`beta` is what the odds of the two replies count beside the likelihood of the chosen one."""

    beta: float = Field(default=0.1, gt=0)


class RewardRecipe(PreferenceRecipe):
    """`center` keeps the rewards' mean near zero, by so much."""

    center: float | None = Field(default=None, gt=0)


class GrpoRecipe(PreferenceRecipe):
    """`batch_size` prompts a step, each answered `group` times at `temperature` with at most
    `max_new_tokens`; `beta` keeps the model near where it started (0: not at all).
    """

    sizes: ClassVar[str] = "grpo"

    batch_size: int = Field(default=4, ge=1)
    group: int = Field(default=8, ge=2, le=512)
    temperature: float = Field(default=1.0, gt=0, le=5)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_new_tokens: int = Field(default=128, ge=1)
    beta: float = Field(default=0.0, ge=0)
    loss: Literal["grpo", "dapo", "dr_grpo", "bnpo"] = "dapo"
    reference: Literal["start", "base"] = "start"

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
    """What all of them share."""

    sizes: ClassVar[str] = "preferences"

    method: Literal["lora", "dora", "qlora"] = "lora"
    """`lora` (arXiv 2106.09685); `dora`, LoRA with learnt magnitudes (2402.09353); `qlora`,
    LoRA on a base held in 4 bits (2305.14314). `full` is not offered: the reference is the
    model without its adapter, or with the one before."""
    learning_rate: float = Field(default=1e-4, gt=0, lt=1)
    epochs: int = Field(default=1, ge=1, le=1000)
    max_steps: int | None = Field(default=None, ge=1)
    """Ends a training before its epochs do."""


class DpoRecipe(PreferenceRecipe):
    """What the recipe of `trl-dpo` may say."""

    loss: DpoLoss | list[DpoLoss] = "sigmoid"
    """One or several of TRL's names; their papers are in TRL's documentation of DPO. `sft`
    beside another one holds the chosen reply up (arXiv 2404.19733)."""
    loss_weights: list[float] | None = None
    """What each of several counts. Not set: all the same."""
    beta: float = Field(default=0.1, gt=0)
    """How dearly the reference is kept (arXiv 2305.18290); of `ipo` the mean margin of a token
    is 1 / (2 beta)."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """The share of pairs that may be the wrong way round."""
    ld_alpha: float | None = Field(default=None, ge=0, le=1)
    """What the tokens count by which one reply is longer than the other (LD-DPO, arXiv
    2409.06411): 0 nothing, 1 all. Not set: all."""
    reference: Literal["start", "base"] = "start"
    """The adapter that it starts from, or the base without any."""
    precompute_ref_log_probs: bool = False
    """Ask the reference once for every pair, before the first step."""

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
    """What the recipe of `trl-kto` may say."""

    batch_size: int = Field(default=4, ge=2, multiple_of=2)
    """Single replies computed at a time, half of them wanted: an even number."""
    loss: Literal["kto", "apo_zero_unpaired"] = "kto"
    """`kto` (arXiv 2402.01306), or `apo_zero_unpaired` (2408.06266)."""
    beta: float = Field(default=0.1, gt=0)
    """How dearly the reference is kept."""
    desirable_weight: float = Field(default=1.0, ge=0)
    """What a wanted reply counts."""
    undesirable_weight: float = Field(default=1.0, ge=0)
    """What an unwanted reply counts."""
    reference: Literal["start", "base"] = "start"
    """The adapter that it starts from, or the base without any."""


class OrpoRecipe(PreferenceRecipe):
    """What the recipe of `trl-orpo` may say."""

    beta: float = Field(default=0.1, gt=0)
    """What the odds of the two replies count beside the likelihood of the chosen one (arXiv
    2403.07691)."""


class RewardRecipe(PreferenceRecipe):
    """What the recipe of `trl-reward` may say."""

    center: float | None = Field(default=None, gt=0)
    """How strongly the rewards' mean is kept near zero (arXiv 2312.09244). Not set: not at all."""


class GrpoRecipe(PreferenceRecipe):
    """What the recipe of `trl-grpo` may say."""

    sizes: ClassVar[str] = "grpo"

    batch_size: int = Field(default=4, ge=1)
    """Prompts of a step."""
    group: int = Field(default=8, ge=2, le=512)
    """Replies drawn to each prompt (arXiv 2402.03300)."""
    temperature: float = Field(default=1.0, gt=0, le=5)
    """Of what is drawn."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Of what is drawn: the share of the likeliest tokens."""
    max_new_tokens: int = Field(default=128, ge=1)
    """Tokens of a reply at most."""
    beta: float = Field(default=0.0, ge=0)
    """How dearly the reference is kept; 0: not at all, and no reference is asked."""
    loss: Literal["grpo", "dapo", "dr_grpo", "bnpo"] = "dapo"
    """`grpo` (arXiv 2402.03300), `dapo` (2503.14476), `dr_grpo` (2503.20783), or `bnpo`,
    as TRL explains them."""
    reference: Literal["start", "base"] = "start"
    """The adapter that it starts from, or the base without any."""

"""The tuner `trl-orpo`: TRL's ORPOTrainer, which TRL calls experimental. Knows nothing of prompts.

Two things of TRL 1.16 are different here. Its rows are made by an older road than the other
trainers', from texts, with beginnings and ends added by rules of its own: ours are the prepared
ids. And its likelihood term also learns the prompt; here it learns what the labels say, the reply.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness import BackendError, PreparedRow, TuneJob
from harness_trl.base import tokenizer_of
from harness_trl.pairs import labelled_columns
from harness_trl.preference_recipes import OrpoRecipe
from harness_trl.preference_tuner import MARGINS, PreferenceTuner, settings_of
from harness_trl.trainable import trainable_model
from harness_trl.trl_runs import well_behaved


class TrlOrpo(PreferenceTuner):
    """Odds-ratio preference optimisation: likelihood and preference in one, with no reference."""

    name = "trl-orpo"
    recipe = OrpoRecipe
    head = "whole"
    numbers: ClassVar[Mapping[str, str]] = {
        **MARGINS,
        "logps/chosen": "chosen_logp",
        "nll_loss": "nll",
    }

    def make_trainer(
        self, job: TuneJob, *, recipe: OrpoRecipe, rows: Sequence[PreparedRow], folder: Path
    ) -> Any:
        """Return TRL's trainer over exactly `rows`, its files in `folder`."""
        from datasets import Dataset

        config_class, trainer_class = _experimental()

        class Prepared(Dataset):  # type: ignore[misc] # datasets is untyped
            def map(self, *args: Any, **kwargs: Any) -> Any:
                return self  # TRL would make texts of the rows, and tokenise those

        class Trainer(well_behaved(trainer_class)):  # type: ignore[misc] # trl is untyped
            def concatenated_forward(self, model: Any, batch: Any) -> tuple[Any, ...]:
                return _forward(self, model, batch)

        tokenizer = tokenizer_of(job)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        model = trainable_model(job, recipe)
        if getattr(model.config, "output_router_logits", False):
            raise BackendError("trl-orpo does not train mixtures of experts: use trl-dpo")
        return Trainer(
            model=model,
            args=config_class(
                **settings_of(job, recipe, rows=len(rows)),
                output_dir=str(folder),
                per_device_train_batch_size=recipe.batch_size,
                max_length=recipe.max_length,
                beta=recipe.beta,
                remove_unused_columns=False,
            ),
            train_dataset=Prepared.from_list(labelled_columns(rows)),
            processing_class=tokenizer,
        )


def _experimental() -> tuple[Any, Any]:
    with warnings.catch_warnings():
        # said in the docs of this tuner, and not at each start
        warnings.filterwarnings("ignore", message=".*trl.experimental")
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        return ORPOConfig, ORPOTrainer


def _forward(trainer: Any, model: Any, batch: Any) -> tuple[Any, ...]:
    """Return mean log-probabilities and logits of both sides, and the loss of the chosen reply."""
    import torch

    both = trainer.concatenated_inputs(
        batch, padding_value=trainer.padding_value, device=trainer.accelerator.device
    )
    labels, half = both["concatenated_labels"], len(batch["chosen_labels"])
    logits = model(
        both["concatenated_input_ids"],
        attention_mask=both["concatenated_attention_mask"],
        use_cache=False,
    ).logits
    logps = trainer.get_batch_logps(logits, labels, average_log_prob=True)
    likelihood = torch.nn.functional.cross_entropy(
        logits[:half, :-1].flatten(0, 1).float(), labels[:half, 1:].flatten()
    )
    return logps[:half], logps[half:], logits[:half, :-1], logits[half:, :-1], likelihood

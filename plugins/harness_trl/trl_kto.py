"""The tuner `trl-kto`: TRL's KTOTrainer on pairs taken apart. Knows nothing of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness import PreparedRow, TuneJob
from harness_trl.base import tokenizer_of
from harness_trl.pairs import unpaired_columns
from harness_trl.preference_recipes import KtoRecipe
from harness_trl.preference_tuner import PreferenceTuner, settings_of, with_reference
from harness_trl.trainable import trainable_model
from harness_trl.trl_runs import well_behaved


class TrlKto(PreferenceTuner):
    """Kahneman-Tversky optimisation: each reply is wanted or not, and need not be compared."""

    name = "trl-kto"
    recipe = KtoRecipe
    numbers: ClassVar[Mapping[str, str]] = {
        "rewards/margins": "margin",
        "rewards/chosen": "chosen",
        "kl": "kl",
    }
    rows_a_pair = 2

    def make_trainer(
        self, job: TuneJob, *, recipe: KtoRecipe, rows: Sequence[PreparedRow], folder: Path
    ) -> Any:
        """Return TRL's trainer over exactly `rows`, its files in `folder`."""
        from datasets import Dataset
        from trl import KTOConfig, KTOTrainer

        columns = unpaired_columns(rows, batch_size=recipe.batch_size, seed=recipe.seed or 0)
        trainer = well_behaved(KTOTrainer)(
            model=trainable_model(job, recipe),
            args=KTOConfig(
                **settings_of(job, recipe, rows=len(columns)),
                output_dir=str(folder),
                per_device_train_batch_size=recipe.batch_size,
                # the strangers' replies were chosen batch by batch: the order must stand
                train_sampling_strategy="sequential",
                max_length=None,
                loss_type=recipe.loss,
                beta=recipe.beta,
                desirable_weight=recipe.desirable_weight,
                undesirable_weight=recipe.undesirable_weight,
            ),
            train_dataset=Dataset.from_list(columns),
            processing_class=tokenizer_of(job),
        )
        return with_reference(trainer, job, recipe)

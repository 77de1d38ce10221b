"""The tuner `trl-dpo`: TRL's DPOTrainer, with its losses by name. Knows nothing of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import PreparedRow, TuneJob
from harness_trl.base import tokenizer_of
from harness_trl.pairs import pair_columns
from harness_trl.preference_recipes import DpoRecipe
from harness_trl.preference_tuner import (
    PreferenceTuner,
    keeps_start,
    settings_of,
    with_reference,
)
from harness_trl.trainable import trainable_model
from harness_trl.trl_runs import forget_reference, well_behaved


class TrlDpo(PreferenceTuner):
    """Direct preference optimisation. The reference is the adapter that it starts from, frozen, or
    the base.
    """

    name = "trl-dpo"
    recipe = DpoRecipe

    def make_trainer(
        self, job: TuneJob, *, recipe: DpoRecipe, rows: Sequence[PreparedRow], folder: Path
    ) -> Any:
        """Return TRL's trainer over exactly `rows`, its files in `folder`."""
        from datasets import Dataset
        from trl import DPOConfig, DPOTrainer

        class Trainer(well_behaved(DPOTrainer)):  # type: ignore[misc] # trl is untyped
            def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
                if not keeps_start(job, recipe):
                    forget_reference(self.model)
                return with_reference_scores(self, dataset, batch_size=batch_size)

        config = DPOConfig(
            **settings_of(job, recipe, rows=len(rows)),
            output_dir=str(folder),
            per_device_train_batch_size=recipe.batch_size,
            max_length=None,  # nothing is cut; rows that are too long were refused
            loss_type=recipe.losses,
            loss_weights=recipe.loss_weights,
            beta=recipe.beta,
            label_smoothing=recipe.label_smoothing,
            ld_alpha=recipe.ld_alpha,
            precompute_ref_log_probs=recipe.precompute_ref_log_probs,
        )
        trainer = Trainer(
            model=trainable_model(job, recipe),
            args=config,
            train_dataset=Dataset.from_list(pair_columns(rows)),
            processing_class=tokenizer_of(job),
        )
        return with_reference(trainer, job, recipe)


def with_reference_scores(trainer: Any, dataset: Any, *, batch_size: int) -> Any:
    """Return `dataset` with what the reference thinks of each reply.

    In place of TRL's own, which keeps it in a cache file between trainings and draws a bar.
    """
    found: dict[str, list[float]] = {"ref_chosen_logps": [], "ref_rejected_logps": []}
    for start in range(0, len(dataset), batch_size):
        some = [dataset[i] for i in range(start, min(start + batch_size, len(dataset)))]
        batch = {k: v.to(trainer.args.device) for k, v in trainer.data_collator(some).items()}
        for name, values in zip(
            found, trainer.compute_ref_log_probs(trainer.model, batch), strict=True
        ):
            found[name] += values.tolist()
    for name, values in found.items():
        dataset = dataset.add_column(name, values)
    return dataset

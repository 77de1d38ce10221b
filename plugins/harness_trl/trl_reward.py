"""The tuner `trl-reward`: TRL's RewardTrainer makes a scorer out of preferences.

Knows nothing of prompts. What it makes gives a number for a reply and no reply, so it is no
candidate: `local:` refuses it by name, and `harness_trl.scorer` loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness import PreparedRow, TrainProgress, TrainResult, TuneJob, UsageError
from harness_trl.base import tokenizer_of
from harness_trl.pairs import whole_columns
from harness_trl.preference_recipes import RewardRecipe
from harness_trl.preference_tuner import PreferenceTuner, settings_of
from harness_trl.recipe import read_recipe
from harness_trl.trainable import trainable_model
from harness_trl.trl_runs import well_behaved


class TrlReward(PreferenceTuner):
    """A reward model: an adapter and a head of one number, which rank replies as the pairs do.

    The head is trained whole, in float32 with all the rest. `job.check` is not called: there is no
    candidate to look at.
    """

    name = "trl-reward"
    makes = "scorer"
    recipe = RewardRecipe
    head = "none"
    shows = False
    numbers: ClassVar[Mapping[str, str]] = {
        "accuracy": "accuracy",
        "margin": "margin",
        "mean_reward": "reward",
    }

    def read(self, job: TuneJob) -> RewardRecipe:
        """Return the recipe, in float32: the head is trained whole."""
        return read_recipe(job, RewardRecipe).model_copy(update={"dtype": "float32"})

    def train(
        self,
        job: TuneJob,
        rows: Sequence[PreparedRow],
        *,
        report: Callable[[TrainProgress], None],
    ) -> TrainResult:
        """Train a scorer on exactly `rows`, and write it in the end.

        Raises UsageError where it would start from an artifact: that one's adapter makes replies.
        """
        if job.start is not None:
            raise UsageError(
                "trl-reward starts from the base alone: the adapter of an artifact makes replies, "
                "and a scorer needs another head. Leave out --start."
            )
        return super().train(job, rows, report=report)

    def make_trainer(
        self, job: TuneJob, *, recipe: RewardRecipe, rows: Sequence[PreparedRow], folder: Path
    ) -> Any:
        """Return TRL's trainer over exactly `rows`, its files in `folder`."""
        from datasets import Dataset
        from trl import RewardConfig, RewardTrainer

        return well_behaved(RewardTrainer)(
            model=trainable_model(job, recipe, task_type="SEQ_CLS"),
            args=RewardConfig(
                **settings_of(job, recipe, rows=len(rows)),
                output_dir=str(folder),
                per_device_train_batch_size=recipe.batch_size,
                max_length=None,
                center_rewards_coefficient=recipe.center,
            ),
            train_dataset=Dataset.from_list(whole_columns(rows)),
            processing_class=tokenizer_of(job),
        )

"""What the preference tuners have in common: prepare pairs, train, write. Knows no loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness import PreparedRow, TrainProgress, TrainResult, TuneEstimate, TuneJob
from harness_trl.base import device_of, parts_of_job
from harness_trl.estimating import Held, estimate, many, memory_of, middling, row_length
from harness_trl.pairs import check_pairs, other_side, prepare_pairs
from harness_trl.preference_recipes import PreferenceRecipe
from harness_trl.recipe import batching_of, read_recipe
from harness_trl.rows import supervised_tokens
from harness_trl.saving import save_artifact, scratch
from harness_trl.trl_runs import Training, forget_reference, pace_of_steps, shared_settings

MARGINS = {
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "rewards/chosen": "chosen",
    "rewards/rejected": "rejected",
}
"""TRL's log names for a preference: how far apart the two replies stand, in implied rewards."""


class PreferenceTuner(ABC):
    """A tuner that learns from pairs. Its artifact is one adapter over the base, as SFT's is."""

    needs = "preferences"
    name: ClassVar[str]
    recipe: ClassVar[type[PreferenceRecipe]]
    numbers: ClassVar[Mapping[str, str]] = MARGINS
    rows_a_pair: ClassVar[int] = 1
    head: ClassVar[Literal["tiles", "whole", "none"]] = "tiles"
    """How TRL computes the output layer for its loss, as in `Held`."""
    shows: ClassVar[bool] = True
    """Whether what it makes answers, so that dev can be looked at."""

    def read(self, job: TuneJob) -> Any:
        """Return the recipe of this tuner, whole."""
        return read_recipe(job, self.recipe)

    @abstractmethod
    def make_trainer(
        self, job: TuneJob, *, recipe: Any, rows: Sequence[PreparedRow], folder: Path
    ) -> Any:
        """Return TRL's trainer over exactly `rows`, its files in `folder`."""

    def prepare(self, job: TuneJob) -> Sequence[PreparedRow]:
        """Return the pairs as token ids and labels."""
        return prepare_pairs(job, recipe=self.read(job))

    def steps(self, job: TuneJob, rows: Sequence[PreparedRow]) -> int:
        """Return how many steps the training will have."""
        return steps_of(self.read(job), rows=len(rows) * self.rows_a_pair)

    def estimate(self, job: TuneJob, rows: Sequence[PreparedRow]) -> TuneEstimate:
        """Return steps, memory and time, the last from a few steps of the real model."""
        recipe = self.read(job)
        batching = batching_of(recipe)
        some = middling(rows, max(1, batching.rows // self.rows_a_pair))
        return estimate(
            job,
            recipe,
            steps=self.steps(job, rows),
            data=f"{many(len(rows), 'pair')}, {many(recipe.epochs, 'epoch')}, "
            f"{many(self.steps(job, rows), 'step')} of {many(len(some), 'pair')}",
            memory=memory_of(job, recipe, self.held(job, recipe, rows)),
            timed=lambda: pace_of_steps(
                job,
                recipe,
                some,
                build=lambda short, home: self.make_trainer(
                    job, recipe=short, rows=some, folder=home
                ),
            ),
            what=f"{len(some)} pairs of middling length",
        )

    def held(self, job: TuneJob, recipe: Any, rows: Sequence[PreparedRow]) -> Held:
        """Return what a step keeps: both replies of each pair, or, taken apart, as many as fit."""
        pairs = sorted(rows, key=row_length, reverse=True)[: recipe.batch_size]
        learnt = [supervised_tokens(r) + supervised_tokens(other_side(r)) for r in pairs]
        return Held(
            rows=len(pairs) * 2 // self.rows_a_pair,
            length=row_length(pairs[0]),
            learnt=sum(learnt),
            head=self.head,
            copies=int(hasattr(recipe, "reference") and keeps_start(job, recipe)),
        )

    def train(
        self,
        job: TuneJob,
        rows: Sequence[PreparedRow],
        *,
        report: Callable[[TrainProgress], None],
    ) -> TrainResult:
        """Train an adapter on exactly `rows`, reporting every step, and write it in the end."""
        recipe = self.read(job)
        check_pairs(rows, max_length=recipe.max_length)
        training = Training(
            job,
            recipe,
            rows,
            tuner=self.name,
            numbers=self.numbers,
            report=report,
            shows=self.shows,
        )
        with scratch(job.out_dir) as folder:
            model = training.run(
                lambda home: self.make_trainer(job, recipe=recipe, rows=rows, folder=home),
                folder=folder,
            )
        return save_artifact(
            model,
            job,
            recipe=recipe,
            rows=rows,
            metrics=training.metrics(),
            losses=training.journal.losses,
        )


def steps_of(recipe: PreferenceRecipe, *, rows: int) -> int:
    """Return how many steps a training over so many rows has."""
    steps = batching_of(recipe).steps(rows, epochs=recipe.epochs)
    return min(steps, recipe.max_steps or steps)


def settings_of(job: TuneJob, recipe: Any, *, rows: int) -> dict[str, Any]:
    """Return what a trainer over so many rows is told."""
    return shared_settings(
        recipe, steps=steps_of(recipe, rows=rows), on_cpu=device_of(recipe) == "cpu"
    )


def keeps_start(job: TuneJob, recipe: Any) -> bool:
    """Tell whether the reference is an adapter: else it is the base, which needs no copy."""
    return recipe.reference == "start" and parts_of_job(job).adapter is not None


def with_reference(trainer: Any, job: TuneJob, recipe: Any) -> Any:
    """Return the trainer with the reference that the recipe names."""
    if not keeps_start(job, recipe):
        forget_reference(trainer.model)
    return trainer

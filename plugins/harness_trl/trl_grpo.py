"""The tuner `trl-grpo`: TRL's GRPOTrainer with the task's own evals as the reward.

Knows nothing of prompts: replies are drawn for exactly the prepared ids, and what TRL 1.16 would do
to a conversation (render it with a template of its own choice) is not asked of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness_transformers.encoding import encode_prompt, stop_ids

from harness import (
    PreparedRow,
    Refused,
    Reward,
    TrainProgress,
    TrainResult,
    TuneEstimate,
    TuneJob,
    UsageError,
    reward,
)
from harness_trl.base import device_of, tokenizer_of
from harness_trl.estimating import Held, estimate, memory_of, middling
from harness_trl.pacing import Pace
from harness_trl.pictures import refuse_images
from harness_trl.preference_recipes import GrpoRecipe
from harness_trl.preference_tuner import keeps_start, with_reference
from harness_trl.recipe import read_recipe
from harness_trl.saving import save_artifact, scratch
from harness_trl.trainable import trainable_model
from harness_trl.trl_runs import Training, pace_of_steps, shared_settings, well_behaved

NUMBERS = {
    "reward": "reward",
    "reward_std": "reward_std",
    "frac_reward_zero_std": "silent",
    "kl": "kl",
    "completions/mean_length": "reply_tokens",
    "completions/clipped_ratio": "cut",
}
"""`silent` is the share of groups whose replies all earned the same, and teach nothing; `cut` that
of replies that met `max_new_tokens`."""
PATIENCE = 50
"""Steps without any difference between replies, after which no reward will come."""


class TrlGrpo:
    """Group-relative policy optimisation: of several replies to one prompt, the better are made
    likelier. It needs no references; the base must earn something now and then, so tune it with
    SFT first.
    """

    needs = "prompts"

    def prepare(self, job: TuneJob) -> Sequence[PreparedRow]:
        """Return the prompts as token ids, nothing supervised."""
        recipe = read_recipe(job, GrpoRecipe)
        refuse_images(job.rows, what="trl-grpo")
        if any(row.tools for row in job.rows):
            raise UsageError(
                "trl-grpo scores replies that are text, and the prompt offers tools: train another "
                "prompt, or use trl-sft or trl-dpo"
            )
        tokenizer = tokenizer_of(job)
        rows = tuple(encode_prompt(tokenizer, row) for row in job.rows)
        _check_prompts(rows, recipe=recipe)
        return rows

    def steps(self, job: TuneJob, rows: Sequence[PreparedRow]) -> int:
        """Return how many steps the training will have."""
        return _steps(read_recipe(job, GrpoRecipe), len(rows))

    def estimate(self, job: TuneJob, rows: Sequence[PreparedRow]) -> TuneEstimate:
        """Return steps, memory and time, the last from a few steps on one prompt."""
        recipe = read_recipe(job, GrpoRecipe)
        prompts, steps = _prompts_a_step(recipe, len(rows)), _steps(recipe, len(rows))
        some = middling(rows, 1)
        alone = recipe.model_copy(update={"batch_size": 1, "gradient_accumulation": 1})

        def timed() -> Pace:
            if job.task_folder is None:
                raise UsageError("there is no task, whose evals are the reward")
            with reward(job.task_folder) as worth:
                pace = pace_of_steps(
                    job,
                    alone,
                    some,
                    build=lambda short, home: self.make_trainer(
                        job, recipe=short, rows=some, folder=home, worth=worth
                    ),
                )
            return pace.times(prompts)

        return estimate(
            job,
            recipe,
            steps=steps,
            data=f"{steps} steps of {prompts} prompts, {recipe.group} replies each of up to "
            f"{recipe.max_new_tokens} tokens",
            memory=memory_of(job, recipe, _held(job, recipe, rows)),
            timed=timed,
            what=f"one prompt, {prompts} times (several at once take less, and longer replies than "
            "now take more)",
        )

    def train(
        self,
        job: TuneJob,
        rows: Sequence[PreparedRow],
        *,
        report: Callable[[TrainProgress], None],
    ) -> TrainResult:
        """Train an adapter on replies to exactly `rows`, and write it in the end.

        Raises UsageError where the task's evals give no reward outside pytest, what `Reward`
        raises where one breaks, and Refused where no reply was ever better than another.
        """
        if job.task_folder is None:
            raise UsageError("trl-grpo needs a task, whose evals are the reward: task_folder")
        recipe = read_recipe(job, GrpoRecipe)
        _check_prompts(rows, recipe=recipe)
        watch = _Signal(report)
        training = Training(job, recipe, rows, tuner="trl-grpo", numbers=NUMBERS, report=watch.step)
        watch.series = training.series
        with reward(job.task_folder) as worth, scratch(job.out_dir) as folder:
            model = training.run(
                lambda home: self.make_trainer(
                    job, recipe=recipe, rows=rows, folder=home, worth=worth
                ),
                folder=folder,
            )
            seen = f"the evals {', '.join(worth.names)}"
            if worth.left_out:
                unseen = "; ".join(f"{k} ({v})" for k, v in worth.left_out.items())
                seen = f"{seen}; not seen: {unseen}"
        watch.check(len(training.journal.losses))
        result = save_artifact(
            model,
            job,
            recipe=recipe,
            rows=rows,
            metrics=training.metrics(),
            losses=training.journal.losses,
        )
        return replace(result, environment={**result.environment, "reward": seen})

    def make_trainer(
        self,
        job: TuneJob,
        *,
        recipe: GrpoRecipe,
        rows: Sequence[PreparedRow],
        folder: Path,
        worth: Reward,
    ) -> Any:
        """Return TRL's trainer over exactly `rows`, its files in `folder`."""
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        prompts = {row.case_id: list(row.input_ids) for row in rows}

        class Trainer(well_behaved(GRPOTrainer)):  # type: ignore[misc] # trl is untyped
            def _tokenize_prompts(self, names: list[str]) -> tuple[Any, None, dict[str, Any]]:
                return [list(prompts[name]) for name in names], None, {}

            def _get_train_sampler(self, dataset: Any = None) -> Any:
                return _same_after_a_kill(
                    super()._get_train_sampler(dataset), seed=recipe.seed or 0
                )

        tokenizer = tokenizer_of(job)

        def earned(prompts: Any, completion_ids: Any, **_: Any) -> list[float | None]:
            texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in completion_ids]
            return worth.many(zip(prompts, texts, strict=True))

        model = trainable_model(job, recipe)
        trainer = Trainer(
            model=model,
            reward_funcs=earned,
            args=GRPOConfig(
                **shared_settings(
                    recipe,
                    steps=_steps(recipe, len(rows)),
                    on_cpu=device_of(recipe) == "cpu",
                ),
                output_dir=str(folder),
                per_device_train_batch_size=_batch(recipe, len(rows)) * recipe.group,
                num_generations=recipe.group,
                max_completion_length=recipe.max_new_tokens,
                temperature=recipe.temperature,
                top_p=recipe.top_p,
                beta=recipe.beta,
                loss_type=recipe.loss,
            ),
            train_dataset=Dataset.from_list([{"prompt": row.case_id} for row in rows]),
            processing_class=tokenizer,
        )
        # TRL ends replies at the tokenizer's own mark; a turn may end at another (Gemma's does)
        ends = sorted(stop_ids(tokenizer, model.get_base_model()))
        trainer.eos_token_ids = ends
        trainer.generation_config.eos_token_id = ends
        trainer.generation_kwargs["eos_token_id"] = ends
        return with_reference(trainer, job, recipe)


class _Signal:
    """Passes steps on, and stops a training in which no reply is ever better than another."""

    def __init__(self, report: Callable[[TrainProgress], None]) -> None:
        self._report = report
        self.series: Mapping[str, Sequence[float]] = {}

    def step(self, progress: TrainProgress) -> None:
        self._report(progress)
        if progress.step >= PATIENCE:
            self.check(progress.step)

    def check(self, steps: int) -> None:
        """Raise Refused where every group of every step earned one and the same reward."""
        if "reward" in self.series and min(self.series.get("silent", (0.0,))) < 1 - 1e-9:
            return
        what = (
            "no reply earned more than another to the same prompt"
            if "reward" in self.series
            else "no reply was scored at all"
        )
        earned = set(self.series.get("reward", ()))
        if earned in ({0.0}, {1.0}):
            what += f" (all earned {earned.pop():.0f})"
        raise Refused(
            f"in {steps} steps {what}, so there was nothing to learn, and nothing was written. "
            "That is a finding about model and task. See how the model answers (harness eval). "
            "Where it misses: tune with SFT first and go on from that artifact (--start), ask "
            "easier cases, or raise `temperature` or `group` in the recipe. Where it is right: ask "
            "harder cases."
        )


def _check_prompts(rows: Sequence[PreparedRow], *, recipe: GrpoRecipe) -> None:
    if not rows:
        raise UsageError("there are no prompts to train on: the task has no train cases")
    if len({row.case_id for row in rows}) < len(rows):
        raise UsageError("two rows have one case id, so their rewards could not be told apart")
    most = recipe.max_length
    longer = [r for r in rows if len(r.input_ids) + recipe.max_new_tokens > most]
    if longer:
        longest = max(longer, key=lambda r: len(r.input_ids))
        named = ", ".join(r.case_id for r in longer[:5])
        no_room = UsageError(
            f"{len(longer)} of {len(rows)} prompts leave no room for max_new_tokens = "
            f"{recipe.max_new_tokens} within max_length = {most} tokens; the longest is "
            f"{longest.case_id} with {len(longest.input_ids)}. Prompts are not cut. Set max_length "
            f"= {len(longest.input_ids) + recipe.max_new_tokens} in the recipe, lower "
            f"max_new_tokens, or take out: {named}."
        )
        no_room.case_ids = tuple(r.case_id for r in longer)
        raise no_room


def _held(job: TuneJob, recipe: GrpoRecipe, rows: Sequence[PreparedRow]) -> Held:
    replies = _batch(recipe, len(rows)) * recipe.group
    return Held(
        rows=replies,
        length=max(len(r.input_ids) for r in rows) + recipe.max_new_tokens,
        learnt=replies * recipe.max_new_tokens,
        head="tiles",
        copies=int(keeps_start(job, recipe)),
    )


def _batch(recipe: GrpoRecipe, rows: int) -> int:
    """TRL leaves out what does not fill a step; a small data set must fill one."""
    return min(recipe.batch_size, max(1, rows // recipe.gradient_accumulation))


def _prompts_a_step(recipe: GrpoRecipe, rows: int) -> int:
    return _batch(recipe, rows) * recipe.gradient_accumulation


def _steps(recipe: GrpoRecipe, rows: int) -> int:
    steps = rows // _prompts_a_step(recipe, rows) * recipe.epochs
    return min(steps, recipe.max_steps or steps)


def _same_after_a_kill(sampler: Any, *, seed: int) -> Any:
    """TRL's sampler shuffles each epoch by a generator that only remembers itself: a training that
    went on in the third epoch would draw the order of the first. Here an epoch has its own.
    """

    class Sampler(type(sampler)):  # type: ignore[misc] # trl is untyped
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Any:
            self.generator.manual_seed(seed * 1_000_003 + self.epoch)
            return super().__iter__()

    return Sampler(
        data_source=sampler.data_source,
        mini_repeat_count=sampler.mini_repeat_count,
        batch_size=sampler.batch_size,
        repeat_count=sampler.repeat_count,
        seed=seed,
    )

"""The tuner `trl-sft`: TRL's SFTTrainer on rows that are token ids. Knows nothing of prompts.

TRL 1.16 is held to what was asked: gradient checkpointing and mixed precision, which it turns on by
itself, are off unless useful; a row that it cuts or drops, a label that it moves, and every warning
that it logs stop the tune; a loss that is no number is not smoothed away; an adapter on 4 bits
keeps its float32, which TRL rounds to bfloat16; its telemetry, a ping for each trainer, is never
sent.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness import BackendError, PreparedRow, TrainProgress, TrainResult, TuneEstimate, TuneJob
from harness_trl.base import device_of, dtype_of, tokenizer_of
from harness_trl.estimating import estimate_sft
from harness_trl.launch import is_worker, train_together
from harness_trl.pacing import Pace
from harness_trl.pictures import collator, pictures_of
from harness_trl.ranks import check_world, is_first
from harness_trl.recipe import Recipe, batching_of, read_recipe
from harness_trl.rows import check_rows, prepare_rows
from harness_trl.saving import save_artifact, scratch
from harness_trl.trainable import trainable_model
from harness_trl.trl_runs import Training, pace_of_steps, shared_settings, well_behaved


class TrlSft:
    """LoRA, DoRA, QLoRA or all weights by TRL's trainer, on one device or, launched, on several.

    On a CPU a step costs a third more than one of `torch-lora`, and more where rows differ in
    length.
    """

    knows_devices = True

    def steps(self, job: TuneJob, rows: Sequence[PreparedRow]) -> int:
        """Return how many steps the training will have."""
        recipe = read_recipe(job)
        return batching_of(recipe, devices=job.devices).steps(len(rows), epochs=recipe.epochs)

    def prepare(self, job: TuneJob) -> Sequence[PreparedRow]:
        """Return the rows as token ids and labels."""
        return prepare_rows(job)

    def estimate(self, job: TuneJob, rows: Sequence[PreparedRow]) -> TuneEstimate:
        """Return steps, memory and time, the last from a few steps of the real model."""
        recipe = read_recipe(job)
        alone = dataclasses.replace(job, devices=1)

        def timed(some: Sequence[PreparedRow]) -> Pace:
            return pace_of_steps(
                alone,
                recipe,
                some,
                build=lambda short, home: make_trainer(alone, recipe=short, rows=some, folder=home),
            )

        return estimate_sft(job, recipe, rows, timed=timed, lean=False)

    def train(
        self,
        job: TuneJob,
        rows: Sequence[PreparedRow],
        *,
        report: Callable[[TrainProgress], None],
    ) -> TrainResult:
        """Train on exactly `rows`, reporting every step, and write the artifact in the end."""
        recipe = read_recipe(job)
        if job.devices > 1 and not is_worker():
            batching_of(recipe, devices=job.devices)  # refused before anything is started
            on_cpu = device_of(recipe) == "cpu"
            return train_together(
                "trl-sft", job, rows, report=report, on_cpu=on_cpu, preset=recipe.launch
            )
        check_world(job)
        check_rows(rows, max_length=recipe.max_length)
        training = Training(
            job, recipe, rows, tuner="trl-sft", numbers={}, report=report, knows_devices=True
        )

        def build(home: Path) -> Any:
            trainer = make_trainer(job, recipe=recipe, rows=rows, folder=home)
            check_dataset(trainer.train_dataset, rows)
            return trainer

        with _own_folder(job.out_dir) as folder:
            model = training.run(build, folder=folder)
            return save_artifact(
                model,
                job,
                recipe=recipe,
                rows=rows,
                metrics=training.metrics(),
                losses=training.journal.losses,
                state=training.trainer.collected,
            )


def make_trainer(job: TuneJob, *, recipe: Recipe, rows: Sequence[PreparedRow], folder: Path) -> Any:
    """Return TRL's trainer over `rows`, with nothing left to its defaults that matters."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model = trainable_model(job, recipe)
    own = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
    is_whole, on_cpu = recipe.method == "full", device_of(recipe) == "cpu"
    batching = batching_of(recipe, devices=job.devices)
    steps = batching.steps(len(rows), epochs=recipe.epochs)
    pictures = pictures_of(job)
    settings = {
        **shared_settings(recipe, steps=steps, on_cpu=on_cpu),
        "gradient_accumulation_steps": batching.accumulation,
        # all weights are in float32, and computed with in half
        "bf16": is_whole and dtype_of(recipe) == "bfloat16",
    }
    config = SFTConfig(
        **settings,
        output_dir=str(folder),
        per_device_train_batch_size=batching.batch_size,
        max_length=recipe.max_length,
        completion_only_loss=True,
        packing=False,
        include_num_input_tokens_seen="non_padding",
        remove_unused_columns=pictures is None,
        # A batch of text alone leaves a tower that is trained without gradients.
        ddp_find_unused_parameters=True if pictures and is_whole and job.devices > 1 else None,
    )
    dataset = Dataset.from_list(
        [{"input_ids": list(r.input_ids), "labels": list(r.labels), "row": n}
         for n, r in enumerate(rows)]
    )  # fmt: skip
    trainer = well_behaved(SFTTrainer)(
        model=model,
        args=config,
        train_dataset=dataset,
        data_collator=collator(rows, pictures, model=model) if pictures else None,
        processing_class=_padding_tokenizer(job),
    )
    for name, parameter in trainer.model.named_parameters():
        if name in own:
            parameter.data = own[name]
    return trainer


def _padding_tokenizer(job: TuneJob) -> Any:
    """TRL asks for a padding token. Which one is the same to us: padding is masked by position."""
    tokenizer = tokenizer_of(job)
    if tokenizer.pad_token is None and tokenizer.eos_token is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def check_dataset(dataset: Any, rows: Sequence[PreparedRow]) -> None:
    """Raise BackendError where what TRL will train on is not exactly `rows`, with counts."""
    if len(dataset) != len(rows):
        raise BackendError(
            f"TRL dropped {len(rows) - len(dataset)} of {len(rows)} rows in silence (it leaves out "
            "rows without a supervised token): nothing was trained"
        )
    for row, taken in zip(rows, dataset, strict=True):
        for name, ours in (("input_ids", row.input_ids), ("labels", row.labels)):
            theirs = tuple(taken[name])
            if theirs != ours:
                raise BackendError(
                    f"TRL changed the {name} of row {row.case_id}: {len(ours)} tokens were "
                    f"prepared, {len(theirs)} would be trained. Nothing was trained."
                )


@contextlib.contextmanager
def _own_folder(out_dir: Path) -> Iterator[Path]:
    if is_first():
        with scratch(out_dir) as folder:
            yield folder
    else:
        yield out_dir / ".partial"  # where this process writes nothing

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
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness import BackendError, PreparedRow, TrainProgress, TrainResult, TuneEstimate, TuneJob
from harness_trl.base import device_of, dtype_of, tokenizer_of
from harness_trl.estimating import estimate_sft, note_time
from harness_trl.failures import explained
from harness_trl.guests import guest_manners, kept_randomness, trl_warnings
from harness_trl.journal import Journal
from harness_trl.launch import is_worker, train_together
from harness_trl.pictures import collator, pictures_of
from harness_trl.ranks import check_world, is_first, told_by_first
from harness_trl.recipe import Recipe, batching_of, read_recipe, warmup_of
from harness_trl.rows import check_rows, prepare_rows
from harness_trl.saving import save_artifact, scratch, write_artifact
from harness_trl.states import (
    State,
    identity_of,
    pack_optimizer,
    pack_random,
    read_state,
    unpack_optimizer,
    unpack_random,
    write_state,
)
from harness_trl.trainable import trainable_model


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
        """Return steps, memory and time, the last from two steps of the real model."""
        recipe = read_recipe(job)

        def two_steps(some: Sequence[PreparedRow]) -> float:
            ends: list[float] = []
            short = recipe.model_copy(update={"epochs": 2})
            alone = dataclasses.replace(job, devices=1)
            with scratch(job.out_dir) as folder, guest_manners(), explained(recipe):
                trainer = make_trainer(alone, recipe=short, rows=some, folder=folder)
                trainer.add_callback(_watcher(lambda *_: note_time(ends)))
                trainer.train()
            return ends[1] - ends[0]

        return estimate_sft(job, recipe, rows, two_steps=two_steps, lean=False)

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
        identity = identity_of("trl-sft", job, recipe, rows)
        found = read_state(job.state_dir, identity=identity) if is_first() else None
        with _own_folder(job.out_dir) as folder, guest_manners():
            with trl_warnings() as said, explained(recipe):
                trainer = make_trainer(job, recipe=recipe, rows=rows, folder=folder)
            if said:
                raise BackendError(
                    f"TRL would train something else than was asked: {' '.join(said)}"
                )
            check_dataset(trainer.train_dataset, rows)

            def write(folder: Path) -> None:
                write_artifact(
                    trainer.model,
                    job,
                    recipe=recipe,
                    rows=rows,
                    folder=folder,
                    losses=journal.losses,
                    state=trainer.collected,
                )

            def keep(_: int) -> None:
                assert job.state_dir is not None
                tensors, plain = trainer.pack()
                if is_first():
                    write_state(
                        job.state_dir,
                        identity=identity,
                        step=trainer.state.global_step,
                        tensors=tensors,
                        plain={**plain, "journal": journal.told()},
                        extras={
                            "trainer_state.json": json.dumps(dataclasses.asdict(trainer.state))
                        },
                    )

            state = told_by_first(found)
            keeps = job.state_dir is not None and not is_sharded(trainer)
            journal = Journal(
                job,
                recipe,
                report=report,
                write=write,
                collect=trainer.collect,
                keep=keep if keeps else None,
            )
            if state is not None:
                trainer.goes_on_from = state
                journal.recall(state.plain["journal"])

            def each_step(step: int, steps: int, loss: float, tokens: int) -> bool:
                return journal.step(step=step, steps=steps, loss=loss, tokens=tokens)

            trainer.add_callback(_watcher(each_step))
            with explained(recipe):
                trainer.train(resume_from_checkpoint=str(state.folder) if state else None)
            trainer.collect()
            return save_artifact(
                trainer.model,
                job,
                recipe=recipe,
                rows=rows,
                metrics=journal.summary(epochs=recipe.epochs),
                losses=journal.losses,
                state=trainer.collected,
            )


def make_trainer(job: TuneJob, *, recipe: Recipe, rows: Sequence[PreparedRow], folder: Path) -> Any:
    """Return TRL's trainer over `rows`, with nothing left to its defaults that matters."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig

    model = trainable_model(job, recipe)
    own = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
    is_whole, on_cpu = recipe.method == "full", device_of(recipe) == "cpu"
    batching = batching_of(recipe, devices=job.devices)
    steps = batching.steps(len(rows), epochs=recipe.epochs)
    pictures = pictures_of(job, recipe)
    config = SFTConfig(
        output_dir=str(folder / "trainer"),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=batching.batch_size,
        gradient_accumulation_steps=batching.accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=warmup_of(recipe, steps=steps),
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        max_length=recipe.max_length,
        completion_only_loss=True,
        packing=False,
        # Frozen weights are in the recipe's dtype and the adapter in float32 already: autocasting
        # would compute in a third way. All weights are in float32, and computed with in half.
        bf16=is_whole and dtype_of(recipe) == "bfloat16",
        fp16=False,
        gradient_checkpointing=recipe.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        save_strategy="no",
        report_to="none",
        push_to_hub=False,
        disable_tqdm=True,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would log the mean of the steps before as the loss
        include_num_input_tokens_seen="non_padding",
        remove_unused_columns=pictures is None,
        # A batch of text alone leaves a tower that is trained without gradients.
        ddp_find_unused_parameters=True if pictures and is_whole and job.devices > 1 else None,
        seed=recipe.seed or 0,
    )
    dataset = Dataset.from_list(
        [{"input_ids": list(r.input_ids), "labels": list(r.labels), "row": n}
         for n, r in enumerate(rows)]
    )  # fmt: skip
    trainer = _our_trainer()(
        model=model,
        args=config,
        train_dataset=dataset,
        data_collator=collator(rows, pictures, model=model) if pictures else None,
        processing_class=_padding_tokenizer(job, recipe),
    )
    trainer.remove_callback(PrinterCallback)  # it prints every step when the bars are off
    for name, parameter in trainer.model.named_parameters():
        if name in own:
            parameter.data = own[name]
    return trainer


def _padding_tokenizer(job: TuneJob, recipe: Recipe) -> Any:
    """TRL asks for a padding token. Which one is the same to us: padding is masked by position."""
    tokenizer = tokenizer_of(job, recipe)
    if tokenizer.pad_token is None and tokenizer.eos_token is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def _our_trainer() -> Any:
    from trl import SFTTrainer

    class OurTrainer(SFTTrainer):  # type: ignore[misc] # trl is untyped
        """Tells nobody, and goes on from a state of ours: safetensors and JSON, no pickle."""

        goes_on_from: State | None = None
        collected: Any = None
        """All weights, where each process holds a part of them."""

        def _send_telemetry(self) -> None:
            """Nobody is told what is trained here."""

        def collect(self) -> None:
            """Bring the weights together; all processes call this together."""
            if is_sharded(self):
                self.collected = self.accelerator.get_state_dict(self.model_wrapped)

        def pack(self) -> tuple[dict[str, Any], dict[str, Any]]:
            """Return all that the next step depends on: tensors, and plain values."""
            tensors, optimizer = pack_optimizer(self.optimizer)
            more, chance = pack_random()
            model = self.accelerator.unwrap_model(self.model)
            trained = {f"trained.{n}": p for n, p in model.named_parameters() if p.requires_grad}
            schedule = self.lr_scheduler.state_dict()
            plain = {"optimizer": optimizer, "random": chance, "schedule": schedule}
            return {**tensors, **more, **trained}, plain

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            import torch

            assert self.goes_on_from is not None
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    if parameter.requires_grad:
                        parameter.copy_(self.goes_on_from.tensors[f"trained.{name}"])

        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
            if checkpoint is not None:
                assert self.goes_on_from is not None
                held = self.goes_on_from
                unpack_optimizer(self.optimizer, held.tensors, held.plain["optimizer"])
                self.lr_scheduler.load_state_dict(held.plain["schedule"])

        def _load_rng_state(self, checkpoint: str | None) -> None:
            if checkpoint is not None:
                assert self.goes_on_from is not None
                unpack_random(self.goes_on_from.tensors, self.goes_on_from.plain["random"])

    return OurTrainer


def is_sharded(trainer: Any) -> bool:
    """Tell whether each process holds a part of the weights only: then no state is kept."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)


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


def _watcher(each_step: Callable[[int, int, float, int], bool]) -> Any:
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):  # type: ignore[misc] # transformers is not followed
        """Passes every step on, and stops where it is told to."""

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            loss = (kwargs.get("logs") or {}).get("loss")
            if loss is None:
                return
            tokens = int(state.num_input_tokens_seen)
            with kept_randomness():  # what is done meanwhile must not change what is trained
                if not each_step(state.global_step, state.max_steps, loss, tokens):
                    control.should_training_stop = True

    return Watcher()


@contextlib.contextmanager
def _own_folder(out_dir: Path) -> Iterator[Path]:
    if is_first():
        with scratch(out_dir) as folder:
            yield folder
    else:
        yield out_dir / ".partial"  # where this process writes nothing

"""The tuner `trl-sft`: TRL's SFTTrainer on rows that are token ids. Knows nothing of prompts.

TRL 1.16 is held to what was asked: gradient checkpointing and mixed precision, which it turns on by
itself, are off unless useful; a row that it cuts or drops, a label that it moves, and every warning
that it logs stop the tune; its telemetry (a ping for each trainer) is never sent.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness_transformers.models import find_model, load_tokenizer

from harness import BackendError, PreparedRow, TrainProgress, TrainResult, TuneJob
from harness_trl.adapter import explained, lora_model, quiet_libraries, save_artifact, scratch
from harness_trl.recipe import Recipe, read_recipe, warmup_of
from harness_trl.rows import check_rows, prepare_rows
from harness_trl.torch_lora import summary


class TrlSft:
    """LoRA by TRL's trainer. On one CPU it costs about twice what `torch-lora` does."""

    def prepare(self, job: TuneJob) -> Sequence[PreparedRow]:
        """Return the rows as token ids and labels."""
        return prepare_rows(job)

    def train(
        self,
        job: TuneJob,
        rows: Sequence[PreparedRow],
        *,
        report: Callable[[TrainProgress], None],
    ) -> TrainResult:
        """Train an adapter on exactly `rows`, reporting every step, and write it in the end."""
        recipe = read_recipe(job)
        check_rows(rows, max_length=recipe.max_length)
        with (
            scratch(job.out_dir) as folder,
            no_telemetry(),
            kept_randomness(),
            quiet_libraries(),
            quiet_datasets(),
        ):
            with trl_warnings() as said:
                trainer = make_trainer(job, recipe=recipe, rows=rows, folder=folder)
            if said:
                raise BackendError(
                    f"TRL would train something else than was asked: {' '.join(said)}"
                )
            check_dataset(trainer.train_dataset, rows)
            watch = _watcher(report)
            trainer.add_callback(watch)
            with explained(recipe):
                trainer.train()
        metrics = summary(
            watch.losses, epochs=recipe.epochs, tokens=watch.tokens, seconds=watch.seconds
        )
        return save_artifact(trainer.model, job, recipe=recipe, rows=rows, metrics=metrics)


def make_trainer(job: TuneJob, *, recipe: Recipe, rows: Sequence[PreparedRow], folder: Path) -> Any:
    """Return TRL's trainer over `rows`, with nothing left to its defaults that matters."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    class QuietTrainer(SFTTrainer):  # type: ignore[misc] # trl is untyped
        def _send_telemetry(self) -> None:
            """Nobody is told what is trained here."""

    model = lora_model(job, recipe)
    on_cpu = model.device.type == "cpu"
    steps = math.ceil(len(rows) / recipe.batch_size) * recipe.epochs
    config = SFTConfig(
        output_dir=str(folder / "trainer"),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=warmup_of(recipe, steps=steps),
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        max_length=recipe.max_length,
        completion_only_loss=True,
        packing=False,
        # The weights are in the recipe's dtype and the adapter in float32 already: autocasting
        # would compute in a third way. Checkpointing saves memory that only a GPU is short of.
        bf16=False,
        fp16=False,
        gradient_checkpointing=not on_cpu,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        save_strategy="no",
        report_to="none",
        push_to_hub=False,
        disable_tqdm=True,
        logging_steps=1,
        include_num_input_tokens_seen="non_padding",
        seed=recipe.seed or 0,
    )
    dataset = Dataset.from_list(
        [{"input_ids": list(r.input_ids), "labels": list(r.labels)} for r in rows]
    )
    trainer = QuietTrainer(
        model=model,
        args=config,
        train_dataset=dataset,
        processing_class=load_tokenizer(find_model(job.base, cache_dir=job.cache_dir)),
    )
    trainer.remove_callback(PrinterCallback)  # it prints every step when the bars are off
    return trainer


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


def _watcher(report: Callable[[TrainProgress], None]) -> Any:
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):  # type: ignore[misc] # transformers is not followed
        """Passes every step on, and stops at a loss that is no number."""

        def __init__(self) -> None:
            self.began = time.monotonic()
            self.losses: list[float] = []
            self.tokens = 0
            self.seconds = 0.0

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            loss = (kwargs.get("logs") or {}).get("loss")
            if loss is None:
                return
            if not math.isfinite(loss):
                raise BackendError(
                    f"the loss is {loss} at step {state.global_step} of {state.max_steps}: nothing "
                    f"was written. Lower learning_rate (now {args.learning_rate}) in the recipe."
                )
            self.losses.append(loss)
            self.tokens = int(state.num_input_tokens_seen)
            self.seconds = time.monotonic() - self.began
            report(
                TrainProgress(
                    step=state.global_step,
                    steps=state.max_steps,
                    loss=loss,
                    tokens=self.tokens,
                    seconds=self.seconds,
                )
            )

    return Watcher()


# ---------------------------------------------------------------- a guest that behaves


@contextlib.contextmanager
def trl_warnings() -> Iterator[list[str]]:
    """Collect what TRL warns of; it says so once in a process, where nobody looks."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger = logging.getLogger("trl")
    listener = Listener(level=logging.WARNING)
    level = logger.level
    logger.setLevel(logging.WARNING)  # somebody may have silenced it
    logger.addHandler(listener)
    try:
        yield said
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)


@contextlib.contextmanager
def no_telemetry() -> Iterator[None]:
    """Keep the hub's client offline, should TRL's ping move elsewhere in a later version."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_TELEMETRY
    constants.HF_HUB_OFFLINE = constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_TELEMETRY = before


@contextlib.contextmanager
def kept_randomness() -> Iterator[None]:
    """Put the process's random generators back: the trainer seeds all of them."""
    import numpy as np
    import torch

    plain, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(numbers)


@contextlib.contextmanager
def quiet_datasets() -> Iterator[None]:
    """Silence the bars of the datasets library."""
    from datasets.utils import logging as bars

    had_bar = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if had_bar:
            bars.enable_progress_bar()

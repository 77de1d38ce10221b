"""Runs a TRL trainer on rows that are token ids: steps told, artifacts shown under way, and going
on after a kill. Knows nothing of any one method's rows or loss.

What is kept for going on is a state of `harness_trl.states`: safetensors and JSON. The checkpoints
of transformers' trainer, torch files and a pickle of its arguments, are never written or read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import BackendError, PreparedRow, TrainProgress, TuneJob, UsageError
from harness_trl.estimating import timed_threads
from harness_trl.failures import explained
from harness_trl.guests import guest_manners, kept_randomness, trl_warnings
from harness_trl.journal import Journal
from harness_trl.pacing import MOST_STEPS, End, Pace, note_end, pace_of
from harness_trl.ranks import is_first, told_by_first
from harness_trl.recipe import warmup_of
from harness_trl.saving import scratch, write_artifact
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

TRAINER_STATE = "trainer_state.json"
"""Where transformers looks for how many steps were done."""


class Training:
    """One training of a TRL trainer that `well_behaved` made. Run it once; then `journal` tells."""

    journal: Journal

    def __init__(
        self,
        job: TuneJob,
        recipe: Any,
        rows: Sequence[PreparedRow],
        *,
        tuner: str,
        numbers: Mapping[str, str],
        report: Callable[[TrainProgress], None],
        shows: bool = True,
        knows_devices: bool = False,
    ) -> None:
        """Take what a tuner is given. `numbers` are TRL's names of what is logged, by ours; where
        `shows` is false, what is made is no candidate, and `job.check` is not asked.

        Raises UsageError where more than one process is wanted, and the tuner knows but one.
        """
        if job.devices > 1 and not knows_devices:
            raise UsageError(
                f"{tuner} trains in one process, not in {job.devices}: leave out --devices"
            )
        self.job, self.recipe, self.rows = job, recipe, rows
        self.trainer: Any = None
        self.numbers = numbers
        self.series: dict[str, list[float]] = {}
        self.identity = identity_of(tuner, job, recipe, rows)
        self._report = report
        self._shows = shows

    def run(self, build: Callable[[Path], Any], *, folder: Path) -> Any:
        """Train to the end, or to where `job.check` stops it, and return the model. `build` makes
        the trainer that keeps its files in a given folder. Processes that train together call this
        together, and the first one writes.

        Raises BackendError where TRL warns while it is made, where the loss is no number, and
        where memory does not suffice.
        """
        found = read_state(self.job.state_dir, identity=self.identity) if is_first() else None
        with guest_manners(), explained(self.recipe):
            from transformers import PrinterCallback

            with trl_warnings() as said:
                try:
                    self.trainer = build(folder / "trainer")
                except (
                    ValueError
                ) as exc:  # as an adapter on the output layer, which it cannot train
                    raise UsageError(f"TRL refuses this recipe: {exc}") from exc
            if said:
                raise BackendError(
                    f"TRL would train something else than was asked: {' '.join(said)}"
                )
            before = told_by_first(found)  # now: making a trainer brings the processes together
            self.trainer.remove_callback(PrinterCallback)  # it prints steps where bars are off
            self.trainer.add_callback(_watcher(self))
            self.journal = self._begun()  # now: its clock runs from here
            self.trainer.state_before = before
            if before is not None:
                self.journal.recall(before.plain["journal"])
                self.series.update({k: list(v) for k, v in before.plain["series"].items()})
                self.trainer.tokens_seen = before.plain["tokens_seen"]
            with trl_warnings():  # what it says of single steps is told by our numbers
                self.trainer.train(
                    resume_from_checkpoint=str(before.folder) if before is not None else None
                )
            self.trainer.collect()
        return self.trainer.model

    def metrics(self) -> dict[str, float]:
        """Return the numbers of the training, each as it was in the first and the last tenth."""
        found = self.journal.summary(epochs=max(1, self.recipe.epochs))
        for name, values in self.series.items():
            some = max(1, len(values) // 10)
            found[f"first_{name}"] = sum(values[:some]) / some
            found[f"final_{name}"] = sum(values[-some:]) / some
        return found

    def logged(self, state: Any, logs: Mapping[str, Any]) -> bool:
        """Write down what a step logged, and return whether to go on."""
        now = {ours: float(logs[k]) for k, ours in self.numbers.items() if logs.get(k) is not None}
        for name, value in now.items():
            self.series.setdefault(name, []).append(value)
        if self.trainer.args.include_num_input_tokens_seen == "non_padding":  # of all processes
            tokens = int(state.num_input_tokens_seen)
        else:  # TRL's own count of most trainers begins anew after a kill
            tokens = self.trainer.tokens_seen or int(logs.get("num_tokens") or 0)
        return self.journal.step(
            step=state.global_step,
            steps=state.max_steps,
            loss=float(logs["loss"]),
            tokens=tokens,
            numbers=now,
        )

    def _begun(self) -> Journal:
        keeps = self.job.state_dir is not None and not is_sharded(self.trainer)
        return Journal(
            self.job,
            self.recipe,
            report=self._report,
            write=self._write if self._shows else None,
            collect=self.trainer.collect,
            keep=self._keep if keeps else None,
        )

    def _write(self, folder: Path) -> None:
        write_artifact(
            self.trainer.model,
            self.job,
            recipe=self.recipe,
            rows=self.rows,
            folder=folder,
            losses=self.journal.losses,
            state=self.trainer.collected,
        )

    def _keep(self, step: int) -> None:
        assert self.job.state_dir is not None
        trainer = self.trainer
        held, optimizer = pack_optimizer(trainer.optimizer)
        noise, random = pack_random()  # of all processes
        if not is_first():
            return
        write_state(
            self.job.state_dir,
            identity=self.identity,
            step=step,
            tensors={**_learnt(trainer.accelerator.unwrap_model(trainer.model)), **held, **noise},
            plain={
                "optimizer": optimizer,
                "schedule": trainer.lr_scheduler.state_dict(),
                "random": random,
                "journal": self.journal.told(),
                "series": self.series,
                "tokens_seen": trainer.tokens_seen,
            },
            extras={
                TRAINER_STATE: json.dumps(
                    {
                        "global_step": step,
                        "epoch": trainer.state.epoch,
                        "max_steps": trainer.state.max_steps,
                        "num_train_epochs": trainer.state.num_train_epochs,
                        "num_input_tokens_seen": trainer.state.num_input_tokens_seen,
                        "train_batch_size": trainer.state.train_batch_size,
                        "logging_steps": 1,
                    }
                )
            },
        )


def pace_of_steps(
    job: TuneJob, recipe: Any, rows: Sequence[PreparedRow], *, build: Callable[[Any, Path], Any]
) -> Pace:
    """Train a few steps on `rows`, keep nothing, and return their pace. `build` makes the trainer
    of a recipe that keeps its files in a folder.
    """
    ends: list[End] = []
    alone = replace(job, state_dir=None, check=None, check_every=None)
    most = {key: MOST_STEPS for key in ("epochs", "max_steps") if hasattr(recipe, key)}
    short = recipe.model_copy(update=most)

    def note(_: TrainProgress) -> None:
        if not note_end(ends):
            training.journal.is_stopped = True

    training = Training(alone, short, rows, tuner="", numbers={}, report=note)
    with scratch(job.out_dir) as folder:
        training.run(lambda home: build(short, home), folder=folder)
    return pace_of(ends, threads=timed_threads(recipe))


def well_behaved(trainer_class: Any) -> Any:
    """Return a trainer that takes its rows as they are, tells nobody, counts tokens, and goes on
    from a state of ours, `state_before`.
    """

    class WellBehaved(trainer_class):  # type: ignore[misc] # trl is untyped
        tokens_seen = 0
        state_before: State | None = None
        collected: Any = None
        """All weights, where each process holds a part of them."""

        def collect(self) -> None:
            """Bring the weights together; all processes call this together."""
            if is_sharded(self):
                self.collected = self.accelerator.get_state_dict(self.model_wrapped)

        def _send_telemetry(self) -> None:
            """Nobody is told what is trained here."""

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset  # TRL would render, tokenise, cut and drop by itself

        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(inputs, dict):
                self.tokens_seen += sum(
                    int(value.sum())
                    for name, value in inputs.items()
                    if name.endswith("attention_mask") and not name.startswith(("KL_", "prompt_"))
                )
            return super().training_step(model, inputs, *args, **kwargs)

        def _load_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            if self.state_before is not None:
                learn(self.model, self.state_before.tensors)

        def _load_optimizer_and_scheduler(self, checkpoint: Any) -> None:
            if self.state_before is not None:
                before = self.state_before
                unpack_optimizer(self.optimizer, before.tensors, before.plain["optimizer"])
                self.lr_scheduler.load_state_dict(before.plain["schedule"])

        def _load_rng_state(self, checkpoint: Any) -> None:
            if checkpoint is not None and self.state_before is not None:
                unpack_random(self.state_before.tensors, self.state_before.plain["random"])

    return WellBehaved


def shared_settings(recipe: Any, *, steps: int, on_cpu: bool) -> dict[str, Any]:
    """Return what every trainer is told, with nothing left to TRL's defaults that matters."""
    return {
        "num_train_epochs": recipe.epochs,
        "max_steps": steps if getattr(recipe, "max_steps", None) else -1,
        "gradient_accumulation_steps": recipe.gradient_accumulation,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": warmup_of(recipe, steps=steps),
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        # The weights are in the recipe's dtype and the adapter in float32 already: autocasting
        # would compute in a third way. TRL turns both of these on by itself.
        "bf16": False,
        "fp16": False,
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "use_cpu": on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "save_strategy": "no",
        "report_to": "none",
        "push_to_hub": False,
        "disable_tqdm": True,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would log the mean of the steps before as the loss
        "seed": recipe.seed or 0,
    }


def _learnt(model: Any) -> dict[str, Any]:
    return {f"model.{name}": p.detach() for name, p in model.named_parameters() if p.requires_grad}


def learn(model: Any, tensors: Mapping[str, Any]) -> None:
    """Put back the weights that a state holds."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(tensors[f"model.{name}"])


def is_sharded(trainer: Any) -> bool:
    """Tell whether each process holds a part of the weights only: then no state is kept."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)


def forget_reference(model: Any) -> None:
    """Have the reference be the base: TRL's copy of the adapter, where it made one, is dropped."""
    if "ref" in getattr(model, "peft_config", {}):
        model.delete_adapter("ref")


def _watcher(training: Training) -> Any:
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):  # type: ignore[misc] # transformers is not followed
        """Passes every step on."""

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            logs = kwargs.get("logs") or {}
            if "loss" not in logs:
                return
            with kept_randomness():  # what is done meanwhile must not change what is trained
                if not training.logged(state, logs):
                    control.should_training_stop = True

    return Watcher()

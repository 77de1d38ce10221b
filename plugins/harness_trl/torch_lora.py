"""The tuner `torch-lora`: a lean loop for CPUs and single GPUs. Knows nothing of prompts.

What makes it fast on a CPU: batches of rows of like length; what they begin with alike computed
once; no attention mask (a row's padding stands behind all that attends); the output layer only
where a token is learnt; computing in bfloat16 where the hardware can, while the optimiser keeps
what it trains in float32; no metrics.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harness_transformers.encoding import IGNORED

from harness import BackendError, PreparedRow, TrainProgress, TrainResult, TuneEstimate, TuneJob
from harness_trl.estimating import estimate_sft, timed_threads
from harness_trl.failures import explained
from harness_trl.guests import kept_randomness, quiet_libraries
from harness_trl.journal import Journal
from harness_trl.pacing import MOST_STEPS, End, Pace, note_end, pace_of
from harness_trl.pictures import Pictures, pictures_of
from harness_trl.recipe import Recipe, batching_of, read_recipe, refuse_devices, warmup_of
from harness_trl.rows import check_rows, prepare_rows, supervised_tokens
from harness_trl.saving import save_artifact, write_artifact
from harness_trl.shared_prefix import can_share, keys_of, shared_length
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

POOL = 8
"""Batches whose rows are sorted by length together: more wastes less padding, and mixes less."""


class TorchLora:
    """LoRA, DoRA, QLoRA or all weights by plain torch. The same job and seed give equal bytes."""

    def steps(self, job: TuneJob, rows: Sequence[PreparedRow]) -> int:
        """Return how many steps the training will have."""
        recipe = read_recipe(job)
        return batching_of(recipe).steps(len(rows), epochs=recipe.epochs)

    def prepare(self, job: TuneJob) -> Sequence[PreparedRow]:
        """Return the rows as token ids and labels."""
        return prepare_rows(job)

    def estimate(self, job: TuneJob, rows: Sequence[PreparedRow]) -> TuneEstimate:
        """Return steps, memory and time, the last from a few steps of the real model."""
        recipe = read_recipe(job)

        def timed(some: Sequence[PreparedRow]) -> Pace:
            ends: list[End] = []
            with explained(recipe), kept_randomness(), quiet_libraries():
                loop = Loop(
                    trainable_model(job, recipe),
                    some,
                    recipe=recipe,
                    batches=[range(len(some))] * MOST_STEPS,
                    pictures=pictures_of(job),
                )
                loop.run(lambda *_: note_end(ends))
            return pace_of(ends, threads=timed_threads(recipe))

        return estimate_sft(job, recipe, rows, timed=timed, lean=True)

    def train(
        self,
        job: TuneJob,
        rows: Sequence[PreparedRow],
        *,
        report: Callable[[TrainProgress], None],
    ) -> TrainResult:
        """Train on `rows`, reporting every step, and write the artifact when it is done."""
        import torch

        refuse_devices(job, tuner="torch-lora")
        recipe = read_recipe(job)
        check_rows(rows, max_length=recipe.max_length)
        identity = identity_of("torch-lora", job, recipe, rows)
        state = read_state(job.state_dir, identity=identity)
        with explained(recipe), kept_randomness(), quiet_libraries():
            model = trainable_model(job, recipe)
            # Dropout draws from the global generator.
            torch.manual_seed(recipe.seed or 0)
            loop = Loop(model, rows, recipe=recipe, pictures=pictures_of(job))

            def write(folder: Any) -> None:
                with loop.raised():
                    write_artifact(
                        model, job, recipe=recipe, rows=rows, folder=folder, losses=journal.losses
                    )

            def keep(step: int) -> None:
                assert job.state_dir is not None
                tensors, plain = loop.pack()
                plain["journal"] = journal.told()
                write_state(
                    job.state_dir, identity=identity, step=step, tensors=tensors, plain=plain
                )

            journal = Journal(
                job, recipe, report=report, write=write, keep=keep if job.state_dir else None
            )
            if state is not None:
                loop.go_on_from(state)
                journal.recall(state.plain["journal"])

            def each_step(step: int, loss: float) -> bool:
                return journal.step(step=step, steps=loop.steps, loss=loss, tokens=loop.tokens)

            loop.run(each_step)
            with loop.raised():
                return save_artifact(
                    model,
                    job,
                    recipe=recipe,
                    rows=rows,
                    metrics=journal.summary(epochs=recipe.epochs),
                    losses=journal.losses,
                )


class Loop:
    """A training in memory: what is trained, its optimiser, its schedule, and where it stands.

    `batches` are row indices a step (default: planned from the recipe's seed).
    """

    def __init__(
        self,
        model: Any,
        rows: Sequence[PreparedRow],
        *,
        recipe: Recipe,
        batches: Sequence[Sequence[int]] | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        import torch
        from transformers import get_cosine_schedule_with_warmup

        self.model, self._rows, self._recipe = model, rows, recipe
        self._pictures = pictures
        batching = batching_of(recipe)
        self._batch_size = batching.batch_size
        self._batches = batches or plan_batches(
            [len(r.input_ids) for r in rows],
            batch_size=batching.rows,
            epochs=recipe.epochs,
            seed=recipe.seed or 0,
        )
        self.steps, self.done, self.tokens = len(self._batches), 0, 0
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._masters = [p.detach().float().clone().requires_grad_() for p in self._trained]
        self._dtype = compute_dtype(model, recipe)
        for parameter in self._trained:
            parameter.data = parameter.data.to(self._dtype)  # a fifth of a step on a CPU
        if recipe.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self._shares = pictures is None and can_share(model, recipe)
        self._optimizer = torch.optim.AdamW(
            self._masters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        warmup = warmup_of(recipe, steps=self.steps)
        self._schedule = get_cosine_schedule_with_warmup(self._optimizer, warmup, self.steps)

    def run(self, each_step: Callable[[int, float], bool]) -> None:
        """Train to the end, or until `each_step` (told the step and its loss) returns False."""
        while self.done < self.steps:
            loss = self._step([self._rows[i] for i in self._batches[self.done]])
            self.done += 1
            with kept_randomness():  # what is done meanwhile must not change what is trained
                goes_on = each_step(self.done, loss)
            if not goes_on:
                return

    def _step(self, rows: Sequence[PreparedRow]) -> float:
        import torch

        learnt = sum(supervised_tokens(r) for r in rows)
        total = 0.0
        for start in range(0, len(rows), self._batch_size):
            some = rows[start : start + self._batch_size]
            loss = supervised_loss(self.model, some, pictures=self._pictures, shares=self._shares)
            if len(some) < len(rows):  # a step's loss is the mean over all its tokens
                loss = loss * (sum(supervised_tokens(r) for r in some) / learnt)
            total += loss.item()
            loss.backward()
        for master, parameter in zip(self._masters, self._trained, strict=True):
            # None for a weight that none of these rows came by
            master.grad = None if parameter.grad is None else parameter.grad.to(master.dtype)
            parameter.grad = None
        torch.nn.utils.clip_grad_norm_(self._masters, self._recipe.max_grad_norm)
        self._optimizer.step()
        self._schedule.step()
        with torch.no_grad():
            for parameter, master in zip(self._trained, self._masters, strict=True):
                parameter.copy_(master)
        self.tokens += sum(len(r.input_ids) for r in rows)
        return total

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Let the model hold the optimiser's own float32 numbers, to be written."""
        kept = [p.data for p in self._trained]
        for parameter, master in zip(self._trained, self._masters, strict=True):
            parameter.data = master.data
        try:
            yield
        finally:
            for parameter, data in zip(self._trained, kept, strict=True):
                parameter.data = data

    # ------------------------------------------------------------ going on

    def pack(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return all that the next step depends on: tensors, and plain values."""
        tensors, optimizer = pack_optimizer(self._optimizer)
        more, chance = pack_random()
        masters = {f"master.{index}": master for index, master in enumerate(self._masters)}
        schedule = self._schedule.state_dict()
        plain = {"optimizer": optimizer, "random": chance, "schedule": schedule}
        return {**tensors, **more, **masters}, {**plain, "tokens": self.tokens}

    def go_on_from(self, state: State) -> None:
        """Stand where `state` stood."""
        import torch

        self.done, self.tokens = state.step, int(state.plain["tokens"])
        with torch.no_grad():
            for index, master in enumerate(self._masters):
                master.copy_(state.tensors[f"master.{index}"])
                self._trained[index].copy_(master)
        unpack_optimizer(self._optimizer, state.tensors, state.plain["optimizer"])
        self._schedule.load_state_dict(state.plain["schedule"])
        unpack_random(state.tensors, state.plain["random"])


def compute_dtype(model: Any, recipe: Recipe) -> Any:
    """Return the torch dtype that a step computes in."""
    import torch

    from harness_trl.base import dtype_of

    if recipe.method == "full":
        return getattr(torch, dtype_of(recipe))
    return model.get_input_embeddings().weight.dtype


def plan_batches(
    lengths: Sequence[int], *, batch_size: int, epochs: int, seed: int
) -> list[list[int]]:
    """Return row indices by batch for all epochs: shuffled, with rows of like length together."""
    chance = random.Random(seed)
    planned: list[list[int]] = []
    for _ in range(epochs):
        order = list(range(len(lengths)))
        chance.shuffle(order)
        epoch: list[list[int]] = []
        for start in range(0, len(order), batch_size * POOL):
            pool = sorted(order[start : start + batch_size * POOL], key=lengths.__getitem__)
            epoch += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        chance.shuffle(epoch)
        planned += epoch
    return planned


def supervised_loss(
    model: Any,
    rows: Sequence[PreparedRow],
    *,
    pictures: Pictures | None = None,
    shares: bool = False,
) -> Any:
    """Return the mean loss over the supervised tokens of `rows`, as a tensor. With `shares`, what
    they begin with alike is computed once.
    """
    import torch

    device = next(model.parameters()).device
    width = max(len(r.input_ids) for r in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for index, row in enumerate(rows):
        ids[index, : len(row.input_ids)] = torch.tensor(row.input_ids)
        labels[index, : len(row.labels)] = torch.tensor(row.labels)
    ids, labels = ids.to(device), labels.to(device)
    # A position predicts the token after it.
    wanted = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    is_learnt = wanted != IGNORED
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    pixels = pictures.of(rows, model=model) if pictures else {}
    start, known = shared_length(rows) if shares else 0, {}
    if start:
        with _head_only_at(inner, torch.zeros(1, start, dtype=torch.bool, device=device)):
            known = {"past_key_values": keys_of(model, ids[:1, :start], rows=len(rows))}
    with _head_only_at(inner, is_learnt[:, start:]):
        logits = model(input_ids=ids[:, start:], use_cache=bool(start), **known, **pixels).logits
    if logits.shape[:2] != (1, int(is_learnt.sum())):
        raise BackendError(
            f"{type(inner).__name__} computes its logits in a way that torch-lora does not know. "
            'Set tuner = "trl-sft" in task.toml.'
        )
    return torch.nn.functional.cross_entropy(logits[0].float(), wanted[is_learnt])


@contextlib.contextmanager
def _head_only_at(model: Any, positions: Any) -> Iterator[None]:
    """Feed the output layer only the hidden states at `positions`, as one row.

    By a hook on the layer, so that what a model does after it (scaling, soft caps) stays.
    """

    def choose(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0][positions].unsqueeze(0), *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        yield
    finally:
        handle.remove()

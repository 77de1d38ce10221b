"""The tuner `torch-lora`: a lean loop for CPUs and single GPUs. Knows nothing of prompts.

What makes it fast on a CPU: batches of rows of like length; no attention mask (a row's padding
stands behind all that attends); the output layer only where a token is learnt; computing in
bfloat16 where the hardware can, while the optimiser keeps the adapter in float32; no metrics.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harness_transformers.encoding import IGNORED

from harness import BackendError, PreparedRow, TrainProgress, TrainResult, TuneJob
from harness_trl.adapter import explained, lora_model, save_artifact
from harness_trl.recipe import Recipe, read_recipe, warmup_of
from harness_trl.rows import check_rows, prepare_rows

POOL = 8
"""Batches whose rows are sorted by length together: more wastes less padding, and mixes less."""


class TorchLora:
    """LoRA by plain torch. The same job and seed give the same adapter, bit for bit."""

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
        """Train an adapter on `rows`, reporting every step, and write it when it is done."""
        import torch

        recipe = read_recipe(job)
        check_rows(rows, max_length=recipe.max_length)
        model = lora_model(job, recipe)
        # Dropout draws from the global generator.
        with explained(recipe), torch.random.fork_rng():
            torch.manual_seed(recipe.seed or 0)
            metrics = fit(model, rows, recipe=recipe, report=report)
        return save_artifact(model, job, recipe=recipe, rows=rows, metrics=metrics)


def fit(
    model: Any,
    rows: Sequence[PreparedRow],
    *,
    recipe: Recipe,
    report: Callable[[TrainProgress], None],
) -> dict[str, float]:
    """Train the adapter of `model` in place and return the numbers of it."""
    import torch
    from transformers import get_cosine_schedule_with_warmup

    trainable = [p for p in model.parameters() if p.requires_grad]
    masters = [p.detach().clone().requires_grad_() for p in trainable]
    lower(trainable, dtype=model.get_input_embeddings().weight.dtype)
    optimizer = torch.optim.AdamW(
        masters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    batches = plan_batches(
        [len(r.input_ids) for r in rows],
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        seed=recipe.seed or 0,
    )
    steps = len(batches)
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup_of(recipe, steps=steps), steps)
    losses: list[float] = []
    tokens, began = 0, time.monotonic()
    for step, batch in enumerate(batches, start=1):
        loss = supervised_loss(model, [rows[i] for i in batch])
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise BackendError(
                f"the loss is {losses[-1]} at step {step} of {steps}: nothing was written. "
                f"Lower learning_rate (now {recipe.learning_rate}) in the recipe."
            )
        loss.backward()
        for master, parameter in zip(masters, trainable, strict=True):
            master.grad, parameter.grad = parameter.grad.to(master.dtype), None
        torch.nn.utils.clip_grad_norm_(masters, recipe.max_grad_norm)
        optimizer.step()
        schedule.step()
        copy_into(trainable, masters)
        tokens += sum(len(rows[i].input_ids) for i in batch)
        seconds = time.monotonic() - began
        report(
            TrainProgress(step=step, steps=steps, loss=losses[-1], tokens=tokens, seconds=seconds)
        )
    lower(trainable, dtype=torch.float32)
    copy_into(trainable, masters)
    return summary(losses, epochs=recipe.epochs, tokens=tokens, seconds=time.monotonic() - began)


def lower(parameters: Sequence[Any], *, dtype: Any) -> None:
    """Compute with `parameters` in `dtype`: a fifth of a step on a CPU with bfloat16."""
    for parameter in parameters:
        parameter.data = parameter.data.to(dtype)


def copy_into(parameters: Sequence[Any], masters: Sequence[Any]) -> None:
    """Round the optimiser's own values to what is computed with."""
    import torch

    with torch.no_grad():
        for parameter, master in zip(parameters, masters, strict=True):
            parameter.copy_(master)


def summary(
    losses: Sequence[float], *, epochs: int, tokens: int, seconds: float
) -> dict[str, float]:
    """Return the metrics of a finished training; `final_loss` is the mean of the last epoch."""
    last = losses[-max(1, len(losses) // epochs) :]
    return {
        "steps": float(len(losses)),
        "first_loss": losses[0],
        "final_loss": sum(last) / len(last),
        "tokens": float(tokens),
        "train_s": seconds,
        "tokens_per_s": tokens / max(seconds, 1e-9),
    }


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


def supervised_loss(model: Any, rows: Sequence[PreparedRow]) -> Any:
    """Return the mean loss over the supervised tokens of `rows`, as a tensor."""
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
    with _head_only_at(model.get_base_model(), is_learnt):
        logits = model(input_ids=ids, use_cache=False).logits
    if logits.shape[:2] != (1, int(is_learnt.sum())):
        raise BackendError(
            f"{type(model.get_base_model()).__name__} computes its logits in a way that torch-lora "
            'does not know. Set tuner = "trl-sft" in task.toml.'
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

"""What a step costs: `torch-lora`, `trl-sft`, and TRL's own trainer with the same settings.

    python -m tests.bench.tuners            # SmolLM2-135M, two minutes and more on two cores
    python -m tests.bench.tuners --rows mixed --steps 16    # rows of 60 to 400 tokens

Seconds are the process's own (both cores together), medians (for mixed rows means) over the steps
after the first of trainings that take turns, so that what else the machine does counts for little.
Each has the same rows, length, precision and adapter; TRL's own has no callback of ours.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness_trl.torch_lora import plan_batches

from harness import Message, PreparedRow, TrainingRow, TuneJob

WORDS = (
    "how many slow requests did each customer make in last two hours by status code region host "
    "service trace error average longest per minute since deploy where name contains retry queue"
)
TEXT = "How many slow requests did each customer make in the last two hours, by status code? "


def mixed_rows(count: int, *, seed: int = 0) -> tuple[TrainingRow, ...]:
    """Rows of many lengths, as questions with a passage have: about 60 to 400 tokens, the middle at
    120 (lognormal); words drawn, so that no two begin alike behind the system prompt.
    """
    chance = random.Random(seed)
    made = []
    for index in range(count):
        words = round(min(350, max(15, chance.lognormvariate(math.log(75), 0.7))))
        made.append(
            TrainingRow(
                case_id=f"m{index}",
                messages=(
                    Message(role="system", content="Translate the question into a query."),
                    Message(role="user", content=" ".join(chance.choices(WORDS.split(), k=words))),
                ),
                completion=f'{{"calculations": [{{"op": "COUNT"}}], "limit": {index}}}',
            )
        )
    return tuple(made)


def padded_share(lengths: Sequence[int], *, batch_size: int, by_length: bool) -> float:
    """Return how many positions are computed for one token: in batches of rows as they come, padded
    to their longest, or in those that `torch-lora` plans.
    """
    if by_length:
        batches = plan_batches(lengths, batch_size=batch_size, epochs=1, seed=0)
    else:
        order = list(range(len(lengths)))
        random.Random(0).shuffle(order)
        batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return sum(len(b) * max(lengths[i] for i in b) for b in batches) / sum(lengths)


def rows_of(count: int) -> tuple[TrainingRow, ...]:
    """Rows of about 90 tokens, as the fixture task has, no two alike."""
    return tuple(
        TrainingRow(
            case_id=f"r{index}",
            messages=(
                Message(role="system", content="Translate the question into a query."),
                Message(role="user", content=TEXT * (1 + index % 2) + f"Show {index}."),
            ),
            completion=f'{{"calculations": [{{"op": "COUNT"}}], "limit": {index}}}',
        )
        for index in range(count)
    )


def bare(job: TuneJob, rows: Sequence[PreparedRow], note: Callable[[], None]) -> None:
    """TRL's trainer as its manual has it, with the settings of our recipe."""
    from datasets import Dataset
    from harness_transformers.models import find_model, load_model, load_tokenizer
    from harness_trl.base import dtype_of
    from harness_trl.guests import guest_manners
    from harness_trl.recipe import read_recipe, warmup_of
    from peft import LoraConfig
    from transformers import PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):  # type: ignore[misc] # transformers is not followed
        def on_step_end(self, *_: Any, **__: Any) -> None:
            note()

    recipe = read_recipe(job)
    path = find_model(job.base)
    model = load_model(path, dtype=dtype_of(recipe))
    model.set_attn_implementation("eager")  # as ours: the fused one is slower backwards on a CPU
    with guest_manners():
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=str(job.out_dir),
                num_train_epochs=recipe.epochs,
                per_device_train_batch_size=recipe.batch_size,
                learning_rate=recipe.learning_rate,
                lr_scheduler_type="cosine",
                warmup_steps=warmup_of(recipe, steps=len(rows) // recipe.batch_size),
                max_length=recipe.max_length,
                completion_only_loss=True,
                bf16=False,
                gradient_checkpointing=False,
                use_cpu=True,
                dataloader_pin_memory=False,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_steps=1,
                seed=0,
            ),
            train_dataset=Dataset.from_list(
                [{"input_ids": list(r.input_ids), "labels": list(r.labels)} for r in rows]
            ),
            processing_class=load_tokenizer(path),
            peft_config=LoraConfig(
                r=recipe.rank,
                lora_alpha=recipe.alpha,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Clock())
        trainer.train()


def measure(
    model: str, *, steps: int, turns: int, dtype: str, kind: str = "equal"
) -> dict[str, float]:
    """Return the median seconds of a step by who made it, and what the plan had said."""
    from harness_trl import harness_tuners

    took: dict[str, list[float]] = {}
    said: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        job = TuneJob(
            base=model,
            rows=(mixed_rows if kind == "mixed" else rows_of)(4 * steps),
            recipe={"epochs": 1, "batch_size": 4, "dtype": dtype},
            out_dir=Path(name) / "out",
        )
        made = {tuner: harness_tuners()[tuner]() for tuner in ("torch-lora", "trl-sft")}
        prepared = made["torch-lora"].prepare(job)
        lengths = [len(r.input_ids) for r in prepared]
        for name, by_length in (("as they come", False), ("by length", True)):
            share = padded_share(lengths, batch_size=4, by_length=by_length)
            said[f"positions a token, batches {name}"] = share
        print(f"{len(prepared)} rows of {min(lengths)} to {max(lengths)} tokens, {dtype}")
        for tuner, its in made.items():
            plan = its.estimate(job, prepared)
            said[f"{tuner}, planned wall seconds a step"] = plan.seconds / plan.steps
            said[f"{tuner}, planned memory in GB"] = plan.memory_gb
        for turn in range(turns):
            for who in ("bare TRL", "trl-sft", "torch-lora")[:: 1 if turn % 2 else -1]:
                ends: list[float] = []
                note = partial(_note, ends)
                began = time.monotonic()
                if who == "bare TRL":
                    bare(job, prepared, note)
                else:
                    result = made[who].train(job, prepared, report=note)
                    peak = result.metrics["peak_memory_gb"]
                    said[f"peak of the process up to {who}, in GB"] = peak
                    said[f"{who}, wall seconds a step"] = result.metrics["train_s"] / steps
                took.setdefault(who, []).extend(b - a for a, b in pairwise(ends))
                print(f"  {who}: {len(ends)} steps, {time.monotonic() - began:.0f} s in all")
    # rows of many lengths make steps of many lengths: the middle one would not be their measure
    middle = statistics.fmean if kind == "mixed" else statistics.median
    medians = {who: middle(times) for who, times in took.items()}
    ratio = medians["trl-sft"] / medians["bare TRL"] - 1
    lean = medians["trl-sft"] / medians["torch-lora"]
    return {
        **{f"{who}, processor seconds a step": value for who, value in medians.items()},
        "trl-sft over bare TRL in percent": 100 * ratio,
        "trl-sft over torch-lora, times": lean,
        **said,
    }


def _note(ends: list[float], *_: Any) -> None:
    ends.append(time.process_time())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rows", default="equal", choices=["equal", "mixed"])
    args = parser.parse_args()
    found = measure(
        args.model, steps=args.steps, turns=args.turns, dtype=args.dtype, kind=args.rows
    )
    for name, value in found.items():
        print(f"{name}: {value:.3f}")


if __name__ == "__main__":
    main()

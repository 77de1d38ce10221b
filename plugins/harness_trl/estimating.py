"""What a training will need: steps, memory, time. Trains nothing but the steps of a probe.

Memory is reckoned, time is measured: a few steps of the real model on rows of middling length.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness import HarnessError, PreparedRow, TuneEstimate, TuneJob
from harness_trl.base import (
    count_parameters,
    device_of,
    dtype_of,
    makes_whole_model,
    model_folder,
    parts_of_job,
    tensor_shapes,
)
from harness_trl.pacing import Pace, pace_told
from harness_trl.recipe import Batching, Recipe, batching_of
from harness_trl.rows import supervised_tokens

LIBRARIES_GB = 0.7
"""What a process holds once torch, transformers and peft are imported (measured, Linux, CPU)."""
PROBE_UP_TO = 2e9
"""Parameters up to which a model is loaded to time steps of it, where there is no GPU."""
TILE_POSITIONS, TILE_WORDS = 4096, 32768
"""The tiles in which TRL 1.16 computes log-probabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes, by what they hold."""

    weights: float
    trained: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.trained + self.activations + self.logits


def estimate_sft(
    job: TuneJob,
    recipe: Recipe,
    rows: Sequence[PreparedRow],
    *,
    timed: Callable[[Sequence[PreparedRow]], Pace],
    lean: bool,
) -> TuneEstimate:
    """Return what training on `rows` needs. `timed` trains a few steps on some rows and returns
    their pace; `lean` tells `torch-lora` from a trainer.
    """
    batching = batching_of(recipe, devices=job.devices)
    steps = batching.steps(len(rows), epochs=recipe.epochs)
    tokens = sum(len(r.input_ids) for r in rows) * recipe.epochs
    some = middling(rows, batching.rows // batching.devices)
    share = sum(len(r.input_ids) for r in some) * batching.devices / (tokens / steps)
    return estimate(
        job,
        recipe,
        steps=steps,
        data=f"{many(len(rows), 'row')}, {tokens:,} tokens in {many(recipe.epochs, 'epoch')}, "
        f"{many(steps, 'step')} of {_dealt(batching)}",
        memory=memory_of(job, recipe, held_by_sft(job, recipe, rows, lean=lean), lean=lean),
        timed=lambda: timed(some).times(1 / share),
        what=f"{len(some)} rows of middling length",
    )


def estimate(
    job: TuneJob,
    recipe: Recipe,
    *,
    steps: int,
    data: str,
    memory: Memory,
    timed: Callable[[], Pace],
    what: str,
) -> TuneEstimate:
    """Return an estimate. `timed` trains a few steps, and returns the pace of a step like most;
    `data` and `what` (a timed step was made of) are words for a person.
    """
    parameters = count_parameters(model_folder(job))
    on_cpu = device_of(recipe) == "cpu"
    pace = None
    if on_cpu and parameters > PROBE_UP_TO:
        how = f"time is not known: {counted(parameters)} parameters are not loaded to tell"
    else:
        try:
            pace = timed()
            how = pace_told(pace, what=what)
            pace = pace.times(steps)
        except HarnessError as exc:  # as for want of memory: the plan is what tells
            how = f"time is not known: a few steps of it failed: {exc}"
    total_gb = memory.total / 1e9 + (LIBRARIES_GB if on_cpu else 0)
    needs = (
        f"memory: weights {sized(memory.weights)}, what is trained {sized(memory.trained)}, layers "
        f"at the longest batch {sized(memory.activations)}, logits {sized(memory.logits)}"
        f"{f', libraries {LIBRARIES_GB} GB' if on_cpu else ''}; reckoned, right within a factor of "
        "1.5"
    )
    return TuneEstimate(
        steps=steps,
        seconds=None if pace is None else pace.seconds,
        least_seconds=None if pace is None else pace.least_seconds,
        memory_gb=total_gb,
        cost_usd=0.0,
        facts=(*facts_of(job, recipe, parameters=parameters), data, needs, how),
    )


def middling(rows: Sequence[PreparedRow], count: int) -> Sequence[PreparedRow]:
    """Return `count` rows of middling length."""
    ordered = sorted(rows, key=row_length)
    start = max(0, (len(ordered) - count) // 2)
    return ordered[start : start + count]


def row_length(row: PreparedRow) -> int:
    """Return the tokens of a row, of the longer reply of two."""
    return max(len(row.input_ids), len(row.rejected_ids))


def many(number: int, noun: str) -> str:
    """Return `1 step`, `2 steps`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _dealt(batching: Batching) -> str:
    parts = [f"{batching.batch_size} at once"]
    if batching.accumulation > 1:
        parts.append(f"{batching.accumulation} times accumulated")
    if batching.devices > 1:
        parts.append(f"on {batching.devices} devices")
    rows = many(batching.rows, "row")
    return f"{rows} ({', '.join(parts)})" if len(parts) > 1 else rows


def counted(number: float) -> str:
    """Return `98,624`, `134.5 million`, `7.2 billion`: three or four digits that tell."""
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.1f} {name}"
    return f"{number:,.0f}"


def sized(number: float) -> str:
    """Return so many bytes as `0.3 MB` or `1.25 GB`."""
    return f"{number / 1e9:.2f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"


def timed_threads(recipe: Recipe) -> int | None:
    """Return how many threads compute a step, None where it is not processors that do."""
    import torch

    return torch.get_num_threads() if device_of(recipe) == "cpu" else None


def facts_of(job: TuneJob, recipe: Recipe, *, parameters: int) -> tuple[str, ...]:
    """Return what was chosen for this model and what the recipe said itself, a line each."""
    named: tuple[str, ...] = (
        "learning_rate",
        "rank",
        "alpha",
        "batch_size",
        "gradient_accumulation",
        "epochs",
    )
    named += ("max_length", "gradient_checkpointing")
    if recipe.method == "full":
        named = tuple(name for name in named if name not in ("rank", "alpha"))
    chosen = [f"{n} = {_toml(getattr(recipe, n))}" for n in named if n not in job.recipe]
    said = [f"{n} = {_toml(v)}" for n, v in job.recipe.items()]
    kind = "a whole model" if makes_whole_model(job, recipe) else "an adapter"
    first = (
        f"{job.base}: {counted(parameters)} parameters; method {recipe.method} makes "
        f"{kind}, in {dtype_of(recipe)} on {device_of(recipe)}"
    )
    lines = [first]
    if chosen:
        lines.append(f"chosen for this size: {', '.join(chosen)}")
    if said:
        lines.append(f"said by the recipe: {', '.join(said)}")
    if recipe.method == "qlora":
        lines.append(
            "the adapter is made on a base in 4 bits, and local: serves it on the base in full "
            "precision: let the evals decide"
        )
    return tuple(lines)


def _toml(value: Any) -> str:
    return json.dumps(value) if not isinstance(value, float) else f"{value:g}"


# ---------------------------------------------------------------- memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a step keeps for its way back at once: `rows` padded to `length`, of which `learnt`
    positions are supervised, and how the output layer is computed: at the positions that are
    learnt (`lean`), at all of them in TRL's `tiles`, `whole`, or not at all (`none`).
    """

    rows: int
    length: int
    learnt: int
    head: Literal["lean", "tiles", "whole", "none"]
    copies: int = 0
    """Frozen copies of what is trained: a reference that is an adapter."""


def held_by_sft(job: TuneJob, recipe: Recipe, rows: Sequence[PreparedRow], *, lean: bool) -> Held:
    """Return what a step of SFT keeps, at the longest batch."""
    size = batching_of(recipe, devices=job.devices).batch_size
    longest = sorted((len(r.input_ids) for r in rows), reverse=True)[:size]
    learnt = sorted((supervised_tokens(r) for r in rows), reverse=True)[:size]
    return Held(
        rows=len(longest),
        length=longest[0],
        learnt=sum(learnt),
        head="lean" if lean else "tiles",
    )


def memory_of(job: TuneJob, recipe: Recipe, held: Held, *, lean: bool = False) -> Memory:
    """Return the bytes that a training holds at its peak, libraries apart.

    Adam keeps two float32 numbers beside each trained one, its gradient and itself (16 bytes, as
    in Rajbhandari et al. 2020, "ZeRO", section 3.1); `torch-lora` computes with copies.
    """
    folder = parts_of_job(job).model
    shapes = tensor_shapes(folder)
    width = 2 if dtype_of(recipe) == "bfloat16" else 4
    total = count_parameters(folder)
    trained: float
    if recipe.method == "full":
        weights, trained = float((width if lean else 4) * total), total
    else:
        adapted = [s for n, s in shapes.items() if _is_adapted(n, s, recipe)]
        trained = sum(recipe.rank * (s[0] + s[1]) for s in adapted)
        weights = width * total
        if recipe.method == "qlora":  # 4 bits, and a scale of 8 bits for each 64 of them
            inner = sum(math.prod(s) for s in adapted)
            weights = weights - inner * width + inner * (0.5 + 1 / 64)
    copies = 2 * width if lean else 0  # the copy that is computed with, and its gradient
    if lean and recipe.method == "full":
        copies = width
    model = _config(folder)
    return Memory(
        weights=weights,
        trained=trained * (16 + copies + 4 * held.copies),
        activations=held.rows
        * held.length
        * activation_bytes(model, recipe, width=width, length=held.length, lean=lean),
        logits=logit_bytes(
            held, vocabulary=model["vocab_size"], width=width, on_cpu=device_of(recipe) == "cpu"
        ),
    )


def logit_bytes(held: Held, *, vocabulary: int, width: int, on_cpu: bool) -> float:
    """Return what the output layer and the loss hold at once.

    TRL 1.16 computes its losses in tiles of at most 4096 positions and 32768 words, in float32,
    which it allocates at full width; without Triton, as on a CPU, it takes all positions, and
    seven copies of what it folds (counted in its kernels/chunked_logprob.py, and measured).
    """
    positions = held.rows * held.length
    if held.head == "none":
        return 0.0
    if held.head == "lean":
        return float(held.learnt * vocabulary * (width + 4 + 4 + 4))
    if held.head == "whole":
        return float(positions * vocabulary * (width + 3 * 4))
    copies = 7 * min(vocabulary, TILE_WORDS) if on_cpu else TILE_WORDS
    return float(
        min(TILE_POSITIONS, positions if on_cpu else held.learnt) * 4 * (TILE_WORDS + copies)
    )


def activation_bytes(
    model: dict[str, Any], recipe: Recipe, *, width: int, length: int, lean: bool
) -> float:
    """Return what all layers keep of one position for the way back, for a gated transformer.

    Counted as in Korthikanti et al. 2022 ("Reducing Activation Recomputation in Large Transformer
    Models", section 4: what each operation needs of its input), for RMS norms (a float32 and a
    narrow copy), attention whose scores are kept (wide and narrow), and a gated network of three
    products. An adapter in another precision than its layer keeps a copy of each input.
    """
    hidden, inner = model["hidden_size"], model.get("intermediate_size") or 4 * model["hidden_size"]
    heads = model["num_attention_heads"]
    layers = model["num_hidden_layers"]
    kept_of_norms = 2 * hidden * (4 + 4 + width)
    kept_of_attention = 6 * hidden * width + heads * length * (4 + 2 * width)
    kept_of_network = (2 * hidden + 4 * inner) * width
    low_rank = 0
    if recipe.method != "full" and width == 2 and not lean:
        low_rank = (4 * hidden + inner) * 4
    if recipe.dropout > 0 and recipe.method != "full":
        low_rank += (4 * hidden + inner) * 5
    a_layer: float = kept_of_norms + kept_of_attention + kept_of_network + low_rank
    if recipe.gradient_checkpointing:
        return float(layers * hidden * width + a_layer)
    return float(layers * a_layer)


def _is_adapted(name: str, shape: Sequence[int], recipe: Recipe) -> bool:
    parts = name.removesuffix(".weight").rsplit(".", 1)
    if len(shape) != 2 or "embed" in name or parts[-1] == "lm_head":
        return False
    return recipe.targets == "all-linear" or parts[-1] in recipe.targets


def _config(folder: Path) -> dict[str, Any]:
    plain = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    found = plain.get("text_config", plain)
    return {**found, "vocab_size": found.get("vocab_size", plain.get("vocab_size", 0))}

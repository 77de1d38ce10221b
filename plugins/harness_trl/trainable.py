"""Loads a model to be trained: a fresh adapter, one to go on with, or all weights.

Knows nothing of how it is trained.
"""

from __future__ import annotations

import importlib.util
import re
from typing import Any

from harness_transformers.artifacts import Parts
from harness_transformers.models import auto_class, load_model, merge_adapter, require_peft
from harness_transformers.vision import language_layers

from harness import MissingExtra, RecipeError, TuneJob
from harness_trl.base import device_of, dtype_of, parts_of_job
from harness_trl.guests import no_telemetry, quiet_libraries
from harness_trl.recipe import Recipe


def trainable_model(job: TuneJob, recipe: Recipe, *, task_type: str = "CAUSAL_LM") -> Any:
    """Return the model in training mode on the recipe's device, what is frozen frozen.

    Seeded by the recipe. `method = "full"` gives all weights in float32; every other an adapter in
    float32 on frozen weights in the dtype of the recipe, or in 4 bits. `task_type` is peft's.
    Raises RecipeError where `targets` names no layer of the model, or where the recipe and the
    adapter in `job.start` are of different kinds; MissingExtra for 4 bits without bitsandbytes.
    """
    import torch

    require_peft()
    parts = parts_of_job(job)
    with torch.random.fork_rng(), no_telemetry(), quiet_libraries():
        torch.manual_seed(recipe.seed or 0)
        model = _frozen(parts, recipe, task_type=task_type)
        if model.device.type == "cpu":
            # The fused attention of torch 2.13 is slow backwards on a CPU: a quarter of a step.
            model.set_attn_implementation("eager")
        if recipe.method == "full":
            if parts.adapter is not None:
                model = merge_adapter(model, parts.adapter)
            model.requires_grad_(True)
        elif parts.adapter is not None:
            model = _went_on(model, parts, job, recipe)
        else:
            model = _adapted(model, job, recipe, task_type=task_type)
    return model.train()


def _frozen(parts: Parts, recipe: Recipe, *, task_type: str) -> Any:
    import torch
    import transformers

    dtype = "float32" if recipe.method == "full" else dtype_of(recipe)
    device = device_of(recipe)
    if task_type == "CAUSAL_LM" and recipe.method != "qlora":
        return load_model(parts.model, dtype=dtype, device=device).requires_grad_(False)
    more: dict[str, Any] = {}
    if recipe.method == "qlora":
        more["quantization_config"] = four_bits(dtype)
        more["device_map"] = {"": device}  # it is quantised where it will stay
    if task_type == "SEQ_CLS":
        more["num_labels"] = 1
    is_scorer = task_type == "SEQ_CLS"
    kind = transformers.AutoModelForSequenceClassification if is_scorer else auto_class(parts.model)
    model = kind.from_pretrained(
        str(parts.model),
        dtype=getattr(torch, dtype),
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        **more,
    )
    return model.to(device).requires_grad_(False)


def four_bits(dtype: str) -> Any:
    """Return how QLoRA holds a base: NF4 with doubly quantised scales (Dettmers et al. 2023)."""
    import torch
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtra('method = "qlora" (without bitsandbytes)', extra="quant")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def _adapted(base: Any, job: TuneJob, recipe: Recipe, *, task_type: str) -> Any:
    from peft import LoraConfig, get_peft_model

    language = language_layers(base)
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=recipe.targets,
        use_dora=recipe.method == "dora",
        task_type=task_type,
        # Servers take adapters of the language model; the tower and its bridge stay as they are.
        exclude_modules=None if language is None else rf"(?!{re.escape(language)}\.).*",
    )
    try:
        return get_peft_model(base, config)
    except ValueError as exc:
        layers = {n.rsplit(".", 1)[-1] for n, m in base.named_modules() if hasattr(m, "weight")}
        raise RecipeError(
            f"targets = {recipe.targets!r} do not fit {job.base}: {exc}. "
            f'Layers are {", ".join(sorted(layers))}; "all-linear" always fits.',
            keys=["targets"],
        ) from exc


def _went_on(base: Any, parts: Parts, job: TuneJob, recipe: Recipe) -> Any:
    """The very adapter of `job.start`, trainable. What the recipe says of it must be true."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(base, str(parts.adapter), is_trainable=True)
    config = model.peft_config["default"]
    if bool(getattr(config, "use_dora", False)) != (recipe.method == "dora"):
        theirs = "dora" if config.use_dora else "lora"
        raise RecipeError(
            f"method = {recipe.method!r}, but the adapter in {job.start} is of method "
            f"{theirs!r}, and a training that goes on from it stays so. Set method = {theirs!r}, "
            'or method = "full" to train all weights with it merged.',
            keys=["method"],
        )
    held = {"rank": config.r, "alpha": config.lora_alpha}
    for key, value in held.items():
        if key in job.recipe and float(getattr(recipe, key)) != float(value):
            raise RecipeError(
                f"{key} = {job.recipe[key]}, but the adapter in {job.start} has {key} = "
                f"{value}, and a training that goes on from it keeps it. Leave {key} out.",
                keys=[key],
            )
    return model

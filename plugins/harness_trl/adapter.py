"""Makes a LoRA adapter on a base model, and writes it down. Knows nothing of how it is trained.

Everything is written into a folder beside the goal and moved there when it is whole, so an
interrupted tune leaves nothing behind that looks like an artifact.
"""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from harness_transformers.artifacts import record_base
from harness_transformers.encoding import prompt_ids, stop_ids
from harness_transformers.models import (
    choose_dtype,
    find_model,
    load_model,
    load_tokenizer,
    quiet_transformers,
    template_digest,
    tokenizer_digest,
    weights_digest,
)

from harness import BackendError, PreparedRow, TrainResult, TuneJob, UsageError
from harness_trl.recipe import Recipe
from harness_trl.rows import supervised_tokens

PROBE = 'Grüße, 42 ☃\n\t{"a": [1.5, null]}  end'
_LIBRARIES = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "safetensors")


def dtype_of(recipe: Recipe) -> str:
    """Return the dtype of the frozen weights. The adapter itself is always float32.

    float16 is never chosen: it would need loss scaling.
    """
    chosen = choose_dtype() if recipe.dtype == "auto" else recipe.dtype
    return "float32" if chosen == "float16" else chosen


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence transformers, and its notes to peft and TRL of names that version 6 will drop."""
    with quiet_transformers(), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*gradient_checkpointing", category=FutureWarning
        )
        yield


def lora_model(job: TuneJob, recipe: Recipe) -> Any:
    """Return the base model, frozen, with a fresh adapter, in training mode.

    Seeded by the recipe. Raises UsageError where `targets` names no layer of the model.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    base = load_model(find_model(job.base, cache_dir=job.cache_dir), dtype=dtype_of(recipe))
    if base.device.type == "cpu":
        # The fused attention of torch 2.13 is slow backwards on a CPU: a quarter of a step.
        base.set_attn_implementation("eager")
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=recipe.targets,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(), quiet_libraries():
        torch.manual_seed(recipe.seed or 0)
        try:
            model = get_peft_model(base, config)
        except ValueError as exc:
            layers = {n.rsplit(".", 1)[-1] for n, m in base.named_modules() if hasattr(m, "weight")}
            raise UsageError(
                f"recipe: targets = {recipe.targets!r} do not fit {job.base}: {exc}. "
                f'Layers are {", ".join(sorted(layers))}; "all-linear" always fits.'
            ) from exc
    return model.train()


@contextlib.contextmanager
def explained(recipe: Recipe) -> Iterator[None]:
    """Turn what torch raises in a training into a BackendError that says what to do."""
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as exc:
        text = str(exc)
        short = isinstance(exc, MemoryError | torch.OutOfMemoryError)
        if short or "allocate memory" in text or "out of memory" in text.lower():
            raise BackendError(
                f"the memory does not hold batch_size = {recipe.batch_size} rows of up to "
                f"max_length = {recipe.max_length} tokens: nothing was written. Lower either of "
                "them in the recipe."
            ) from exc
        raise BackendError(f"the training failed, nothing was written: {text}") from exc


# ---------------------------------------------------------------- writing


@contextlib.contextmanager
def scratch(out_dir: Path) -> Iterator[Path]:
    """Lend a folder inside `out_dir` that is gone afterwards, whatever happens."""
    folder = out_dir / ".partial"
    was_there = out_dir.is_dir()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not was_there:
            with contextlib.suppress(OSError):  # not empty: then it holds the artifact
                out_dir.rmdir()


def save_artifact(
    model: Any,
    job: TuneJob,
    *,
    recipe: Recipe,
    rows: Sequence[PreparedRow],
    metrics: Mapping[str, float],
) -> TrainResult:
    """Write `adapter/` and `fingerprint.json` into the job's folder, and return what was made."""
    path = find_model(job.base, cache_dir=job.cache_dir)
    tokenizer = load_tokenizer(path)
    environment = describe_environment(model, recipe)
    result = TrainResult(
        base_digest=weights_digest(path),
        template_digest=template_digest(tokenizer),
        metrics={
            "rows": float(len(rows)),
            "supervised_tokens": float(sum(supervised_tokens(r) for r in rows)),
            "longest_row_tokens": float(max(len(r.input_ids) for r in rows)),
            "trainable_parameters": float(
                sum(p.numel() for p in model.parameters() if p.requires_grad)
            ),
            **metrics,
        },
        environment=environment,
    )
    with scratch(job.out_dir) as folder:
        adapter = folder / "adapter"
        # Not "auto": peft would ask a hub whether the vocabulary of the base was resized.
        with quiet_libraries():
            model.save_pretrained(
                str(adapter), safe_serialization=True, save_embedding_layers=False
            )
        (adapter / "README.md").unlink(missing_ok=True)  # an empty model card
        tokenizer.save_pretrained(str(adapter))
        _sort_lists(adapter / "adapter_config.json")
        record_base(adapter, base=job.base, base_digest=result.base_digest)
        fingerprint = folder / "fingerprint.json"
        _write_json(
            fingerprint,
            {
                **describe_tokens(tokenizer, model, job),
                "base": job.base,
                "base_digest": result.base_digest,
                "recipe": recipe.model_dump(),
                "environment": environment,
            },
        )
        goal = job.out_dir / "adapter"
        shutil.rmtree(goal, ignore_errors=True)
        fingerprint.replace(job.out_dir / "fingerprint.json")
        adapter.rename(goal)  # last: where there is an adapter, everything else is there
    return result


def describe_tokens(tokenizer: Any, model: Any, job: TuneJob) -> dict[str, Any]:
    """Return what a server must agree on to serve this artifact, probes included."""
    samples = job.rows[:3]
    return {
        "template_digest": template_digest(tokenizer),
        "tokenizer_digest": tokenizer_digest(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "stop_ids": sorted(stop_ids(tokenizer, model.get_base_model())),
        "probe": {"text": PROBE, "ids": tokenizer.encode(PROBE, add_special_tokens=False)},
        "prompts": [
            {"case_id": row.case_id, "ids": ids, "text": tokenizer.decode(ids)}
            for row in samples
            for ids in [prompt_ids(tokenizer, row.messages)]
        ],
    }


def describe_environment(model: Any, recipe: Recipe) -> dict[str, str]:
    """Return what a second run would need to be the same: versions, dtype, device, threads."""
    import torch

    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[library] = metadata.version(library)
    device = next(model.parameters()).device
    chip = torch.backends.cpu.get_cpu_capability()
    return {
        **found,
        "dtype": dtype_of(recipe),
        "device": f"cpu ({chip})" if device.type == "cpu" else torch.cuda.get_device_name(device),
        "threads": str(torch.get_num_threads()),
    }


def _sort_lists(path: Path) -> None:
    """peft writes sets in the order of the day, which would change the digest of the adapter."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    for key, value in plain.items():
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            plain[key] = sorted(value)
    path.write_text(json.dumps(plain), encoding="utf-8")


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    """One key a line: a list of ids is for comparing, not for reading."""
    lines = [f"{json.dumps(k)}: {json.dumps(value[k], ensure_ascii=False)}" for k in sorted(value)]
    path.write_text("{\n  " + ",\n  ".join(lines) + "\n}\n", encoding="utf-8")

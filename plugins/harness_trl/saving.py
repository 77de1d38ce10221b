"""Writes what was trained, as an artifact that can be served. Knows nothing of how it was trained.

Everything is written into a folder beside the goal and moved there when it is whole, so an
interrupted tune leaves nothing behind that looks like an artifact. Nothing in it tells the time:
the same training leaves the same bytes, and so the same digest. Seconds and memory are metrics.
"""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from harness_transformers.artifacts import record_base
from harness_transformers.encoding import prompt_ids, stop_ids
from harness_transformers.models import (
    load_model,
    template_digest,
    tokenizer_digest,
    weights_digest,
)
from harness_transformers.vision import copy_processor

from harness import PreparedRow, TrainResult, TuneJob
from harness_trl.base import (
    dtype_of,
    makes_whole_model,
    model_folder,
    parts_of_job,
    stored_dtype,
    tokenizer_of,
)
from harness_trl.guests import quiet_libraries
from harness_trl.ranks import is_first
from harness_trl.recipe import Recipe, batching_of
from harness_trl.rows import supervised_tokens

PROBE = 'Grüße, 42 ☃\n\t{"a": [1.5, null]}  end'
_LIBRARIES = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "safetensors")


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
    losses: Sequence[float] = (),
    state: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Write the artifact into the job's folder, and return what was made. `state` are the weights
    where those of `model` are spread over devices. Of several processes the first one writes.
    """
    if is_first():
        with scratch(job.out_dir) as folder:
            made = folder / "made"
            write_artifact(
                model, job, recipe=recipe, rows=rows, folder=made, losses=losses, state=state
            )
            weights = {"adapter", "merged"}
            for name in weights:
                shutil.rmtree(job.out_dir / name, ignore_errors=True)
            # last: where there are weights, everything else is there
            for part in sorted(made.iterdir(), key=lambda p: p.name in weights):
                part.replace(job.out_dir / part.name)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return TrainResult(
        base_digest=weights_digest(model_folder(job)),
        template_digest=template_digest(tokenizer_of(job)),
        metrics={
            "rows": float(len(rows)),
            "supervised_tokens": float(sum(supervised_tokens(r) for r in rows)),
            "longest_row_tokens": float(max(len(r.input_ids) for r in rows)),
            "rows_a_step": float(batching_of(recipe, devices=job.devices).rows),
            "trainable_parameters": float(trainable),
            **metrics,
        },
        environment=describe_environment(model, recipe, devices=job.devices),
    )


def write_artifact(
    model: Any,
    job: TuneJob,
    *,
    recipe: Recipe,
    rows: Sequence[PreparedRow],
    folder: Path,
    losses: Sequence[float] = (),
    state: Mapping[str, Any] | None = None,
) -> None:
    """Write a whole artifact, as `model` is now, into the new `folder`."""
    folder.mkdir(parents=True)
    tokenizer = tokenizer_of(job)
    environment = describe_environment(model, recipe, devices=job.devices)
    base_digest = weights_digest(model_folder(job))
    with quiet_libraries():
        if makes_whole_model(job, recipe):
            home = folder / "merged"
            _write_whole(model, job, folder=home, state=state)
        else:
            home = folder / "adapter"
            _write_adapter(model, home, state=state)
            record_base(home, base=job.base, base_digest=base_digest)
        tokenizer.save_pretrained(str(home))
    if home.name == "merged":
        copy_processor(parts_of_job(job).model, home)
    _write_json(
        folder / "fingerprint.json",
        {
            **describe_tokens(tokenizer, model, job),
            "base": job.base,
            "base_digest": base_digest,
            "recipe": recipe.model_dump(),
            "environment": environment,
        },
    )
    _write_json(
        folder / "train_report.json",
        {
            **describe_data(rows),
            "steps": len(losses),
            "losses": list(losses),
            "batching": {
                "rows_a_step": recipe.batch_size * recipe.gradient_accumulation,
                "devices": job.devices,
            },
            "seed": recipe.seed,
            "recipe": recipe.model_dump(),
            "environment": environment,
        },
    )


def _write_adapter(model: Any, folder: Path, *, state: Mapping[str, Any] | None) -> None:
    model.save_pretrained(
        str(folder),
        safe_serialization=True,
        # Not "auto": peft would ask a hub whether the vocabulary of the base was resized.
        save_embedding_layers=False,
        selected_adapters=["default"],
        state_dict=state,
    )
    (folder / "README.md").unlink(missing_ok=True)  # an empty model card
    _sort_lists(folder / "adapter_config.json")


def _write_whole(
    model: Any, job: TuneJob, *, folder: Path, state: Mapping[str, Any] | None
) -> None:
    """In the precision that the base is stored in, with the base's own configuration: trainers
    write ids of padding and their habits into the one in memory.
    """
    import torch

    base = parts_of_job(job).model
    dtype = getattr(torch, stored_dtype(base))
    if hasattr(model, "peft_config"):
        with tempfile.TemporaryDirectory(prefix=".adapter-", dir=folder.parent) as name:
            _write_adapter(model, Path(name), state=state)
            model, state = load_model(base, dtype="float32", adapter=Path(name), device="cpu"), None
    parameters = list(model.parameters())
    kept = [p.data for p in parameters]
    try:
        for parameter in parameters:
            parameter.data = parameter.data.to(dtype)
        cast = state and {k: t.to(dtype) if t.is_floating_point() else t for k, t in state.items()}
        model.save_pretrained(str(folder), safe_serialization=True, state_dict=cast)
    finally:
        for parameter, data in zip(parameters, kept, strict=True):
            parameter.data = data
    (folder / "README.md").unlink(missing_ok=True)
    for name in ("config.json", "generation_config.json"):
        (folder / name).unlink(missing_ok=True)
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)


# ---------------------------------------------------------------- what is told beside the weights


def describe_tokens(tokenizer: Any, model: Any, job: TuneJob) -> dict[str, Any]:
    """Return what a server must agree on to serve this artifact, probes included."""
    samples = job.rows[:3]
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return {
        "template_digest": template_digest(tokenizer),
        "tokenizer_digest": tokenizer_digest(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "stop_ids": sorted(stop_ids(tokenizer, inner)),
        "probe": {"text": PROBE, "ids": tokenizer.encode(PROBE, add_special_tokens=False)},
        "prompts": [
            {"case_id": row.case_id, "ids": ids, "text": tokenizer.decode(ids)}
            for row in samples
            for ids in [prompt_ids(tokenizer, row.messages, tools=row.tools)]
        ],
    }


def describe_data(rows: Sequence[PreparedRow]) -> dict[str, Any]:
    """Return what the rows are, in numbers."""
    lengths = sorted(len(r.input_ids) for r in rows)
    learnt = sorted(supervised_tokens(r) for r in rows)
    return {
        "rows": len(rows),
        "tokens_an_epoch": sum(lengths),
        "supervised_tokens": sum(learnt),
        "row_tokens": {"least": lengths[0], "median": lengths[len(rows) // 2], "most": lengths[-1]},
        "reply_tokens": {"least": learnt[0], "median": learnt[len(rows) // 2], "most": learnt[-1]},
    }


def describe_environment(model: Any, recipe: Recipe, *, devices: int = 1) -> dict[str, str]:
    """Return what a second run would need to be the same: versions, dtype, device, threads."""
    import torch

    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[library] = metadata.version(library)
    if recipe.method == "qlora":
        found["bitsandbytes"] = metadata.version("bitsandbytes")
        found["base_precision"] = (
            "nf4: the adapter was made on the base in 4 bits; local: serves it on the base in full "
            "precision, so let the evals decide"
        )
    device = next(model.parameters()).device
    chip = torch.backends.cpu.get_cpu_capability()
    return {
        **found,
        "dtype": dtype_of(recipe),
        "device": f"cpu ({chip})" if device.type == "cpu" else torch.cuda.get_device_name(device),
        "threads": str(torch.get_num_threads()),
        **({"devices": str(devices)} if devices > 1 else {}),
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

"""A tuned artifact as one whole model: its adapter added into its base. Knows no file format but
safetensors.

The sum is made in float32, whatever the base was read in: rounded once at the end, where a smaller
precision is asked for, as `local:` itself does when it wears an adapter.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import BackendError, UsageError, VariantJob, VariantResult
from harness_transformers import encoding, models, vision
from harness_transformers.artifacts import Parts, parts_of

MERGED = {"merged": "float32", "merged-bf16": "bfloat16", "merged-f16": "float16"}
"""The whole model as safetensors, by the name of its form: the precision that is written."""

FINGERPRINT = "fingerprint.json"
# What a tuner wrote into the fingerprint that is no longer true of a whole model.
_STALE = ("recipe", "environment", "base", "base_digest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A model with its adapter merged in (float32, on the CPU) and its tokenizer."""

    model: Any
    tokenizer: Any
    base: Path
    parts: Parts


def whole_model(job: VariantJob) -> Whole:
    """Return the artifact of `job` as one model.

    Raises UsageError where it does not fit its base, BackendError where it cannot be opened.
    """
    models.require_local("a merged model")
    base = models.find_model(job.base, cache_dir=job.cache_dir)
    parts = parts_of(base, job.artifact, name=job.base)
    tokenizer = models.load_tokenizer(parts.tokenizer, model=parts.model)
    template = job.options.get("chat_template")
    if template is not None and not tokenizer.chat_template:
        encoding.use_template(tokenizer, template)
    try:
        model = models.load_model(parts.model, dtype="float32", adapter=parts.adapter, device="cpu")
    except UsageError:
        raise
    except MemoryError as exc:
        raise BackendError(f"the memory does not hold {job.base} in float32 to merge it") from exc
    except Exception as exc:  # border: peft and torch raise what they like on a file that is odd
        raise BackendError(
            f"{job.artifact} cannot be merged into {job.base}: {type(exc).__name__}: {exc}"
        ) from exc
    return Whole(model=model, tokenizer=tokenizer, base=base, parts=parts)


def make_merged(job: VariantJob, *, form: str = "merged") -> VariantResult:
    """Write `merged/` (weights as safetensors, tokenizer, chat template) and `fingerprint.json`."""
    import torch

    whole = whole_model(job)
    dtype = getattr(torch, MERGED[form])
    folder = job.out_dir / "merged"
    with models.quiet_transformers():
        # Parameters alone: buffers, as the rotary frequencies, are made anew at each load.
        for parameter in whole.model.parameters():
            parameter.data = parameter.data.to(dtype)
        whole.model.config.dtype = dtype
        whole.model.save_pretrained(str(folder))
    save_tokenizer(whole.tokenizer, folder)
    vision.copy_processor(whole.parts.model, folder)
    fingerprint(job, whole, variant=form)
    return VariantResult(
        template_digest=models.template_digest(whole.tokenizer),
        metrics={"bytes": float(sum(p.stat().st_size for p in folder.glob("*.safetensors")))},
        environment=versions(),
    )


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer, and read it back: a template or vocabulary that changed is an error."""
    folder.mkdir(parents=True, exist_ok=True)
    with models.quiet_transformers():
        tokenizer.save_pretrained(str(folder))
    again = models.load_tokenizer(folder)
    for what, digest in (
        ("chat template", models.template_digest),
        ("tokenizer", models.tokenizer_digest),
    ):
        if digest(again) != digest(tokenizer):
            raise BackendError(
                f"the {what} that was written to {folder.name}/ is not the artifact's: this "
                "version of transformers does not save it whole. Nothing was kept."
            )


def fingerprint(job: VariantJob, whole: Whole, *, variant: str) -> None:
    """Write `fingerprint.json`: what a server must agree on, and what this is a form of."""
    facts: dict[str, Any] = {}
    for source in (job.artifact / FINGERPRINT, job.artifact / "adapter" / FINGERPRINT):
        if source.is_file():
            found = json.loads(source.read_text(encoding="utf-8"))
            facts = {k: v for k, v in found.items() if k not in _STALE}
            break
    stops = encoding.stop_ids(whole.tokenizer, models.load_generation_config(whole.parts.model))
    facts |= {
        "template_digest": models.template_digest(whole.tokenizer),
        "tokenizer_digest": models.tokenizer_digest(whole.tokenizer),
        "stop_ids": sorted(stops),
        "variant": variant,
        "made_of": {"base": job.base, "base_digest": models.weights_digest(whole.base)},
    }
    lines = [f"{json.dumps(k)}: {json.dumps(facts[k], ensure_ascii=False)}" for k in sorted(facts)]
    text = "{\n  " + ",\n  ".join(lines) + "\n}\n"
    (job.out_dir / FINGERPRINT).write_text(text, encoding="utf-8")


def versions() -> dict[str, str]:
    """Return the versions of what wrote a variant."""
    found = {}
    for name in ("torch", "transformers", "peft", "safetensors", "gguf"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found

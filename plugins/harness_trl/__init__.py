"""Two tuners for LoRA adapters. Knows nothing of torch, peft or TRL until one of them is asked for.

`torch-lora` is a lean loop, about twice as fast on a CPU; `trl-sft` is TRL's trainer, for GPUs.
They read one recipe, train on the same token ids, and leave the same files.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import harness

_NEEDS = {
    "torch-lora": ("torch", "transformers", "safetensors", "peft"),
    "trl-sft": ("torch", "transformers", "safetensors", "peft", "trl", "datasets", "accelerate"),
}


def _require(name: str) -> None:
    missing = [n for n in _NEEDS[name] if importlib.util.find_spec(n) is None]
    if missing:
        what = f"the tuner {name!r} (without {', '.join(missing)})"
        raise harness.MissingExtra(what, extra="tune")


def _torch_lora() -> Any:
    _require("torch-lora")
    from harness_trl.torch_lora import TorchLora

    return TorchLora()


def _trl_sft() -> Any:
    _require("trl-sft")
    from harness_trl.trl_sft import TrlSft

    return TrlSft()


@harness.hookimpl
def harness_tuners() -> Mapping[str, Any]:
    """Offer `torch-lora` and `trl-sft`."""
    return {"torch-lora": _torch_lora, "trl-sft": _trl_sft}

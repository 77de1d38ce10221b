"""Two tuners for LoRA adapters. Knows nothing of torch, peft or TRL until one of them is asked for.

`torch-lora` is a lean loop, faster on a CPU; `trl-sft` is TRL's trainer, for GPUs.
They read one recipe, train on the same token ids, and leave the same files.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import harness

_BY_TRL = ("torch", "transformers", "safetensors", "peft", "trl", "datasets", "accelerate")
_OTHERS = {
    "trl-dpo": "TrlDpo",
    "trl-grpo": "TrlGrpo",
    "trl-kto": "TrlKto",
    "trl-orpo": "TrlOrpo",
    "trl-reward": "TrlReward",
}
"""Tuners that learn from preferences or rewards, and their classes, each in a file of its name."""
_NEEDS = {
    **dict.fromkeys(_OTHERS, _BY_TRL),
    "command": ("torch", "transformers", "safetensors"),
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


def _other(name: str) -> Any:
    _require(name)
    module = importlib.import_module(f"harness_trl.{name.replace('-', '_')}")
    return getattr(module, _OTHERS[name])()


def _command() -> Any:
    _require("command")
    from harness_trl.command import Command

    return Command()


@harness.hookimpl
def harness_tuners() -> Mapping[str, Any]:
    """Offer `torch-lora`, `trl-sft`, and those that learn from preferences and rewards."""
    others = {name: partial(_other, name) for name in _OTHERS}
    return {"torch-lora": _torch_lora, "trl-sft": _trl_sft, "command": _command, **others}


@harness.hookimpl
def harness_recipes() -> Mapping[str, Path]:
    """Offer the files of `recipes/`, by their paths in it."""
    home = Path(__file__).with_name("recipes")
    return {f.relative_to(home).with_suffix("").as_posix(): f for f in home.rglob("*.toml")}

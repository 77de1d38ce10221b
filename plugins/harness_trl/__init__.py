"""The tuners of this machine, and one for a training line of your own. Imports no torch, peft or
TRL until one of them is asked for.

`torch-lora` is a lean loop, faster on a CPU; `trl-sft` is TRL's trainer, for GPUs. The two read one
recipe, train on the same token ids, and leave the same files. `trl-dpo`, `trl-kto`, `trl-orpo`,
`trl-reward` and `trl-grpo` learn from preferences and rewards; `command` runs a line.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import harness

_LOCAL = ("torch", "transformers", "safetensors")
_PEFT = (*_LOCAL, "peft")
_TRL = (*_PEFT, "trl", "datasets", "accelerate")
_TUNERS = {
    "torch-lora": ("TorchLora", _PEFT),
    "trl-sft": ("TrlSft", _TRL),
    "trl-dpo": ("TrlDpo", _TRL),
    "trl-grpo": ("TrlGrpo", _TRL),
    "trl-kto": ("TrlKto", _TRL),
    "trl-orpo": ("TrlOrpo", _TRL),
    "trl-reward": ("TrlReward", _TRL),
    "command": ("Command", _LOCAL),
}
"""Each tuner's class, in a file of its name, and the libraries that it needs."""


def _made(name: str) -> Any:
    kind, needs = _TUNERS[name]
    missing = [n for n in needs if importlib.util.find_spec(n) is None]
    if missing:
        what = f"the tuner {name!r} (without {', '.join(missing)})"
        raise harness.MissingExtra(what, extra="tune")
    module = importlib.import_module(f"harness_trl.{name.replace('-', '_')}")
    return getattr(module, kind)()


@harness.hookimpl
def harness_tuners() -> Mapping[str, Any]:
    """Offer every tuner of this package, by its name."""
    return {name: partial(_made, name) for name in _TUNERS}


@harness.hookimpl
def harness_recipes() -> Mapping[str, Path]:
    """Offer the files of `recipes/`, by their paths in it."""
    home = Path(__file__).with_name("recipes")
    return {f.relative_to(home).with_suffix("").as_posix(): f for f in home.rglob("*.toml")}

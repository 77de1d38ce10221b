"""Writes the recipe files that plugins ship from the typed settings of their tuners.

`docs/generate.py` runs it; a test holds the files equal. Knows no tuner beyond its settings: a key,
its default, its limits, and the text that stands below it in the class.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Mapping
from itertools import groupby, pairwise
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import pydantic
from harness_openai.finetuning import recipe as hosted
from harness_sklearn import recipe as classical
from harness_trl import command, preference_recipes as preferences
from harness_trl.recipe import LOW_RANK, Recipe, chosen_by_size

ROOT = Path(__file__).resolve().parents[1]
SIZES = {0.5e9: "0.5e9", 2e9: "2e9", 20e9: "20e9", 1e18: ""}
"""The steps of harness_trl/sizes.toml, by the most parameters of each."""
TYPES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    list[float]: "[a number, ...]",
}
WIDTH = 100

Made = tuple[type[pydantic.BaseModel], dict[str, Any], str]
METHODS: dict[str, tuple[dict[str, Any], str]] = {
    "": ({}, "LoRA"),
    "/dora": ({"method": "dora"}, "LoRA with learnt magnitudes"),
    "/qlora": ({"method": "qlora"}, "LoRA on a base held in 4 bits (extra: quant)"),
    "/full": ({"method": "full"}, "all weights"),
}
RECIPES: dict[str, dict[str, Made]] = {
    "harness_trl": {
        f"{tuner}{name}": (Recipe, settings, f"{what}, by {how}.")
        for tuner, how in (
            ("torch-lora", "a lean loop: one process, the quickest on a CPU"),
            ("trl-sft", "TRL's trainer: one device or several"),
        )
        for name, (settings, what) in METHODS.items()
    }
    | {
        "trl-dpo": (preferences.DpoRecipe, {}, "Direct preference optimisation."),
        "trl-dpo/anchored": (
            preferences.DpoRecipe,
            {"loss": ["sigmoid", "sft"], "loss_weights": [0.1, 1.0]},
            "DPO that holds the chosen reply up, for pairs nearly alike (docs/preferences.md).",
        ),
        "trl-kto": (preferences.KtoRecipe, {}, "Each reply is wanted or not: pairs taken apart."),
        "trl-orpo": (preferences.OrpoRecipe, {}, "Likelihood and preference, and no reference."),
        "trl-reward": (preferences.RewardRecipe, {}, "A scorer of replies, and no candidate."),
        "trl-grpo": (preferences.GrpoRecipe, {}, "The task's own primary score is the reward."),
        "command": (command.CommandRecipe, {}, "A training line of your own."),
    },
    "harness_openai": {
        "openai": (hosted.Recipe, {}, "A hosted tuning; `auto` leaves a value to the server."),
        "openai-dpo": (hosted.DpoRecipe, {}, "A hosted tuning on preferences."),
    },
    "harness_sklearn": {"sklearn": (classical.Recipe, {}, "A classical model, in seconds.")},
}


def path_of(plugin: str, name: str) -> Path:
    """Return the file of a recipe."""
    return ROOT / "plugins" / plugin / "recipes" / f"{name}.toml"


def recipe_text(name: str, made: Made) -> str:
    """Return a recipe file: every key with its meaning, those marked that the file does not set."""
    kind, settings, about = made
    keys_told = (
        "These are all its keys, with their defaults. A line that begins with # and a key sets "
        "nothing. To change one, make a copy of your own, and take the mark away:"
    )
    head = [
        f"{name}: {about}",
        "",
        f"    harness tune TASK --recipe {name}",
        "",
        keys_told,
        "",
        f"    harness plugins --recipe {name} > TASK/recipes/mine.toml",
        f"    harness tune TASK --tuner {name.partition('/')[0]} --recipe mine",
        "",
        f"Made from the settings of {kind.__module__}.{kind.__name__} by docs/generate.py."
        + (" What goes by size, and its sources: harness_trl/sizes.toml." if sized(kind) else ""),
    ]
    parts = [_prose(line) for line in head]
    said = meanings(kind)
    keys = [k for k in kind.model_fields if settings.get("method") != "full" or k not in LOW_RANK]
    for key in sorted(keys, key=lambda k: k not in settings):  # what the file sets stands first
        by_size = "" if key in settings else sizes_of(kind, key, method=settings.get("method"))
        parts += ["", _prose(f"{said[key]}{by_size}"), line_of(kind, key, settings)]
    return "\n".join(parts) + "\n"


def line_of(kind: type[pydantic.BaseModel], key: str, settings: Mapping[str, Any]) -> str:
    """Return the line of a key: set, or marked with its default, or with what it takes."""
    if key in settings:
        return f"{key} = {json.dumps(settings[key])}"
    field = kind.model_fields[key]
    if field.is_required() or field.default is None:
        return f"#{key} = <{_type(field.annotation)}>"
    values = sized_values(kind, key, method=settings.get("method"))
    value = next(iter(values.values())) if values else field.default
    return f"#{key} = {json.dumps(value)}"


def sized(kind: type[pydantic.BaseModel]) -> bool:
    """Tell whether some of its defaults go by the model's size."""
    return issubclass(kind, Recipe)


def sized_values(
    kind: type[pydantic.BaseModel], key: str, *, method: str | None
) -> dict[float, Any]:
    """Return the default of a key by the most parameters of a model; {} where it has but one."""
    if not issubclass(kind, Recipe):
        return {}
    found = {
        most: chosen_by_size(kind, method=method or "lora", parameters=int(most)).get(key)
        for most in SIZES
    }
    return {} if None in found.values() else found


def sizes_of(kind: type[pydantic.BaseModel], key: str, *, method: str | None) -> str:
    """Return in words how a default goes by size; "" where it does not."""
    values = sized_values(kind, key, method=method)
    steps = [(value, [*mosts][-1]) for value, mosts in groupby(values, key=values.__getitem__)]
    if len(steps) < 2:
        return ""
    told = [f"{json.dumps(v)} up to {SIZES[m]} parameters" for v, m in steps[:-1]]
    return f" By size: {', '.join(told)}, then {json.dumps(steps[-1][0])}."


def meanings(kind: type) -> dict[str, str]:
    """Return the text below each key, a subclass's above its parents'."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if issubclass(one, pydantic.BaseModel) and one is not pydantic.BaseModel:
            (table,) = ast.parse(inspect.getsource(one)).body
            assert isinstance(table, ast.ClassDef)
            found |= {
                ast.unparse(key.target): " ".join(str(ast.literal_eval(text.value)).split())
                for key, text in pairwise(table.body)
                if isinstance(key, ast.AnnAssign) and isinstance(text, ast.Expr)
            }
    return found


def _type(annotation: Any) -> str:
    kinds = [k for k in get_args(annotation) or (annotation,) if k is not NoneType]
    return TYPES.get(kinds[0], "a value")


def _prose(text: str) -> str:
    if not text or text.startswith("    "):
        return f"# {text}".rstrip()
    return "\n".join(textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# "))


def texts() -> dict[Path, str]:
    """Return every recipe file and what it holds."""
    return {
        path_of(plugin, name): recipe_text(name, made)
        for plugin, recipes in RECIPES.items()
        for name, made in recipes.items()
    }


def write() -> None:
    """Write every recipe file."""
    for path, text in texts().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()

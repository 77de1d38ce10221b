"""What of a folder that another program trained is taken: weights and tokenizer, nothing that runs.

Knows nothing of the store. Facts about the training are read from what trainers leave beside
their weights; a file that is not understood is left out, never guessed at.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from harness.errors import Refused, StoreError, UsageError
from harness.records import Json
from harness.store.artifacts import PICKLES, folder_digest
from harness.store.tensors import check_weights, safetensors_shapes

SAFE = (
    "*.safetensors", "*.safetensors.index.json", "adapter_config.json", "config.json",
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
    "chat_template.jinja", "chat_template.json", "preprocessor_config.json",
    "processor_config.json", "harness-base.json",
)  # fmt: skip
"""What an adapter or model is made of; everything else stays where it is, and is named."""

CONFIGS = {
    "axolotl_config.yml": "axolotl",
    "axolotl_config.yaml": "axolotl",
    "axolotl.yml": "axolotl",
    "axolotl.yaml": "axolotl",
    "training_args.yaml": "llama-factory",
    "llamaboard_config.yaml": "llama-factory",
    "config.yml": None,
    "config.yaml": None,
}
"""Settings that trainers leave in their output, and who does."""
_NO_WEIGHTS = ("training_args", "optimizer", "scheduler", "rng_state", "scaler")
_ADAPTER_FACTS = (
    "peft_type", "r", "lora_alpha", "lora_dropout", "target_modules", "use_dora", "use_rslora",
    "modules_to_save", "layers_to_transform",
)  # fmt: skip
_SETTING = re.compile(r"^([A-Za-z_][\w.-]*)[ \t]*:[ \t]+([^#\s][^#\n]*?)[ \t]*(?:#.*)?$", re.M)
_SECRET = re.compile(r"(?:^|_)(?:token|key|secret|password)s?$", re.I)
_VERSION = re.compile(r"^- ([A-Za-z]+):? v?(\d[\w.+]*)[ \t]*$", re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What lies in a folder. `kind` is `adapter` or `merged` (a whole model); `left_out` are the
    files that are not taken; `base` what the adapter says it was made for.
    """

    kind: str
    folder: Path
    files: tuple[Path, ...]
    left_out: tuple[str, ...]
    base: str | None
    origin: str | None
    recipe: Mapping[str, Json]
    metrics: Mapping[str, float]
    environment: Mapping[str, str]


def look_at(source: Path) -> Found:
    """Return what there is to take from `source`, nothing copied yet.

    Raises UsageError where it is no folder with an adapter or model, or one whose weights are not
    whole; Refused for weights that are pickles and code that would run.
    """
    if not source.is_dir():
        what = (
            "is a file: unpack it, and name the folder"
            if source.exists()
            else ("does not exist: name the folder that the training wrote its adapter or model to")
        )
        raise UsageError(f"{source} {what}")
    kind, folder = _place(source)
    files = tuple(p for p in sorted(folder.iterdir()) if p.is_file() and _is_safe(p.name))
    _refuse_unsafe(folder, files, kind)
    taken = {p.relative_to(source) for p in files}
    every = sorted(p.relative_to(source) for p in source.rglob("*") if p.is_file())
    left = tuple(p.as_posix() for p in every if p not in taken)
    adapter = _json(folder / "adapter_config.json") if kind == "adapter" else {}
    homes = list(dict.fromkeys((folder, source)))
    recipe, origin = _recipe(homes, adapter)
    metrics = _metrics(homes)
    base = adapter.get("base_model_name_or_path")
    return Found(
        kind=kind,
        folder=folder,
        files=files,
        left_out=left,
        base=base if isinstance(base, str) else None,
        origin=origin,
        recipe=recipe,
        metrics=metrics,
        environment=_environment(homes, adapter),
    )


def collect(found: Found, out_dir: Path) -> Path:
    """Copy what was found to `out_dir`/adapter or `out_dir`/merged, and return that folder.

    Raises StoreError where a file is not whole: nothing but that folder is written.
    """
    goal = out_dir / found.kind
    goal.mkdir(parents=True)
    for path in found.files:
        shutil.copyfile(path, goal / path.name)
    check_weights(goal)
    folder_digest(goal)  # refuses what could run code
    return goal


def _place(source: Path) -> tuple[str, Path]:
    for folder in (source, source / "adapter"):
        if (folder / "adapter_config.json").is_file():
            return "adapter", folder
    for folder in (source, source / "merged"):
        if (folder / "config.json").is_file():
            return "merged", folder
    checkpoints = sorted(
        (p for p in source.glob("checkpoint-*") if p.is_dir()),
        key=lambda p: int(p.name.rpartition("-")[2]) if p.name[11:].isdigit() else -1,
    )
    if checkpoints:
        names = ", ".join(p.name for p in checkpoints)
        raise UsageError(
            f"{source} holds checkpoints ({names}) and no adapter of its own: name the one that "
            f"you mean, as {checkpoints[-1]}"
        )
    archives = [p.name for p in source.iterdir() if p.suffix in (".zip", ".gz", ".tar", ".tgz")]
    hint = f" (unpack {archives[0]} first)" if archives else ""
    raise UsageError(
        f"{source} holds neither an adapter (adapter_config.json) nor a model (config.json){hint}"
    )


def _is_safe(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in SAFE)


def _refuse_unsafe(folder: Path, files: tuple[Path, ...], kind: str) -> None:
    links = [p.name for p in files if p.is_symlink()]
    if links:
        raise Refused(f"{folder / links[0]} is a link, which could lead anywhere: copy its target")
    if not any(p.suffix == ".safetensors" for p in files):
        every = (p.name for p in folder.iterdir() if p.suffix.lower() in PICKLES)
        pickles = sorted(name for name in every if not name.startswith(_NO_WEIGHTS))
        if not pickles:
            raise UsageError(f"{folder} holds no weights: no *.safetensors is there")
        save = "save_pretrained(FOLDER, safe_serialization=True)"
        raise Refused(
            f"the weights of {folder} are in {', '.join(pickles[:3])}, which may be a pickle: "
            f"opening it can run code. Where you trust it, save the {kind} anew with {save}."
        )
    for name in ("config.json", "adapter_config.json", "tokenizer_config.json"):
        if _json(folder / name).get("auto_map"):
            raise Refused(
                f"{folder / name} has auto_map: loading it would run code that came with the "
                "model. Use a model that the installed library knows."
            )
    try:
        if kind == "merged":
            check_weights(folder)
        elif not (folder / "adapter_model.safetensors").is_file():
            raise UsageError(f"{folder} is not an adapter: it lacks adapter_model.safetensors")
        else:
            safetensors_shapes(folder / "adapter_model.safetensors")
    except StoreError as exc:  # not of this store: of a folder that somebody named
        raise UsageError(str(exc)) from exc


# ---------------------------------------------------------------- what trainers leave behind


def _json(path: Path) -> dict[str, Json]:
    if not path.is_file():
        return {}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise UsageError(f"{path} cannot be read as JSON: {exc}") from exc
    if not isinstance(held, dict):
        raise UsageError(f"{path}: expected a JSON object, found {type(held).__name__}")
    return held


def _recipe(homes: list[Path], adapter: dict[str, Json]) -> tuple[dict[str, Json], str | None]:
    recipe: dict[str, Json] = {k: adapter[k] for k in _ADAPTER_FACTS if adapter.get(k)}
    if isinstance(targets := recipe.get("target_modules"), list):
        recipe["target_modules"] = sorted(str(t) for t in targets)
    origin = None
    mapping = adapter.get("auto_mapping")
    if isinstance(mapping, dict) and mapping.get("unsloth_fixed"):
        origin = "unsloth"
    for home in homes:
        for name, maker in CONFIGS.items():
            if (home / name).is_file():
                text = (home / name).read_text(encoding="utf-8", errors="replace")
                recipe |= plain_settings(text)
                origin = origin or maker
        if origin is None and (home / "README.md").is_file():
            card = (home / "README.md").read_text(encoding="utf-8", errors="replace").lower()
            makers = ("axolotl", "llama-factory", "unsloth", "trl")
            origin = next((m for m in makers if re.search(rf"\b{m}\b", card)), None)
    return recipe, origin


def plain_settings(text: str) -> dict[str, Json]:
    """Return the settings of a YAML file that are one line of the top level and no list.

    Lineage needs learning rate and epochs, not the whole language; what is nested is left out,
    and so is what is named like a key or password: lineage is shown to others.
    """
    found: dict[str, Json] = {}
    for name, value in _SETTING.findall(text):
        if value[0] in "[{|>&*!" or _SECRET.search(name):
            continue
        try:
            found[name] = json.loads(value)
        except ValueError:
            words: dict[str, Json] = {"yes": True, "no": False, "~": None, "null": None}
            found[name] = words.get(value.lower(), value.strip("'\""))
    return found


def _metrics(homes: list[Path]) -> dict[str, float]:
    found: dict[str, float] = {}
    for home in homes:
        state = _json(home / "trainer_state.json")
        for ours, theirs in (("steps", "global_step"), ("epochs", "epoch")):
            if isinstance(state.get(theirs), int | float):
                found[ours] = float(state[theirs])
        history = state.get("log_history")
        for line in history if isinstance(history, list) else ():
            for name in ("loss", "eval_loss", "train_loss"):
                if isinstance(line, dict) and isinstance(line.get(name), int | float):
                    found[name] = float(line[name])
        for name, value in _json(home / "all_results.json").items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(name, float(value))
        if found:
            return found
    return found


def _environment(homes: list[Path], adapter: dict[str, Json]) -> dict[str, str]:
    found: dict[str, str] = {}
    for home in homes:
        card = home / "README.md"
        if card.is_file():
            text = card.read_text(encoding="utf-8", errors="replace").lower()
            _, _, versions = text.rpartition("framework versions")
            found |= dict(_VERSION.findall(versions)) if versions != text else {}
    if isinstance(version := adapter.get("peft_version"), str):
        found.setdefault("peft", version)
    return found

"""What a tuned artifact's folder holds, and whether it fits its base. Loads no weights.

An artifact is an adapter (`adapter_config.json`, in the folder or in `adapter/`) or a whole model
(`config.json`, in the folder or in `merged/`). A tokenizer beside it is the one it was tuned
with, and is used; otherwise the base's.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness import UsageError
from harness_transformers.heads import tensor_heads
from harness_transformers.models import check_adapter_folder, check_model_folder, weights_digest
from harness_transformers.wheels import WHEELS

BASE_FILE = "harness-base.json"
_FACTOR = re.compile(r"(?:base_model\.model\.)?(.+)\.(lora_[AB])\.weight")
_COPY = re.compile(r"(-unsloth)?-bnb-(4|8)bit$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Folders of what answers: the weights, perhaps an adapter, and the tokenizer."""

    model: Path
    tokenizer: Path
    adapter: Path | None = None


def parts_of(
    base: Path,
    artifact: Path | None,
    *,
    name: str,
    wants: Literal["replies", "scorer"] = "replies",
) -> Parts:
    """Return what to load for base model `name` at `base`, perhaps tuned by `artifact`.

    Raises UsageError where the folder holds neither adapter nor model, was made for another base,
    or gives scores where replies are wanted, or the other way round.
    """
    if artifact is None:
        return Parts(model=base, tokenizer=base)
    for adapter in (artifact, artifact / "adapter"):
        if (adapter / "adapter_config.json").is_file():
            check_adapter_folder(adapter)
            _check_base(adapter, base, name=name)
            _check_kind(adapter, wants=wants)
            homes = (adapter, artifact, base)
            tokenizer = next(p for p in homes if (p / "tokenizer.json").is_file() or p == base)
            return Parts(model=base, tokenizer=tokenizer, adapter=adapter)
    for model in (artifact, artifact / "merged"):
        if (model / "config.json").is_file():
            check_model_folder(model)
            return Parts(model=model, tokenizer=model)
    if (artifact / "gguf").is_dir():
        raise UsageError(
            f"{artifact} is a GGUF file, which llama.cpp's server reads: serve it there, and ask "
            "for PROMPT@openai:NAME+ARTIFACT with --base-url"
        )
    raise UsageError(
        f"{artifact} is no artifact for a local model: expected adapter_config.json in it or in "
        "its folder adapter/, or config.json in it or in its folder merged/"
    )


def record_base(adapter: Path, *, base: str, base_digest: str) -> None:
    """Write into an adapter's folder which base it belongs to, by name and by content.

    The path that peft recorded is replaced too: it names a cache folder of this machine.
    """
    config = adapter / "adapter_config.json"
    plain = json.loads(config.read_text(encoding="utf-8"))
    plain["base_model_name_or_path"] = base
    config.write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    facts = {"base": base, "base_digest": base_digest}
    (adapter / BASE_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _check_kind(adapter: Path, *, wants: str) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    is_scorer = config.get("task_type") == "SEQ_CLS"
    if is_scorer and wants == "replies":
        raise UsageError(
            f"{adapter} is a reward model: it gives a number for a reply and makes none, so it is "
            "no candidate. Load it with harness_trl.scorer.load_scorer, to rank replies."
        )
    if not is_scorer and wants == "scorer":
        raise UsageError(f"{adapter} makes replies: it is no reward model. Tune one by trl-reward.")


def _check_base(adapter: Path, base: Path, *, name: str) -> None:
    """Compare by content where the adapter recorded a digest, else by name."""
    recorded = adapter / BASE_FILE
    if recorded.is_file():
        facts = json.loads(recorded.read_text(encoding="utf-8"))
        if facts.get("base_digest") != weights_digest(base):
            raise UsageError(
                f"adapter {adapter} was tuned on {facts.get('base')!r} (weights "
                f"{str(facts.get('base_digest'))[:12]}), not on {name!r} (weights "
                f"{weights_digest(base)[:12]}). Use it with its own base, or tune again."
            )
        return
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    theirs = config.get("base_model_name_or_path")
    names = {name, str(base), base.name}
    if name in WHEELS:
        names |= {WHEELS[name].upstream, WHEELS[name].upstream.split("/")[-1]}
    # An adapter made elsewhere names its base by another path; the last part is what tells, but
    # for what unsloth adds to the name of its copy in four bits.
    last = _COPY.sub("", Path(theirs).name) if theirs else ""
    if theirs and theirs not in names and last not in names:
        raise UsageError(
            f"adapter {adapter} was tuned on {theirs!r}, not on {name!r} ({base}). Use it with "
            "its own base, or correct base_model_name_or_path in its adapter_config.json."
        )
    _check_shapes(adapter, base, name=name)


def _check_shapes(adapter: Path, base: Path, *, name: str) -> None:
    """Raise UsageError where a low-rank factor does not fit the weight that it changes.

    Only heads of files are read. A name proves little where no digest was recorded: a copy of
    another size is called the same.
    """
    ours: dict[str, tuple[int, ...]] = {}
    for file in base.glob("*.safetensors"):
        ours |= {key: tensor.shape for key, tensor in tensor_heads(file).items()}
    for key, tensor in tensor_heads(adapter / "adapter_model.safetensors").items():
        shape, found = tensor.shape, _FACTOR.fullmatch(key)
        weight = ours.get(f"{found[1]}.weight") if found else None
        if found is None or weight is None or len(shape) != 2 or len(weight) != 2:
            continue  # another method, or a layer that is stored under another name
        side = shape[1] if found[2] == "lora_A" else shape[0]
        if side not in weight:
            raise UsageError(
                f"adapter {adapter} does not fit {name!r}: {key} is {list(shape)}, and the "
                f"weight that it changes {list(weight)}. It was tuned on another base."
            )

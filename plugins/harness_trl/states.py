"""Where a training stands, on disk, so that a killed one goes on. Knows nothing of trainers.

A state is a folder: `tensors.safetensors` and `state.json`, never a pickle. It is written beside
the one before and then renamed, so that a kill at any moment leaves a whole one. What is packed
here is all that a step depends on: numbers, optimiser, schedule and random generators. On a CPU a
training that goes on is equal, bit for bit, to one that was never stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import PreparedRow, TuneJob, UsageError
from harness_trl.ranks import told_by_all
from harness_trl.recipe import Recipe

_PREFIX = "step-"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a training stood after `step`. `folder` may hold more files of the trainer's own."""

    step: int
    tensors: Mapping[str, Any]
    plain: Mapping[str, Any]
    folder: Path


def identity_of(tuner: str, job: TuneJob, recipe: Recipe, rows: Sequence[PreparedRow]) -> str:
    """Return what a state belongs to: another recipe, row or base cannot go on from it."""
    parts: list[Any] = [tuner, job.base, str(job.start), job.devices, recipe.model_dump()]
    parts += [[r.case_id, r.input_ids, r.labels, r.rejected_ids, r.rejected_labels] for r in rows]
    parts += [r.pixels for r in rows if r.pixels]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def write_state(
    state_dir: Path,
    *,
    identity: str,
    step: int,
    tensors: Mapping[str, Any],
    plain: Mapping[str, Any],
    extras: Mapping[str, str] | None = None,
) -> None:
    """Write a state and forget those before it. `extras` are texts of more files, by name."""
    from safetensors.torch import save_file

    half = state_dir / ".half"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    # torch may hand out views of one storage, which safetensors refuses
    save_file({k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()},
              half / "tensors.safetensors")  # fmt: skip
    told = {"identity": identity, "step": step, **plain}
    (half / "state.json").write_text(json.dumps(told), encoding="utf-8")
    for name, text in (extras or {}).items():
        (half / name).write_text(text, encoding="utf-8")
    for file in half.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    goal = state_dir / f"{_PREFIX}{step:09d}"
    shutil.rmtree(goal, ignore_errors=True)
    half.rename(goal)
    for other in state_dir.glob(f"{_PREFIX}*"):
        if other != goal:
            shutil.rmtree(other, ignore_errors=True)


def read_state(state_dir: Path | None, *, identity: str) -> State | None:
    """Return the last state of this very training, None where there is none.

    Raises UsageError where the folder holds the state of another training, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found = sorted(state_dir.glob(f"{_PREFIX}*")) if state_dir is not None else []
    if not found:
        return None
    folder = found[-1]
    try:
        plain = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "tensors.safetensors")
    except (OSError, ValueError, SafetensorError) as exc:
        raise UsageError(
            f"the training cannot go on from {folder}: {exc}. Remove that folder to start anew."
        ) from exc
    if plain.get("identity") != identity:
        raise UsageError(
            f"{folder} is the state of another training (other rows, recipe, base or devices). "
            "Remove it to start anew."
        )
    return State(step=int(plain["step"]), tensors=tensors, plain=plain, folder=folder)


# ---------------------------------------------------------------- what a step depends on


def pack_optimizer(optimizer: Any) -> tuple[dict[str, Any], Any]:
    """Return the tensors of an optimiser's state by name, and the rest as plain values."""
    import torch

    state = optimizer.state_dict()
    tensors, plain = {}, {}
    for index, facts in state["state"].items():
        for key, value in facts.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
            else:
                plain[f"{index}.{key}"] = value
    return tensors, {"groups": state["param_groups"], "values": plain}


def unpack_optimizer(optimizer: Any, tensors: Mapping[str, Any], plain: Any) -> None:
    """Put back what `pack_optimizer` gave."""
    state: dict[int, dict[str, Any]] = {}
    held = {
        k.removeprefix("optimizer."): t for k, t in tensors.items() if k.startswith("optimizer.")
    }
    for name, value in {**held, **plain["values"]}.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    groups = [
        {key: tuple(value) if key == "betas" else value for key, value in group.items()}
        for group in plain["groups"]
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def pack_random() -> tuple[dict[str, Any], list[Any]]:
    """Return the random generators of each process: Python's, numpy's, torch's on every device."""
    import numpy as np
    import torch

    own = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        own["cuda"] = torch.cuda.get_rng_state()
    state: Any = np.random.get_state()
    numbers = [value.tolist() if hasattr(value, "tolist") else value for value in state]
    tensors: dict[str, Any] = {}
    plain: list[Any] = []
    for rank, (theirs, told) in enumerate(told_by_all((own, [random.getstate(), numbers]))):
        tensors |= {f"random.{rank}.{device}": state for device, state in theirs.items()}
        plain.append(told)
    return tensors, plain


def unpack_random(tensors: Mapping[str, Any], plain: Sequence[Any]) -> None:
    """Put back what `pack_random` gave for this process."""
    import numpy as np
    import torch

    rank = int(os.environ.get("RANK", "0"))
    torch.set_rng_state(tensors[f"random.{rank}.cpu"])
    if torch.cuda.is_available() and f"random.{rank}.cuda" in tensors:
        torch.cuda.set_rng_state(tensors[f"random.{rank}.cuda"])
    (version, numbers, gauss), (kind, keys, position, has_gauss, cached) = plain[rank]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))

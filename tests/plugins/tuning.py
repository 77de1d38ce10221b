"""What the tests of the tuners share: a job on a small model, and the reply of what was made."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness import Message, TrainingRow, TuneJob

STOP_ID = 2
WORDS = ("slow", "requests", "hours", "France")
SETTLED = 100_000
"""So many objects set aside, and the libraries are among them."""


def small_rows() -> tuple[TrainingRow, ...]:
    """Rows of different lengths, each with a reply of its own."""
    return tuple(
        TrainingRow(
            case_id=f"c{index}",
            messages=(
                Message(role="system", content="S" * (1 + 7 * index)),
                Message(role="user", content=f"How many {word}?"),
            ),
            completion=f"{word} {index}",
        )
        for index, word in enumerate(WORDS)
    )


def settle_imports() -> None:
    """Import what trains, and have the garbage collector pass it by from now on.

    transformers' trainer collects all garbage in every training: over the million objects of these
    libraries that takes a second, more than a training on a tiny model.
    """
    _import_trainers()
    if gc.get_freeze_count() < SETTLED:  # an eval session in this process undid it
        gc.collect()
        gc.freeze()


@functools.cache
def _import_trainers() -> None:
    import trl

    for name in ("SFTTrainer", "DPOTrainer", "GRPOTrainer"):
        assert getattr(trl, name)  # imported when named
    atexit.register(gc.unfreeze)  # or those libraries complain of leaks at the end


def build_trainable_model(source: Path, folder: Path) -> Path:
    """The tiny model, able to end its replies.

    Its padding id is its stop id, whose embedding torch makes zero; with tied weights no training
    could ever raise that token's logit.
    """
    import torch
    from safetensors.torch import load_file, save_file

    settle_imports()
    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    table = weights["model.embed_tokens.weight"]
    table[STOP_ID] = torch.randn(table.shape[1], generator=torch.Generator().manual_seed(1)) * 0.2
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def small_job(base: Path, out_dir: Path, **recipe: Any) -> TuneJob:
    chosen = {"batch_size": 4, "epochs": 4, "learning_rate": 1e-2, "dtype": "float32", **recipe}
    return TuneJob(base=str(base), rows=small_rows(), recipe=chosen, out_dir=out_dir, seed=3)


def reply_of(base: Path, row: TrainingRow, *, adapter: Path | None = None) -> str:
    """The greedy reply of the model, perhaps tuned, to a row's messages."""
    import torch
    from harness_transformers.encoding import prompt_ids
    from harness_transformers.models import load_model, load_tokenizer
    from harness_trl.guests import quiet_libraries

    tokenizer = load_tokenizer(base)
    with quiet_libraries():
        model = load_model(base, dtype="float32", adapter=adapter)
    ids = torch.tensor([prompt_ids(tokenizer, row.messages)])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=24,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def ignore(_: object) -> None:
    """A listener that does not listen."""


def losses_of(seen: Sequence[Any]) -> list[float]:
    return [p.loss for p in seen]


def tuner_of(name: str) -> Any:
    """One of the two SFT tuners."""
    from harness_trl import harness_tuners

    return harness_tuners()[name]()


def train(tuner: str, job: TuneJob, report: Any = ignore) -> Any:
    """Prepare and train, as the engine does."""
    made = tuner_of(tuner)
    return made.train(job, made.prepare(job), report=report)


def is_installed(library: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(library) is not None

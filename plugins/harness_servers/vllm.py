"""vLLM on an adapter beside its base, or on a whole model. Not run for this project: no GPU here.

Source: docs.vllm.ai, features/lora (`--enable-lora`, `--lora-modules NAME=PATH`,
`--max-lora-rank`) and the server's arguments (`--served-model-name`, `--chat-template`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from harness_transformers.models import find_model

from harness import ServeJob, ServerCommand, UsageError

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that --max-lora-rank takes."""


def vllm(job: ServeJob) -> ServerCommand:
    """Return the command. Raises UsageError where vLLM is not installed, or cannot read it."""
    program = shutil.which("vllm")
    if program is None:
        raise UsageError("vLLM is not here: pip install vllm, on a machine with a GPU")
    return ServerCommand(
        argv=(program, *arguments(job)),
        model=job.name,
        preset="vllm",
        notes=("this command was written by vLLM's documentation and has not been run here",),
    )


def arguments(job: ServeJob) -> tuple[str, ...]:
    """Return what follows `vllm`."""
    where = ("--host", "127.0.0.1", "--port", str(job.port))
    length = () if job.context is None else ("--max-model-len", str(job.context))
    merged, adapter = job.folder / "merged", job.folder / "adapter"
    if (merged / "config.json").is_file():
        return ("serve", str(merged), "--served-model-name", job.name, *where, *length)
    if not (adapter / "adapter_config.json").is_file():
        raise UsageError(f"{job.folder} holds neither an adapter nor a whole model for vLLM")
    return (
        "serve", str(find_model(job.base)), *where, *length, "--enable-lora",
        "--max-lora-rank", str(_rank(adapter)), "--lora-modules", f"{job.name}={adapter}",
        *_template(adapter),
    )  # fmt: skip


def _rank(adapter: Path) -> int:
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("modules_to_save"):
        raise UsageError(
            f"{adapter} saved whole modules ({config['modules_to_save']}), which vLLM does not "
            "serve beside a base. Merge it first: harness model merge ARTIFACT"
        )
    ranks = [int(config.get("r") or 0), *map(int, (config.get("rank_pattern") or {}).values())]
    fitting = [rank for rank in RANKS if rank >= max(ranks)]
    if not fitting:
        raise UsageError(f"{adapter} has rank {max(ranks)}; vLLM serves at most {RANKS[-1]}")
    return fitting[0]


def _template(adapter: Path) -> tuple[str, ...]:
    path = adapter / "chat_template.jinja"
    return ("--chat-template", str(path)) if path.is_file() else ()

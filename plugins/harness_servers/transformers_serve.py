"""`transformers serve` on a whole model: the adapter must have been added into its base.

Source: transformers 5.23, cli/serve.py. It answers to the name that stands on its command line,
which is a path: the folder is linked under the wanted name.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from harness import ServeJob, ServerCommand, UsageError

_NEEDS = ("fastapi", "uvicorn", "openai")


def transformers_serve(job: ServeJob) -> ServerCommand:
    """Return the command. Raises UsageError where there is no whole model, or the program lacks."""
    model = job.folder / "merged"
    if not (model / "config.json").is_file():
        raise UsageError(
            f"{job.folder} holds no whole model, which `transformers serve` reads. Make one: "
            "harness model merge ARTIFACT"
        )
    beside = Path(sys.executable).with_name("transformers")
    program = str(beside) if beside.is_file() else shutil.which("transformers")
    lacking = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if program is None or lacking:
        raise UsageError(
            f"`transformers serve` is not here{': it lacks ' if lacking else ''}"
            f"{', '.join(lacking)}. Install it: pip install 'transformers[serving]'"
        )
    # `auto` places layers with the library accelerate
    has_gpu = shutil.which("nvidia-smi") is not None
    can_place = importlib.util.find_spec("accelerate") is not None
    return ServerCommand(
        argv=(
            program, "serve", job.name, "--host", "127.0.0.1", "--port", str(job.port),
            "--device", "auto" if has_gpu and can_place else "cpu",
        ),
        model=job.name,
        preset="transformers",
        environment={"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
        links={job.name: model},
        notes=("it answers one request at a time, and tells no token ids: lengths are compared",),
    )  # fmt: skip

"""llama.cpp's own server on a GGUF file: the program `llama-server`, else the wheel xllamacpp.

Source: llama.cpp, tools/server/README.md.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from harness import ServeJob, ServerCommand, UsageError

MAIN = Path(__file__).with_name("llama_main.py")
CONTEXT = 4096
"""Tokens a request, where nobody said: memory for them is taken at the start."""


def llama_cpp(job: ServeJob) -> ServerCommand:
    """Return the command. Raises UsageError where there is no GGUF file, or no such server."""
    files = sorted((job.folder / "gguf").glob("*.gguf"))
    if len(files) != 1:
        raise UsageError(
            f"{job.folder} holds no GGUF file, which llama.cpp reads. Make one: "
            "harness model export ARTIFACT --to gguf"
        )
    # every slot has its own part of what is given
    context = str((job.context or CONTEXT) * job.slots)
    program = shutil.which("llama-server")
    argv: tuple[str, ...]
    if program is not None:
        argv = (
            program, "-m", str(files[0]), "--host", "127.0.0.1", "--port", str(job.port),
            "--alias", job.name, "--ctx-size", context, "--parallel", str(job.slots), "--jinja",
        )  # fmt: skip
    elif importlib.util.find_spec("xllamacpp") is not None:
        argv = (
            sys.executable, str(MAIN), str(files[0]), job.name, str(job.port), context,
            str(job.slots),
        )  # fmt: skip
    else:
        raise UsageError(
            "llama.cpp's server is not here: install llama.cpp, so that `llama-server` is on the "
            "PATH, or, on Linux, pip install xllamacpp"
        )
    return ServerCommand(argv=argv, model=job.name, preset="llama.cpp")

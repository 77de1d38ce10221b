"""A page of the docs that is a project: its files, and the commands of its first block of them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def write_project(page: str, into: Path) -> None:
    """Write the files of a page: each begins with a comment that names it."""
    for language, body in re.findall(r"```(\w+)\n(.*?)```", _text(page), re.DOTALL):
        first, _, rest = body.partition("\n")
        if language != "sh":
            path = into / first.removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(rest, encoding="utf-8")


def run_commands(page: str, folder: Path) -> Iterator[subprocess.CompletedProcess[str]]:
    """Type the commands of a page, one after the other, in `folder`."""
    for command in re.findall(r"```sh\n(.*?)```", _text(page), re.DOTALL)[0].splitlines():
        yield run_command(command, folder)


def run_command(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Type a command in `folder`, whose modules can be imported."""
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", *shlex.split(line)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )


def _text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")

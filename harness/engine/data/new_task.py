"""Writes the folder of a new task: whole, checked as any task is, or not at all.

Knows nothing of where its cases came from.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness.core.first_evals import FirstCheck, file_of
from harness.core.first_prompts import TOOLS
from harness.core.prompts import render
from harness.engine.data.bringing import Brought
from harness.engine.tasks import Task, load_task
from harness.errors import TaskError, UsageError
from harness.records import Decoding

LONGEST_REPLY = 2048


def task_toml(
    brought: Brought,
    check: FirstCheck,
    *,
    origin: str,
    model: str,
    candidate: str,
    target: float,
    is_own_target: bool,
) -> str:
    """Return the settings of a new task, with their reasons."""
    asked = ", ".join(brought.inputs)
    reason = (
        "Given when the task was made: write down why this much is needed."
        if is_own_target
        else "A first guess: put in what you need, and why."
    )
    lines = [
        f"about = {_text(f'From {asked} to an answer, as the rows of {origin} do.')}",
        f"model = {_text(model)}",
        'cases = "cases.jsonl"',
        *([f"images = {json.dumps(list(brought.images))}"] if brought.images else []),
        f"default_candidates = [{_text(candidate)}]",
        "",
        "# What is measured: `primary` names one eval; `target` is what you need, and why.",
        f"primary = {_text(check.primary)}",
        f"target = {target:g}",
        f"target_reason = {_text(reason)}",
        "",
        "# The longest reply: twice what the longest answer needs.",
        "[decoding]",
        f"max_tokens = {_tokens(brought)}",
    ]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """Return a TOML string; JSON's escapes are TOML's too, but for the delete character."""
    return json.dumps(" ".join(value.split()), ensure_ascii=False).replace("\x7f", "")


def _tokens(brought: Brought) -> int:
    """Return a power of two that holds the longest answer twice, at two characters a token."""
    if not brought.answers:
        return 256
    texts = (a if isinstance(a, str) else json.dumps(a) for a in brought.answers)
    longest = max(len(text) for text in texts)
    return int(min(LONGEST_REPLY, max(16, 2 ** math.ceil(math.log2(longest + 8)))))


def write_task(
    folder: Path,
    brought: Brought,
    check: FirstCheck,
    *,
    settings: str,
    prompts: Mapping[str, str],
    origin: str,
) -> Task:
    """Write the task, load it, render every case, and only then put it in its place.

    Raises TaskError where it would not run, UsageError where the folder exists.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists already; choose another name, or remove it")
    had_parent = folder.parent.exists()
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (draft / "prompts").mkdir()
        for name, text in prompts.items():
            (draft / "prompts" / f"{name}.md").write_text(text, encoding="utf-8")
        (draft / "task.toml").write_text(settings, encoding="utf-8")
        eval_text = file_of(check, task=folder.name, origin=origin)
        (draft / f"eval_{folder.name}.py").write_text(eval_text, encoding="utf-8")
        if brought.tools:
            tools = json.dumps(list(brought.tools), indent=2, ensure_ascii=False)
            (draft / TOOLS).write_text(tools + "\n", encoding="utf-8")
        with (draft / "cases.jsonl").open("w", encoding="utf-8") as stream:
            for row in brought.rows:
                text = json.dumps(row, ensure_ascii=False)
                # half a surrogate pair can only be written as an escape
                stream.write(text if _is_whole(text) else json.dumps(row))
                stream.write("\n")
        _check(draft)
        draft.chmod(0o755)
        draft.rename(folder)
    except BaseException as exc:
        shutil.rmtree(draft, ignore_errors=True)
        if not had_parent:
            with contextlib.suppress(OSError):
                folder.parent.rmdir()
        if isinstance(exc, TaskError):  # name the folder that was to be, not the draft
            raise TaskError(str(exc).replace(draft.name, folder.name)) from exc
        raise
    return load_task(folder)


def _is_whole(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _check(draft: Path) -> None:
    """Raise TaskError where the task cannot be loaded, or a prompt cannot be filled for a case."""
    task = load_task(draft)
    for prompt in task.prompts.values():
        for case in task.cases:
            examples = task.rows_for(prompt)[: prompt.shots]
            render(prompt, case, examples=examples, decoding=Decoding())


def prompt_name(path: Path | None) -> str:
    """Return what a prompt file is called in the task."""
    stem = path.stem if path is not None else "zero-shot"
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-").lower()
    return name if name not in {"", "reference"} else "zero-shot"

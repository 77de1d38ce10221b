"""Writes a variant of a prompt as a file of the task. Knows nothing of how it was made."""

from __future__ import annotations

from pathlib import Path

from harness.core.making import MadePrompt, is_as_made
from harness.core.prompts import front_matter
from harness.engine.making import write_prompts
from harness.engine.prompt_files import MADE
from harness.engine.tasks import Task
from harness.engine.text_files import read_text
from harness.errors import UsageError
from harness.records import Prompt

_OF_EXAMPLES = ("shots", "retrieve", "seed", "without")


def write_variant(task: Task, prompt: Prompt, *, name: str, note: str) -> Path:
    """Write `prompt`, a variant of the task's prompt of its name, to `prompts/made/NAME.md`.

    Raises UsageError where a person has a prompt of that name, or edited the file since.
    """
    seed = task.prompts[prompt.name]
    path = task.folder / "prompts" / MADE / f"{name}.md"
    if name in task.prompts and Path(task.prompts[name].path).parent.name != MADE:
        raise UsageError(f"{task.prompts[name].path} has the name {name!r} already: rename it")
    if path.exists() and not is_as_made(read_text(path)):
        raise UsageError(f"{path} was edited since it was made: move it, or delete it")
    settings = dict(front_matter(read_text(Path(seed.path)), path=seed.path)[0])
    for key in ("family", "note", "made", *(() if prompt.shots else _OF_EXAMPLES)):
        settings.pop(key, None)
    made = MadePrompt(
        name=name,
        family=prompt.family,
        sections=prompt.sections,
        note=note,
        settings=settings,
    )
    write_prompts(task, [made], remake=True)
    return path

"""Puts image files into the rows that name them, for forms whose rows leave this machine.

Knows the forms by name, and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from harness.core.examples import Example
from harness.engine.images import data_url

IN_MESSAGES = frozenset(
    {"openai-chat", "openai-preference", "openai-evals", "trl-prompt-completion",
     "trl-preference", "trl-kto"}
)  # fmt: skip
"""Forms that have images in messages, where no path of this machine means anything."""
ELSEWHERE = ("data:", "http://", "https://")


def pictured(form: str, *, folder: Path) -> Callable[[Example], Example]:
    """Return what puts the image files of a row, as seen from `folder`, into it as `data:` URLs,
    where `form` has them in messages. It raises ValueError for a file that is no image.
    """
    if form not in IN_MESSAGES:
        return lambda example: example

    def url(name: str) -> str:
        if name.startswith(ELSEWHERE):
            return name
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"its image {name} is outside the file's folder: copy it there")
        try:
            return data_url(folder / name)
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise ValueError(f"its image {name}: {reason}") from None

    def with_images(example: Example) -> Example:
        if not example.images and not any(m.images for m in example.messages):
            return example
        return replace(
            example,
            images=tuple(map(url, example.images)),
            messages=tuple(
                replace(m, images=tuple(map(url, m.images))) if m.images else m
                for m in example.messages
            ),
        )

    return with_images


def without_paths(example: Example, form: str, *, fields: Collection[str]) -> Example:
    """Return a case of a task without the inputs that name its image files, where `form` shows the
    images themselves: a model would learn the names.
    """
    if form not in IN_MESSAGES or not example.images:
        return example
    return replace(example, inputs={k: v for k, v in example.inputs.items() if k not in fields})

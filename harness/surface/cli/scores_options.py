"""The options of `--scores`, shared by wall, gate and compare. Knows no verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from harness.errors import UsageError


def scores_options(*names: str) -> Callable[[Any], Any]:
    """Add `--scores` and those of its options that `names` lists; and more files as arguments."""
    known = {
        "primary": click.option(
            "--primary", metavar="METRIC", help="With --scores: the metric that decides."
        ),
        "store": click.option(
            "--store",
            "into",
            metavar="PATH",
            help="With --scores: record the verdict (and the look) in this store.",
        ),
    }

    def add(command: Any) -> Any:
        for name in reversed(names):
            command = known[name](command)
        command = click.option(
            "--scores",
            multiple=True,
            metavar="FILE",
            help="Judge scores made elsewhere, as FILE or NAME=FILE: CSV or JSON Lines in long "
            "form, promptfoo, Inspect, lm-eval or DeepEval results. No task is needed.",
        )(command)
        return click.argument("files", nargs=-1, metavar="[FILE]...")(command)

    return add


def one_task(task: str | None, files: Sequence[str]) -> str:
    """Return the task of a command without `--scores`. Raises UsageError."""
    if task is None:
        raise click.UsageError("Missing argument 'TASK' (or --scores FILE).")
    if files:
        raise click.UsageError(f"Got unexpected extra argument ({files[0]}).")
    return task


def only_with_scores(**given: Any) -> None:
    """Raise UsageError for an option that a task does not read: its task.toml has it."""
    for name, value in given.items():
        if value not in (None, ()):
            option = f"--{name.replace('_', '-')}"
            where = "give it before the verb" if name == "store" else "a task has its task.toml"
            raise click.UsageError(f"{option} goes with --scores; {where}.")


def all_files(scores: Sequence[str], task: str | None, files: Sequence[str]) -> list[str]:
    """Return every file: `--scores logs/*` leaves all but the first as arguments."""
    return list(dict.fromkeys([*scores, *([task] if task else []), *files]))


def named_numbers(texts: Sequence[str], *, option: str) -> dict[str, float]:
    """Return NAME=NUMBER pairs. Raises UsageError."""
    found: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not equals or not name or not 0 <= value <= 1:
            raise UsageError(f"{option} {text!r}: give NAME=NUMBER, as in format=.03")
        found[name] = value
    return found


def named_texts(texts: Sequence[str], *, option: str) -> dict[str, str]:
    """Return NAME=TEXT pairs. Raises UsageError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, reason = text.partition("=")
        if not equals or not name or not reason.strip():
            raise UsageError(f"{option} {text!r}: give NAME=REASON")
        found[name] = reason
    return found

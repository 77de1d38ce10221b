"""What `FILE|TASK` names, for every verb that works on data: a file of rows, or a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.core.examples import Example
from harness.core.words import count
from harness.engine.data.bad_rows import SHOWN
from harness.engine.data.forms.columns import IGNORE
from harness.engine.data.reading import BadRow, Reading, open_examples, task_examples
from harness.engine.project import find_task_folder, task_names
from harness.engine.tasks import Task
from harness.errors import TaskError, UsageError
from harness.surface.cli.app import App
from harness.surface.words import clean, one_line

if TYPE_CHECKING:
    from harness.engine.data.writing import Written

_NONE: Mapping[str, str] = {}
ROLES = ("answer", "reference", "rejected", "id", "split", "cluster", "tags", IGNORE)
"""What `--map` says most; any other word is an input's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A task, or a file as it was opened."""

    name: str
    folder: Path
    task: Task | None = None
    path: Path | None = None
    reading: Reading | None = None

    def __iter__(self) -> Iterator[Example]:
        if self.task is not None:
            return task_examples(self.task)
        assert self.reading is not None
        return iter(self.reading)


def is_file(app: App, text: str) -> bool:
    """Whether `text` names a file: one that exists, or what looks like one and is no task."""
    path = Path(text)
    if path.is_dir():
        return not (path / "task.toml").is_file() and text not in task_names(app.project)
    if path.exists():
        return True
    try:
        find_task_folder(app.project, text, cwd=Path.cwd())
    except UsageError:
        return "/" in text or "\\" in text or bool(path.suffix)
    return False


def open_source(
    app: App, text: str, *, form: str | None = None, columns: Mapping[str, str] = _NONE
) -> Source:
    """Open what `text` names. Raises TaskError or UsageError."""
    if is_file(app, text):
        path = Path(text)
        reading = open_examples(path, form=form, columns=columns)
        return Source(name=path.name, folder=path.parent, path=path, reading=reading)
    if form or columns:
        raise UsageError(
            f"{text} is a task: its rows are cases, and --from and --map are for files"
        )
    task = app.task(text)
    return Source(name=task.name, folder=task.folder, task=task)


def columns_of(given: tuple[str, ...]) -> dict[str, str]:
    """Return the pairs of `--map COLUMN=ROLE`. Raises UsageError."""
    found: dict[str, str] = {}
    for pair in given:
        column, mark, role = pair.rpartition("=")
        if not mark or not column.strip() or not role.strip():
            raise UsageError(
                f"--map {pair!r} is not COLUMN=ROLE, as in --map 'Ticket text=message'"
            )
        if column.strip() in found:
            raise UsageError(f"--map names the column {column.strip()!r} twice")
        found[column.strip()] = role.strip()
        _refuse_near_miss(column.strip(), role.strip())
    return found


def _refuse_near_miss(column: str, role: str) -> None:
    """Raise UsageError for a role that was misspelt: its column would be an input, unasked."""
    if role in ROLES or role == column:
        return
    if near := get_close_matches(role.lower(), ROLES, n=1, cutoff=0.8):
        raise UsageError(
            f"--map {column}={role}: did you mean {column}={near[0]}? An input of that name is "
            f"{column}=inputs.{role}"
        )


def refuse_if_nothing(reading: Reading | None) -> None:
    """Raise TaskError where a file that was read to its end gave no row at all."""
    if reading is not None and not reading.read:
        first = f" The first: {_line(reading.bad[0])}" if reading.bad else ""
        raise TaskError(
            f"{reading.container.shown}: no usable row ({reading.bad_count} could not be read)."
            f"{first}"
        )


def skip_bad_option(what: str = "") -> Callable[[Any], Any]:
    """Return the option that every verb has which reads rows of a file."""
    text = what or "FILE: leave out rows that cannot be read."
    return click.option("--skip-bad", is_flag=True, help=text)


def left_out_lines(reading: Reading | None) -> list[str]:
    """Return what is said of rows that could not be read, where the others were used."""
    return [] if reading is None else _without(reading.bad, reading.bad_count, what="read")


def refused_lines(written: Written) -> list[str]:
    """Return what is said of rows that the form which was written cannot hold."""
    return _without(written.refused, written.refused_count, what="written")


def _without(bad: Sequence[BadRow], total: int, *, what: str) -> list[str]:
    if not total:
        return []
    were = "was" if total == 1 else "were"
    lines = [f"  {_line(row)}" for row in bad[:SHOWN]]
    more = [f"  and {total - len(lines)} more"] if total > len(lines) else []
    return [f"{count(total, 'row')} could not be {what} and {were} left out:", *lines, *more]


def bad_json(reading: Reading | None) -> dict[str, object]:
    """Return how many rows of a file could not be read, and the first of them, as plain JSON."""
    if reading is None:
        return {}
    return {
        "bad": reading.bad_count,
        "first_bad": [row._asdict() for row in reading.bad[:20]],
    }


def _line(row: BadRow) -> str:
    return f"{clean(row.place)}: {one_line(row.reason, width=200)}"

"""From one form to another, or nothing at all. Knows no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core.examples import Example
from harness.engine.data.bad_rows import refuse_bad
from harness.engine.data.containers import file_and_sheet
from harness.engine.data.forms import registry
from harness.engine.data.pictured import pictured
from harness.engine.data.reading import Reading, open_examples
from harness.engine.data.writing import Written, free, write_examples
from harness.errors import TaskError, UsageError

STEP = 500
"""Rows between two words on how far it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What was read, and what was written."""

    reading: Reading
    written: Written


def convert(
    source: Path,
    target: Path,
    *,
    to: str,
    form: str | None = None,
    columns: Mapping[str, str] | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    opened: Callable[[Reading], None] = lambda reading: None,
    progress: Callable[[Reading], None] = lambda reading: None,
) -> Converted:
    """Write the rows of `source` to `target` in the form `to`. `opened` hears of the guess before
    the first row is written, `progress` every few hundred rows.

    Raises BadRows where rows cannot be read and `skip_bad` is false, TaskError, UsageError.
    """
    file, _ = file_and_sheet(source)
    if target.exists() and file.exists() and target.resolve() == file.resolve():
        raise UsageError(f"{target}: read and written are one file: name another")
    free(target, overwrite=overwrite)  # before a long reading, not after it
    reading = open_examples(source, form=form, columns=columns or {})
    opened(reading)

    def check() -> None:
        if not skip_bad:
            refuse_bad(reading)
        if not reading.read:
            raise TaskError(f"{reading.container.shown}:1: no row of {reading.form} in it")

    written = write_examples(
        target,
        _watched(reading, progress),
        form=to,
        overwrite=overwrite,
        allow_refused=skip_bad,
        check=check,
        prepared=pictured(registry.find(to).name, folder=file if file.is_dir() else file.parent),
        fields=reading.plan.fields,
    )
    return Converted(reading=reading, written=written)


def _watched(reading: Reading, progress: Callable[[Reading], None]) -> Iterator[Example]:
    for number, example in enumerate(reading, start=1):
        if number % STEP == 0:
            progress(reading)
        yield example

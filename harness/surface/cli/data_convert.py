"""`harness data convert`: from one form of data to another."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.core.words import count
from harness.errors import UsageError
from harness.records import SPLITS, Split
from harness.surface.cli.app import App, options
from harness.surface.cli.data_source import (
    bad_json,
    columns_of,
    is_file,
    left_out_lines,
    refused_lines,
    skip_bad_option,
)
from harness.surface.progress import TextProgress
from harness.surface.words import clean, one_line, percent

if TYPE_CHECKING:
    from harness.engine.data.converting import Converted
    from harness.engine.data.reading import Reading
    from harness.engine.data.writing import Written
    from harness.engine.tasks import Task


@click.command("convert")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--from", "form", metavar="FORM", help="The form of IN (default: it is told).")
@click.option("--to", "to", metavar="FORM", required=True, help="The form of OUT.")
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="COLUMN=ROLE",
    help="What a column is: id, reference, rejected, split, cluster, tags, is_good, messages, "
    "tools, or else the name of an input. `a.b` is the key b of the object a.",
)
@click.option(
    "--split", "splits", multiple=True, type=click.Choice(SPLITS),
    help="Of a task: the rows of this split; repeatable (default: train alone).",
)  # fmt: skip
@skip_bad_option("Leave out rows that cannot be read or written.")
@click.option("--force", is_flag=True, help="Replace OUT.")
@options()
@click.pass_obj
def convert(
    store: str | None,
    source: str,
    target: Path,
    form: str | None,
    to: str,
    mapping: tuple[str, ...],
    splits: tuple[Split, ...],
    skip_bad: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Write the rows of IN to OUT in another form. IN is a file, a folder of them, or a task.

    Forms: cases, columns (a table), openai-chat, openai-preference, alpaca, sharegpt,
    trl-prompt-completion, trl-preference, trl-kto, openai-evals, promptfoo; read only: hh-rlhf,
    squad, inspect, otlp, langfuse, phoenix. OUT's suffix says as what file: .jsonl, .json, .csv,
    .tsv, .xlsx, .parquet, .yaml, or .dataset for a folder as Hugging Face `datasets` saves it; .gz
    or .zst after it packs it. Every row is read back before it counts, and what OUT cannot carry is
    listed. OUT appears whole or not at all.
    """
    from harness.engine.data.converting import convert as run
    from harness.surface.pace import Timed

    columns = columns_of(mapping)
    with App(store, as_json=as_json) as app:
        if not is_file(app, source):
            if form or columns:
                raise UsageError(f"{source} is a task: --from and --map are for files")
            task = app.task(source)
            app.refuse_leaks(task, "train")  # what is trained on elsewhere is trained on
            return _of_task(app, task, target, to=to, splits=splits, skip_bad=skip_bad, force=force)
        if splits:
            raise UsageError(
                f"--split is for a task, and {source} is a file: see harness data split"
            )
        timed = Timed(Path(source))
        with TextProgress(label="KB") as shown, timed:
            bar = ByteProgress(shown)
            done = run(
                Path(source),
                target,
                to=to,
                form=form,
                columns=columns,
                overwrite=force,
                skip_bad=skip_bad,
                opened=lambda reading: app.say(*guess_lines(reading)),
                progress=bar,
            )
            bar(done.reading)
        app.answer(_plain(done) | timed.pace(done.written.rows).json)
        app.say(*_lines(done), *timed.lines(done.written.rows))
    return 0


def _of_task(
    app: App, task: Task, target: Path, *, to: str, splits: tuple[Split, ...], skip_bad: bool,
    force: bool,
) -> int:  # fmt: skip
    """Write a task's cases: those of train, where nothing else was asked for, since most forms
    have no place for a split and would mix what is sealed into what is trained on.
    """
    from harness.engine.data.forms import registry
    from harness.engine.data.pictured import without_paths
    from harness.engine.data.reading import task_examples
    from harness.engine.data.writing import write_examples

    wanted = splits or ("train",)
    chosen = registry.find(to).name
    rows = [
        without_paths(row, chosen, fields=task.settings.images)
        for row in task_examples(task)
        if row.split in wanted
    ]
    left = len(task.cases) - len(rows)
    names = " and ".join(wanted)
    if not rows:
        raise UsageError(f"task {task.name!r} has no case in {names}: --split names another")
    written = write_examples(target, rows, form=to, overwrite=force, allow_refused=skip_bad)
    app.answer({"form": "task", "splits": list(wanted), "left_out": left, **written_json(written)})
    app.say(
        f"read as the task {clean(task.name)}: its rows of {names}; {left} of other splits stay"
    )
    app.say(*written_lines(written))
    return 0


class ByteProgress:
    """Shows how much of a file was read, from its second second on."""

    def __init__(self, shown: TextProgress) -> None:
        self._shown, self._read, self._since = shown, 0, time.monotonic()
        self._is_begun = False

    def __call__(self, reading: Reading) -> None:
        """Tell how far `reading` is."""
        if not self._is_begun:
            if time.monotonic() - self._since < 1.0:
                return
            self._shown.begin("", max(reading.bytes_total // 1024, 1))
            self._is_begun = True
        read = min(reading.bytes_read, reading.bytes_total) // 1024
        for _ in range(read - self._read):
            self._shown.advance("")
        self._read = max(read, self._read)


def guess_lines(reading: Reading) -> list[str]:
    """Return which form was told, how sure that is, and why."""
    sure = percent(reading.confidence)
    lines = [f"read as {reading.form} ({sure} sure: {one_line(reading.why, width=200)})"]
    return lines + [f"  {one_line(note, width=300)}" for note in reading.notes]


def _lines(done: Converted) -> list[str]:
    reading, written = done.reading, done.written
    is_less = bool(reading.bad_count or reading.left)
    first, *rest = written_lines(written, is_less=is_less)
    lines = [first]
    if reading.skipped:
        lines.append(f"{reading.skipped} hold no data (spans without a model, repeats of a sample)")
    lines += left_out_lines(reading)
    lines += [f"not read: {clean(what)}" for what in reading.left]
    return lines + rest


def written_lines(written: Written, *, is_less: bool = False) -> list[str]:
    """Return how many rows were written, what was given to them, and what was lost. `is_less`:
    something of the source was left out, as was said.
    """
    lines = [f"{count(written.rows, 'row')} as {written.form} in {clean(str(written.path))}"]
    lines += refused_lines(written)
    for what, n in written.added.items():
        lines.append(f"given to {count(n, 'row')}: {one_line(what)}")
    if written.lost:
        lines.append(f"{written.form} cannot carry, and it was lost:")
        lines += [f"  {one_line(what)}: {count(n, 'row')}" for what, n in written.lost.items()]
    else:
        else_ = " else" if is_less or written.refused_count else ""
        lines.append(f"nothing{else_} was lost: each row was read back and compared")
    return lines


def _plain(done: Converted) -> dict[str, object]:
    reading, written = done.reading, done.written
    return {
        "form": reading.form,
        "confidence": round(reading.confidence, 3),
        "why": reading.why,
        "notes": list(reading.notes),
        "skipped": reading.skipped,
        "not_read": list(reading.left),
        **bad_json(reading),
        **written_json(written),
    }


def written_json(written: Written) -> dict[str, object]:
    """Return what was written, as plain JSON."""
    return {
        "to": written.form,
        "out": str(written.path),
        "rows": written.rows,
        "refused": written.refused_count,
        "first_refused": [row._asdict() for row in written.refused[:20]],
        "lost": dict(written.lost),
        "added": dict(written.added),
    }

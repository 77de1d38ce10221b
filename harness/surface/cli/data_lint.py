"""`harness data lint`: what is wrong with the rows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import click

from harness.core.words import count
from harness.engine.data.bad_rows import BadRows
from harness.errors import UsageError
from harness.surface.cli.app import App, options
from harness.surface.cli.data_source import columns_of, is_file, skip_bad_option
from harness.surface.progress import QUIET_S, TextProgress

if TYPE_CHECKING:
    from harness.core.lints import Measure
    from harness.engine.data.linting import Report, Rows
    from harness.engine.data.reading import Reading
    from harness.engine.tasks import Task


@click.command("lint")
@click.argument("sources", metavar="FILE|TASK...", nargs=-1, required=True)
@click.option(
    "--rows", type=click.IntRange(0), default=5, show_default=True, help="Rows shown a finding."
)
@click.option("--strict", is_flag=True, help="Warnings are findings too: exit code 1.")
@click.option("--only", multiple=True, metavar="RULE", help="This rule alone; may be given again.")
@click.option("--skip", multiple=True, metavar="RULE", help="All but this rule.")
@click.option(
    "--near",
    type=click.FloatRange(0.5, 1.0),
    help="Share of word sequences from which two rows are nearly the same (default: .8, or the "
    "task's own `near`).",
)
@click.option(
    "--threshold",
    "thresholds",
    type=float,
    multiple=True,
    metavar="NUMBER",
    help="A limit below which numbers may be kept on purpose; may be given again.",
)
@click.option(
    "--words",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A list of known words, one a line: others that are frequent are told.",
)
@click.option(
    "--candidate",
    metavar="NAME",
    help="TASK: count tokens as this candidate's model does, with its template and context.",
)
@click.option("--from", "form", metavar="FORM", help="FILE: its form (default: it is told).")
@click.option(
    "--map", "mapping", multiple=True, metavar="COLUMN=ROLE", help="FILE: what a column is."
)
@click.option(
    "--sarif",
    "sarif_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write SARIF 2.1.0 to this file.",
)
@skip_bad_option("FILE: rows that cannot be read are a note, and no finding.")
@options()
@click.pass_obj
def lint_command(
    store: str | None,
    sources: tuple[str, ...],
    rows: int,
    strict: bool,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    near: float | None,
    thresholds: tuple[float, ...],
    words: Path | None,
    candidate: str | None,
    form: str | None,
    mapping: tuple[str, ...],
    sarif_file: Path | None,
    skip_bad: bool,
    as_json: bool,
) -> int:
    """Find what is wrong with the rows of a task or of files: docs/lints.md lists the rules.

    Several files are taken together, each as a split: so leaks between train.jsonl and test.jsonl
    are found. Exit code 0: no error found (with --strict, no warning
    either); 1: findings; 2: a file or a row that cannot be read; what can be is linted.
    """
    from harness.core.lints.chat import UNREADABLE
    from harness.engine.data.linting import Settings, lint
    from harness.surface.lint_lines import report_lines
    from harness.surface.pace import Timed

    columns = columns_of(mapping)
    with App(store, as_json=as_json) as app:
        task, read = _sources(app, sources, form=form, columns=columns)
        if task is None and candidate:
            raise UsageError("--candidate counts the tokens of a task's cases: name a task")
        measure, pieces = _measures(app, task, candidate)
        timed = Timed(None if task is not None else Path(sources[0]))
        with TextProgress(label="KB") as shown, timed, Bar(shown, files=len(read)) as bar:
            report = lint(
                read,
                settings=Settings(
                    near=_near(near, task),
                    thresholds=thresholds,
                    words=frozenset(_words(words)),
                    only=only,
                    skip=(*skip, *([UNREADABLE] if skip_bad else [])),
                ),
                task=task,
                measure=measure,
                pieces=pieces,
                progress=bar,
            )
        error = None
        if report.unreadable_count and skip_bad:
            report = replace(report, notes=(*report.notes, _left_out(report)))
        elif report.unreadable_count:
            error = BadRows(
                report.unreadable[:1], total=report.unreadable_count, so="not all was linted"
            )
        if sarif_file is not None:
            _write_sarif(sarif_file, report)
        app.answer(
            {
                "name": report.name,
                "rows": report.rows,
                "bad": report.bad,
                "errors": report.count("error"),
                "warnings": report.count("warn"),
                "findings": list(report.findings),
                "notes": list(report.notes),
                **timed.pace(report.rows).json,
                **({"error": str(error), "exit_code": error.exit_code} if error else {}),
            }
        )
        app.say(*report_lines(report, most=rows), *timed.lines(report.rows))
        if error is not None:
            return app.fail(error)
    return int(bool(report.count("error") or (strict and report.count("warn"))))


def _sources(
    app: App, sources: tuple[str, ...], *, form: str | None, columns: Mapping[str, str]
) -> tuple[Task | None, list[Rows]]:
    """Return the task that is linted, if it is one, and the sets of rows. Raises UsageError."""
    from harness.engine.data.linting import file_rows, split_of, task_rows

    task: Task | None = None
    read: list[Rows] = []
    for source in sources:
        if is_file(app, source):
            path = Path(source)
            split = split_of(path) if len(sources) > 1 else ""
            read.append(file_rows(path, form=form, columns=columns, split=split))
        elif len(sources) > 1:
            raise UsageError(f"{source} is a task: it is linted alone")
        else:
            task = app.task(source)
            read.append(task_rows(task))
    if task is not None and (form or columns):
        raise UsageError("--from and --map are for files: a task's rows are cases")
    return task, read


def _write_sarif(path: Path, report: Report) -> None:
    from harness.engine.data.linting import ALL_RULES
    from harness.engine.data.sinks import replacing
    from harness.surface.sarif import sarif

    log = sarif(report.findings, rules=ALL_RULES)
    with replacing(path, kind="json", overwrite=True) as part:
        part.write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")


def _left_out(report: Report) -> str:
    first = report.unreadable[0]
    return (
        f"{count(report.unreadable_count, 'row')} could not be read and left out, the first at "
        f"{first.place}: {first.reason}"
    )


class Bar:
    """Shows how much of the files was read, from the third second on.

    Rows that may be alike are looked at again, in a tenth of the time: that is said, not counted.
    """

    def __init__(self, shown: TextProgress, *, files: int) -> None:
        self._shown, self._since, self._files = shown, time.monotonic(), files
        self._reading: Reading | None = None
        self._total = self._read = self._told = self._before = self._rows = 0

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            seen = self._rows + (self._reading.read if self._reading else 0)
            self._shown.note(
                f"stopped after {count(seen, 'row')}: nothing is told of them, for most rules "
                "judge a whole set"
            )

    def __call__(self, reading: Reading) -> None:
        """Tell how far `reading` is."""
        if reading is not self._reading:
            self._files -= 1
            if self._files == -1 and self._told:
                for _ in range(self._total - self._told):
                    self._shown.advance("")
                self._shown.note("looking again at the rows that may be alike")
            self._before = self._total
            self._rows += self._reading.read if self._reading and self._files >= 0 else 0
            self._reading, size = reading, max(reading.bytes_total // 1024, 1)
            if self._files < 0:
                return
            self._total += size
            if self._told:
                self._shown.begin("", size)
        if self._files < 0:
            return
        self._read = self._before + min(reading.bytes_read // 1024, self._total - self._before)
        if time.monotonic() - self._since < QUIET_S:
            return
        if not self._told:
            self._shown.begin("", self._total)
        for _ in range(self._read - self._told):
            self._shown.advance("")
        self._told = max(self._read, self._told, 1)


def _measures(
    app: App, task: Task | None, candidate: str | None
) -> tuple[Measure | None, Callable[[str], int] | None]:
    if task is None or candidate is None:
        return None, None
    from harness.engine.data.linting import pieces_of, task_measure

    chosen = app.candidate(task, candidate)
    return task_measure(task, chosen, pool=app.pool), pieces_of(app.pool.get(chosen))


def _near(wish: float | None, task: Task | None) -> float:
    """Return the share that makes a near copy: as wished, else the task's own, else the usual."""
    from harness.core.twins import NEAR

    usual = NEAR if task is None else task.settings.near
    return usual if wish is None else wish


def _words(path: Path | None) -> list[str]:
    from harness.engine.text_files import read_text

    return read_text(path).split() if path is not None else []

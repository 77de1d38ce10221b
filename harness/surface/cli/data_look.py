"""`harness data look`: read the raw rows before anything else."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from harness.core.examples import Example
from harness.core.words import count
from harness.engine.data.bad_rows import BadRows
from harness.engine.data.reading import Reading
from harness.engine.tasks import Task
from harness.errors import UsageError
from harness.records import SPLITS, Case, to_plain
from harness.surface.cli.app import App, options
from harness.surface.cli.data_source import (
    Source,
    bad_json,
    columns_of,
    left_out_lines,
    open_source,
    refuse_if_nothing,
    skip_bad_option,
)
from harness.surface.judge_prompts import JudgePrompt, judge_prompts, prompt_lines
from harness.surface.look import Look, gather
from harness.surface.look_text import field_lines, part_lines, row_lines, tag_lines
from harness.surface.plots import is_plain
from harness.surface.progress import TextProgress
from harness.surface.words import clean, one_line

WIDEST = 110


@click.command("look")
@click.argument("source", metavar="FILE|TASK")
@click.option(
    "--rows", type=click.IntRange(0), default=5, show_default=True, help="How many rows to read."
)
@click.option("--split", type=click.Choice(SPLITS), help="Rows of this split alone.")
@click.option(
    "--order",
    default="random",
    show_default=True,
    metavar="random|flagged|LINT",
    help="Which rows come first: any; those that a lint found something in, the worst first; "
    "those of one lint.",
)
@click.option("--seed", default=0, show_default=True, help="Which rows: the same for a seed.")
@click.option("--full", is_flag=True, help="Show long texts to their end.")
@click.option("--plain", is_flag=True, help="ASCII alone, for a log or a screen reader.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page too.")
@click.option("--from", "form", metavar="FORM", help="What the file is (default: told from it).")
@click.option(
    "--map", "mapped", multiple=True, metavar="COLUMN=ROLE", help="What a column is; repeatable."
)
@click.option(
    "--judges", is_flag=True, help="Also print what each judge is asked about the first dev row."
)
@skip_bad_option("FILE: rows that cannot be read are no error: they are named, and exit code 0.")
@options()
@click.pass_obj
def look_command(
    store: str | None,
    source: str,
    rows: int,
    split: str | None,
    order: str,
    seed: int,
    full: bool,
    plain: bool,
    html: Path | None,
    form: str | None,
    mapped: tuple[str, ...],
    judges: bool,
    skip_bad: bool,
    as_json: bool,
) -> int:
    """Show raw rows first, then what all rows are like.

    Rows of the sealed test split are shown only where --split test asks for them. Exit code 2:
    rows that cannot be read; the others are shown all the same.
    """
    with App(store, as_json=as_json) as app:
        columns = columns_of(mapped)
        flags: dict[str, tuple[str, ...]] = {}
        counts: dict[str, int] = {}
        if order != "random":
            from harness.surface.look_flags import check_order, flags_of

            check_order(order)
        opened = open_source(app, source, form=form, columns=columns)
        if order != "random":
            flags, counts = flags_of(
                opened.path, opened.task, order=order, form=form, columns=columns
            )
        seen = _gathered(opened, rows=rows, seed=seed, split=split, flags=flags)
        refuse_if_nothing(opened.reading)
        error = None if skip_bad else _unread(opened.reading)
        prompts = _judge_prompts(opened, seen.rows) if judges else []
        told: dict[str, Any] = {
            "rows": [_row(row, flags) for row in seen.rows],
            "facts": {name: part.facts() for name, part in seen.parts.items()},
            "fields": [_field(f) for f in seen.fields.by_name.values()],
            "sealed": seen.sealed,
        }
        if opened.reading is not None:
            told |= {"form": opened.reading.form, **bad_json(opened.reading)}
        told |= {"error": str(error), "exit_code": error.exit_code} if error else {}
        told |= {"flags": counts} if counts else {}
        app.answer(told | ({"judges": prompts} if judges else {}))
        plain = plain or is_plain()
        width = min(WIDEST, shutil.get_terminal_size((100, 24)).columns)
        for row in seen.rows:
            lines = row_lines(
                row,
                folder=opened.folder,
                flags=flags.get(row.place, ()),
                width=width,
                is_full=full,
                plain=plain,
            )
            app.say(*lines, "")
        for prompt in prompts:
            app.say(*prompt_lines(prompt))
        app.say(*_file_lines(opened), *part_lines(seen.parts, is_task=opened.task is not None))
        if seen.sealed:
            were = "stays" if seen.sealed == 1 else "stay"
            many = f"{seen.sealed:,} row{'s' * (seen.sealed != 1)} of the test split"
            app.say(f"{many} {were} sealed (--split test shows them)")
        app.say(*tag_lines(seen, plain=plain), *field_lines(seen, plain=plain))
        app.say(*_leak_lines(app, opened.task), *_flag_lines(counts))
        if html is not None:
            from harness.surface.report.look_page import write_look

            write_look(opened.name, seen, html, flags=flags, counts=counts, folder=opened.folder)
            app.say(f"{html}: the same as a page")
        return app.fail(error) if error else 0


def _unread(reading: Reading | None) -> BadRows | None:
    """Return what is wrong where rows could not be read: they stand in the answer already."""
    if reading is None or not reading.bad_count:
        return None
    return BadRows(
        reading.bad[:1], total=reading.bad_count, so="not all was looked at",
        known_as=reading.form,
    )  # fmt: skip


def _gathered(
    opened: Source, *, rows: int, seed: int, split: str | None, flags: dict[str, tuple[str, ...]]
) -> Look:
    splits = SPLITS if opened.task is not None else ()
    read = partial(
        gather, opened, rows=rows, seed=seed, split=split, splits=splits, chosen=flags or None
    )
    reading = opened.reading
    if reading is None or reading.bytes_total < 20_000_000:
        return read()
    with TextProgress(label="megabytes") as progress:
        progress.begin("", reading.bytes_total // 1_000_000)
        done = 0

        def tick(_: int) -> None:
            nonlocal done
            while done < reading.bytes_read // 1_000_000:
                done += 1
                progress.advance("")

        return read(tick=tick)


def _row(row: Example, flags: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(row)
    return plain | ({"flags": flags[row.place]} if row.place in flags else {})


def _field(found: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": found.name, "kind": found.kind, "values": found.seen}
    plain |= {"absent": found.absent, "empty": found.empty}
    for name in ("lengths", "numbers"):
        spread = getattr(found, name)
        if spread.count:
            quantiles = {f"p{round(100 * q)}": spread.quantile(q) for q in (0.05, 0.5, 0.95)}
            plain[name] = {"min": spread.low, **quantiles, "max": spread.high}
    plain |= {"classes": dict(found.classes[:50])} if found.classes else {}
    plain |= {"heaps": dict(found.heaps)} if found.heaps else {}
    return plain


def _file_lines(opened: Source) -> list[str]:
    reading = opened.reading
    if reading is None:
        return []
    sure = "" if reading.confidence >= 0.9 else f", {100 * reading.confidence:.0f} % sure"
    lines = [f"{clean(str(opened.path))}: {reading.form}{sure}: {one_line(reading.why, width=300)}"]
    lines += [f"  {clean(note)}" for note in reading.notes]
    lines += [f"  not read: {clean(what)}" for what in reading.left]
    return lines + [f"  {line}" for line in left_out_lines(reading)]


def _leak_lines(app: App, task: Task | None) -> list[str]:
    leaks = app.leaks(task) if task is not None else []
    more = [f"  and {count(len(leaks) - 5, 'case')} more"] if len(leaks) > 5 else []
    return [f"LEAK: {clean(leak.text)}" for leak in leaks[:5]] + more


def _flag_lines(counts: dict[str, int]) -> list[str]:
    if not counts:
        return []
    return ["what the lints found, by rows", *(f"  {n:>6,}  {rule}" for rule, n in counts.items())]


def _judge_prompts(opened: Source, drawn: Sequence[Example]) -> list[JudgePrompt]:
    """Return what the judges are asked about the first dev row that is shown, else about the
    first shown row, or the first dev case.
    """
    task = opened.task
    if task is None or not task.settings.judges:
        place = task.folder / "task.toml" if task is not None else opened.name
        raise UsageError(f"{place}: no [judges.NAME], so there is no prompt of a judge")
    ids = {row.id for row in drawn}
    shown: list[Case] = [c for c in task.cases if c.id in ids]
    shown = sorted(shown, key=lambda case: case.split != "dev") or list(task.split("dev"))
    return list(judge_prompts(task, shown[0])) if shown else []

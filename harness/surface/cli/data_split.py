"""`harness data split`: train, dev and test, by source and near-duplicate group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from harness.core.words import count as many, listed
from harness.records import SPLITS, Split
from harness.surface.cli.app import App, options
from harness.surface.cli.data_source import (
    bad_json,
    columns_of,
    is_file,
    left_out_lines,
    refuse_if_nothing,
    refused_lines,
    skip_bad_option,
)
from harness.surface.words import clean, percent

if TYPE_CHECKING:
    from harness.core.examples import Example
    from harness.engine.data.reading import Reading
    from harness.engine.data.splitting import By, Earlier, Pairs, Splits
    from harness.surface.cli.data_lint import Bar

STRATA = 12
EACH = 256
"""Rows after which the progress is told."""


@click.command("split")
@click.argument("source", metavar="FILE|TASK")
@click.option("--dev", type=float, default=0.2, show_default=True, help="Share of rows for dev.")
@click.option("--test", type=float, default=0.2, show_default=True, help="Share of rows for test.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another deal.")
@click.option("--all", "anew", is_flag=True, help="Deal rows anew that have a split already.")
@click.option(
    "--by",
    type=click.Choice(["tag", "answer", "none"]),
    default="tag",
    show_default=True,
    help="What should have its share in every split: tags, or answers (labels). Rows without one "
    "are dealt each by its own draw.",
)
@click.option(
    "--near",
    type=click.FloatRange(0.5, 1.0),
    help="Share of word sequences from which two rows stay together (default: .8, or the task's "
    "own `near`).",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write all rows to this file.")
@click.option("--to", "to", metavar="FORM", help="The form of --out (default: that of FILE).")
@click.option("--force", is_flag=True, help="Replace the file of --out.")
@skip_bad_option("FILE: leave out rows that cannot be read, or not be written to --out.")
@click.option("--from", "form", metavar="FORM", help="FILE: its form (default: it is told).")
@click.option(
    "--map", "mapping", multiple=True, metavar="COLUMN=ROLE", help="FILE: what a column is."
)
@options()
@click.pass_obj
def split_command(
    store: str | None,
    source: str,
    dev: float,
    test: float,
    seed: int,
    anew: bool,
    by: str,
    near: float | None,
    out: Path | None,
    to: str | None,
    force: bool,
    skip_bad: bool,
    form: str | None,
    mapping: tuple[str, ...],
    as_json: bool,
) -> int:
    """Deal rows into train, dev and test; rows of one source, or nearly the same, stay together.

    Where nothing was dealt before, a hash of each group decides, so that rows which are added at
    the end move no other. Each kind (of tags, or of answers) has its share within some rows: 2 of
    20, 7 of 400. Without kinds, shares come out as chance lets them, and rows may come anywhere.
    Rows that have a split keep it, as do rows of a file that is replaced (--out FILE --force): a
    longer export, in any order, is dealt as the shorter one was. New rows follow the group that
    they belong to.

    Without --out nothing is written, and the counts are shown. Exit code 1: rows that have a split
    already leak into another one (--all deals anew); 2: rows that cannot be read.
    """
    from harness.core.twins import NEAR
    from harness.engine.data.bad_rows import refuse_bad
    from harness.engine.data.linting import Rows, task_rows
    from harness.engine.data.reading import open_examples
    from harness.engine.data.splitting import missed_of, split_rows, with_splits
    from harness.engine.data.writing import free, write_examples
    from harness.surface.cli.data_lint import Bar
    from harness.surface.pace import Timed
    from harness.surface.progress import TextProgress

    columns = columns_of(mapping)
    with App(store, as_json=as_json) as app:
        path: Path | None = None
        bar: Bar | None = None
        readings: list[Reading] = []
        missed: Callable[[Splits], Pairs] | None = None
        if is_file(app, source):
            found_at = path = Path(source)

            def again() -> Reading:
                readings.append(open_examples(found_at, form=form, columns=columns))
                return readings[-1]

            def opened() -> Iterator[Example]:
                reading = again()  # the second one sees every row; later ones look again at some
                return _told(reading, bar) if len(readings) == 2 else iter(reading)

            rows = [Rows(name=path.name, open=opened)]
            own_form = again().form
        else:
            task = app.task(source)
            rows, own_form = [task_rows(task)], "cases"
            near = task.settings.near if near is None else near
            missed = missed_of(task, near=near)
        if out is not None:
            free(out, overwrite=force)
            _keep_other_sheets(path, out)
        is_again = out is not None and force and not anew and out.is_file()
        earlier = _earlier(out, skip_bad=skip_bad) if out is not None and is_again else None
        with TextProgress(label="KB") as shown, Timed(path) as timed:
            bar = Bar(shown, files=1)
            found = split_rows(
                rows,
                dev=dev,
                test=test,
                seed=seed,
                anew=anew,
                by=cast("By", by),
                near=NEAR if near is None else near,
                earlier=earlier,
                missed=missed,
            )
        worst = max(readings, key=lambda one: (one.bad_count, one.read), default=None)
        refuse_if_nothing(worst)
        if worst is not None and not skip_bad:
            refuse_bad(worst)
        count = sum(found.rows.values())
        told = _plain(found) | bad_json(worst) | timed.pace(count).json
        notes = readings[0].notes if readings else ()
        told["notes"] = list(notes)
        shares: dict[Split, float] = {"train": 1 - dev - test, "dev": dev, "test": test}
        app.say(*map(clean, notes), *_lines(found, shares))
        app.say(*timed.lines(count), *left_out_lines(worst))
        if earlier:
            app.say(f"rows that stand in {out} already keep the split that they have there")
        if found.old_leaks:
            app.answer(told)
            app.say("Nothing was written: --all deals all rows anew; or remove one of each group.")
            return 1
        if out is not None:
            written = write_examples(
                out, with_splits(rows, found), form=to or own_form, overwrite=force,
                allow_refused=skip_bad, fields=readings[0].plan.fields if readings else (),
            )  # fmt: skip
            app.say(f"wrote {many(written.rows, 'row')} to {out}", *refused_lines(written))
            told["refused"] = written.refused_count
            lost = ", ".join(f"{what} ({many(n, 'row')})" for what, n in written.lost.items())
            if lost:
                app.say(f"the form {written.form} has no place for: {clean(lost)}")
        app.answer(told)
    return 0


def _told(reading: Reading, bar: Bar | None) -> Iterator[Example]:
    """Yield the rows of a file, and show how far that is."""
    for number, example in enumerate(reading):
        if bar is not None and number % EACH == 0:
            bar(reading)
        yield example


def _earlier(out: Path, *, skip_bad: bool) -> Earlier:
    from harness.engine.data.bad_rows import refuse_bad
    from harness.engine.data.reading import open_examples
    from harness.engine.data.splitting import splits_of

    reading = open_examples(out)
    found = splits_of(reading)
    if not skip_bad:  # a row whose split is not known would be dealt anew
        refuse_bad(reading)
    return found


def _keep_other_sheets(path: Path | None, out: Path) -> None:
    """Raise UsageError where writing would replace the workbook that a sheet is read from."""
    from harness.engine.data.containers import file_and_sheet
    from harness.errors import UsageError

    file, sheet = file_and_sheet(path) if path is not None else (None, "")
    if file is not None and sheet and out.resolve() == file.resolve():
        raise UsageError(f"{out}: its other sheets would be lost: name another file")


def _plain(found: Splits) -> dict[str, object]:
    return {
        "rows": found.rows,
        "groups": found.groups,
        "near_pairs": found.near,
        "new": found.new,
        "moved": found.moved,
        "strata": found.strata,
        "left_out": found.left_out,
        "left_out_rows": found.left_out_rows,
        "leaks": found.leaks,
        "leaking_groups": found.leaking_groups,
    }


def _lines(found: Splits, shares: Mapping[Split, float]) -> Iterator[str]:
    total = sum(found.rows.values())
    said = ", ".join(
        f"{split} {found.rows[split]} ({percent(found.rows[split] / max(total, 1))})"
        for split in SPLITS
    )
    near = f"{many(found.near, 'near pair')} kept together"
    yield f"{said}; {many(found.groups, 'group')}, {near}"
    yield f"{many(found.new, 'row')} had no split; {many(found.moved, 'row')} moved"
    if empty := [split for split in SPLITS if shares[split] and not found.rows[split]]:
        groups = many(found.groups, "group")
        yield (
            f"No row is {listed(empty, joint='or')}: the rows are {groups}, each of one source "
            "(`cluster`) or of rows that ask nearly the same, and none is cut"
        )
    if found.too_many:
        from harness.engine.data.splitting import MOST_STRATA

        yield f"--by: there are more than {MOST_STRATA:,} kinds, so rows were dealt as one kind"
    if len(found.strata) > 1:
        for name, counts in list(found.strata.items())[:STRATA]:
            shown = ", ".join(f"{split} {counts[split]}" for split in SPLITS)
            yield f"  {clean(name) or '(none)'}: {shown}"
        if len(found.strata) > STRATA:
            yield f"  and {len(found.strata) - STRATA} more"
    for place in found.left_out[:10]:
        yield f"left out: {clean(place.id or place.place)} belongs to groups of two splits"
    if found.left_out_rows > 10:
        yield f"  and {found.left_out_rows - 10} more"
    for group in found.leaks[:10]:
        shown = " = ".join(f"{clean(p.id or p.place)} ({p.detail})" for p in group[:4])
        yield f"LEAK: {shown}"
    if found.leaking_groups > 10:
        yield f"  and {found.leaking_groups - 10} more"

"""`harness data split`: train, dev and test, by source and near-duplicate group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from harness.errors import TaskError
from harness.records import SPLITS
from harness.surface.cli.app import App, options
from harness.surface.words import clean, percent

if TYPE_CHECKING:
    from harness.engine.data.reading import Reading
    from harness.engine.data.splitting import By, Splits

STRATA = 12


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
    help="What should have its share in every split: tags, or answers (labels).",
)
@click.option(
    "--near",
    type=click.FloatRange(0.5, 1.0),
    default=0.8,
    show_default=True,
    help="Share of word sequences from which two rows stay together.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write all rows to this file.")
@click.option("--to", "to", metavar="FORM", help="The form of --out (default: that of FILE).")
@click.option("--force", is_flag=True, help="Replace the file of --out.")
@click.option("--skip-bad", is_flag=True, help="Leave out of --out what cannot be read.")
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
    near: float,
    out: Path | None,
    to: str | None,
    force: bool,
    skip_bad: bool,
    form: str | None,
    mapping: tuple[str, ...],
    as_json: bool,
) -> int:
    """Deal rows into train, dev and test; rows of one source, or nearly the same, stay together.

    Rows that have a split keep it, so that a growing set never moves a row; new rows follow the
    group that they belong to. So do rows of a file that is replaced (--out FILE --force): a longer
    export is dealt as the shorter one was. Without --out nothing is written, and the counts are
    shown. Exit code 1: rows that have a split already leak into another one (--all deals anew).
    """
    from harness.engine.data.linting import Rows, task_rows
    from harness.engine.data.reading import first_reasons, open_examples
    from harness.engine.data.splitting import split_rows, splits_of, with_splits
    from harness.engine.data.writing import free, write_examples
    from harness.surface.cli.data_source import columns_of, is_file
    from harness.surface.pace import Timed

    columns = columns_of(mapping)
    with App(store, as_json=as_json) as app:
        path: Path | None = None
        readings: list[Reading] = []
        if is_file(app, source):
            found_at = path = Path(source)

            def again() -> Reading:
                readings.append(open_examples(found_at, form=form, columns=columns))
                return readings[-1]

            rows = [Rows(name=path.name, open=again)]
            own_form = again().form
        else:
            rows, own_form = [task_rows(app.task(source))], "cases"
        if out is not None:
            free(out, overwrite=force)
        is_again = out is not None and force and not anew and out.is_file()
        earlier = splits_of(open_examples(out)) if out is not None and is_again else {}
        with Timed(path) as timed:
            found = split_rows(
                rows,
                dev=dev,
                test=test,
                seed=seed,
                anew=anew,
                by=cast("By", by),
                near=near,
                earlier=earlier,
            )
        worst = max(readings, key=lambda one: one.bad_count, default=None)
        bad = worst.bad_count if worst is not None else 0
        if worst is not None and not found.splits:
            raise TaskError(f"{source}: no usable row ({bad} rejected). {_first(worst)}".rstrip())
        old_leaks = [g for g in found.leaks if not any(p.detail == "new" for p in g)]
        count = sum(found.rows.values())
        app.answer(_plain(found) | {"rejected": bad} | timed.pace(count).json)
        app.say(*_lines(found), *timed.lines(count))
        if worst is not None and bad:
            many = "1 row" if bad == 1 else f"{bad} rows"
            app.say(f"{many} cannot be read, so in no split:")
            app.say(*(f"  - {clean(reason)}" for reason in first_reasons(worst.bad)))
            if out is not None and not skip_bad:
                raise TaskError(
                    f"{source}: {many} cannot be read, so nothing was written. {_first(worst)}. "
                    "Mend the file, or leave such rows out with --skip-bad"
                )
        if earlier:
            app.say(f"rows that stand in {out} already keep the split that they have there")
        if old_leaks:
            app.say("Nothing was written: --all deals all rows anew; or remove one of each group.")
            return 1
        if out is not None:
            written = write_examples(
                out, with_splits(rows, found), form=to or own_form, overwrite=force
            )
            app.say(f"wrote {written.rows} rows to {out}")
            lost = ", ".join(f"{what} ({n} rows)" for what, n in written.lost.items())
            if lost:
                app.say(f"the form {written.form} has no place for: {clean(lost)}")
    return 0


def _first(reading: Reading) -> str:
    """Return the first row that could not be read, with its reason."""
    return f"The first: {reading.bad[0].place}: {reading.bad[0].reason}" if reading.bad else ""


def _plain(found: Splits) -> dict[str, object]:
    return {
        "rows": found.rows,
        "groups": found.groups,
        "near_pairs": found.near,
        "new": found.new,
        "moved": found.moved,
        "strata": found.strata,
        "left_out": found.left_out,
        "leaks": found.leaks,
    }


def _lines(found: Splits) -> Iterator[str]:
    total = sum(found.rows.values())
    said = ", ".join(
        f"{split} {found.rows[split]} ({percent(found.rows[split] / max(total, 1))})"
        for split in SPLITS
    )
    yield f"{said}; {found.groups} groups, {found.near} near pairs kept together"
    yield f"{found.new} rows had no split; {found.moved} rows moved"
    if len(found.strata) > 1:
        for name, counts in list(found.strata.items())[:STRATA]:
            shown = ", ".join(f"{split} {counts[split]}" for split in SPLITS)
            yield f"  {clean(name) or '(none)'}: {shown}"
        if len(found.strata) > STRATA:
            yield f"  and {len(found.strata) - STRATA} more"
    for place in found.left_out[:10]:
        yield f"left out: {clean(place.id or place.place)} belongs to groups of two splits"
    if len(found.left_out) > 10:
        yield f"  and {len(found.left_out) - 10} more"
    for group in found.leaks[:10]:
        shown = " = ".join(f"{clean(p.id or p.place)} ({p.detail})" for p in group[:4])
        yield f"LEAK: {shown}"
    if len(found.leaks) > 10:
        yield f"  and {len(found.leaks) - 10} more"

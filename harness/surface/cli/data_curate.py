"""`harness data curate`: its options, and what it says of the rows that passed and did not."""

from __future__ import annotations

from contextlib import ExitStack
from difflib import unified_diff
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.core.words import count
from harness.errors import UsageError
from harness.surface.cli.app import App, options
from harness.surface.cli.data_source import bad_json, is_file, left_out_lines, skip_bad_option
from harness.surface.words import clean, one_line

if TYPE_CHECKING:
    from harness.engine.data.answers import Recorded
    from harness.engine.data.curate import Change, Curated, Cure
    from harness.engine.data.reading import Reading
    from harness.engine.tasks import Task

MOST_LINES = 24
"""Lines of one row's diff."""


@click.command("curate")
@click.argument("source", metavar="TASK|FILE")
@click.option("--task", "of", metavar="TASK", help="Whose evals filter the rows of a FILE.")
@click.option("--evals/--no-evals", default=True, show_default=True, help="The task's own evals.")
@click.option("--judge", "judges", multiple=True, metavar="NAME", help="A judge too; repeatable.")
@click.option(
    "--replies", multiple=True, metavar="CANDIDATE|RUN",
    help="Take its recorded replies to the train cases instead of the references; repeatable.",
)  # fmt: skip
@click.option("--heal", metavar="CANDIDATE", help="Who is asked again where an answer misses.")
@click.option("--tries", type=click.IntRange(1, 10), default=2, show_default=True,
              help="How often, at most.")  # fmt: skip
@click.option("--pairs", is_flag=True, help="Make preferences: a good reply and a missed one.")
@click.option(
    "--least", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True,
    help="The score that each eval and judge must give.",
)  # fmt: skip
@click.option(
    "--near", type=click.FloatRange(0, 1),
    help="From which share of common word sequences a row is a copy of a dev or test case "
    "(default: the task's own `near`).",
)  # fmt: skip
@click.option(
    "--max-cost", type=click.FloatRange(min=0), metavar="USD",
    help="Stop at this; what is recorded costs nothing.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="The file to write: a case file.")
@click.option("--force", is_flag=True, help="Replace it.")
@skip_bad_option()
@click.option("--diff", "diffs", type=click.IntRange(min=0), default=3, show_default=True,
              help="How many changed rows to show, of each decision.")  # fmt: skip
@options(candidates=True)
@click.pass_obj
def curate_command(
    store: str | None,
    source: str,
    of: str | None,
    evals: bool,
    judges: tuple[str, ...],
    replies: tuple[str, ...],
    heal: str | None,
    tries: int,
    pairs: bool,
    least: float,
    near: float | None,
    max_cost: float | None,
    out: Path | None,
    force: bool,
    skip_bad: bool,
    diffs: int,
    base_url: str | None,
    as_json: bool,
) -> int:
    """Keep the rows whose answers pass a task's evals and judges.

    Without --replies the answers are the references of the train cases (or of a FILE with
    --task). With it they are a candidate's recorded replies: the good ones become training rows
    (distillation), each with the run and reply that it came from. --heal asks a candidate again,
    with the reasons, where an answer misses. --pairs makes preferences for trl-dpo.

    Only train cases are used, and rows that stand in dev or test too are dropped. Every dropped
    row is counted by its reasons. Without --out nothing is written.
    Exit codes: 0 rows stayed, 1 none did, 2 rows of a FILE cannot be read.
    """
    from harness.engine.data.answers import file_rows, recorded_answers, task_rows
    from harness.engine.data.curate import Curator, Cure
    from harness.engine.data.filters import Filters
    from harness.engine.data.writing import free
    from harness.engine.providers import outputs_words, read_table, refuse_forbidden
    from harness.engine.spending import Spending
    from harness.surface.pace import Timed
    from harness.surface.progress import TextProgress

    if pairs and not replies:
        raise click.UsageError("--pairs needs --replies CANDIDATE: the missed replies are its own")
    if not evals and not judges:
        raise click.UsageError("--no-evals needs --judge NAME: something must filter")
    with App(store, as_json=as_json) as app, ExitStack() as stack:
        task, reading = _opened(app, source, of, has_replies=bool(replies))
        if reading is not None and not skip_bad:
            reading = _checked(source, reading)
        if out is not None:
            free(out, overwrite=force)
        progress = stack.enter_context(TextProgress(label="answers"))
        spending = None if max_cost is None else Spending(cap_usd=max_cost, is_forecast=True)
        filters = stack.enter_context(
            Filters(
                task, with_evals=evals, judges=judges, least=least, pool=app.pool,
                store=app.store, progress=progress, spending=spending,
                artifact_digest=lambda name: app.store.artifact(name, task=task.name),
                base_url=base_url,
            )
        )  # fmt: skip
        recorded = recorded_answers(task, replies, store=app.store) if replies else None
        cure: Cure | None = None
        if heal is not None:
            cure = Cure(
                candidate=app.candidate(task, heal, base_url=base_url), pool=app.pool,
                store=app.store, progress=progress, spending=spending, tries=tries,
            )  # fmt: skip
            cure.check()
        near = task.settings.near if near is None else near
        curator = Curator(
            task=task, filters=filters, cure=cure, is_pairing=pairs, near=near or None
        )
        table = read_table(app.project.root)
        for model in _models(recorded, cure):
            refuse_forbidden(table, model)
            curator.state.notes.append(outputs_words(table, model))
        curator.state.notes += filters.notes()
        inputs = {name for case in task.cases for name in case.inputs}
        asked = file_rows(reading, inputs=inputs) if reading is not None else None
        rows = curator.rows(asked or task_rows(task, recorded))
        with Timed(None if reading is None else Path(source)) as timed:
            first = next(rows, None)
            if out is not None and first is not None:
                from harness.surface.cli.data_synth import write_cases

                write_cases(out, _chained(first, rows), overwrite=force)
            else:
                for _ in rows:
                    pass
        state, names = curator.state, filters.names
        stack.close()  # the last line of the progress comes before what is said of it
        told = curated_json(state, names, recorded, out if state.written else None)
        app.answer(told | bad_json(reading) | timed.pace(state.rows).json)
        app.say(*curated_lines(state, names, recorded, diffs=diffs), *left_out_lines(reading))
        app.say(*_end(state, out), *timed.lines(state.rows))
    return 0 if state.written else 1


def _chained(first: Any, rest: Any) -> Any:
    yield first
    yield from rest


def _opened(
    app: App, source: str, of: str | None, *, has_replies: bool
) -> tuple[Task, Reading | None]:
    """Return the task, and the rows where `source` is a file."""
    if not is_file(app, source):
        if of is not None:
            raise UsageError(f"--task {of}: {source} is a task, whose own evals filter its rows")
        return app.task(source), None
    if of is None:
        raise UsageError(f"{source} is a file: --task TASK says whose evals filter its rows")
    if has_replies:
        raise UsageError("--replies are to a task's cases: name the task instead of a file")
    from harness.engine.data.reading import open_examples

    return app.task(of), open_examples(Path(source))


def _checked(source: str, reading: Reading) -> Reading:
    """Return a file opened anew, after it was read once to its end: rows that cannot be read are
    told before anything is scored or paid for. Raises BadRows.
    """
    from harness.engine.data.answers import file_rows
    from harness.engine.data.bad_rows import refuse_bad
    from harness.engine.data.reading import open_examples

    for _ in file_rows(reading):
        pass
    refuse_bad(reading, form="")
    return open_examples(Path(source))


def _models(recorded: Recorded | None, cure: Cure | None) -> list[str]:
    """Return the backends whose words would be trained on."""
    from harness.engine.candidates import CONSTANT, REPLAY

    found = [r.candidate.backend for r in recorded.runs] if recorded else []
    found += [cure.candidate.backend] if cure else []
    return [b for b in dict.fromkeys(found) if not b.startswith((REPLAY, CONSTANT))]


def curated_json(
    state: Curated, names: tuple[str, ...], recorded: Recorded | None, out: Path | None
) -> dict[str, Any]:
    """Return what became of the rows, as one value."""
    return {
        "rows": state.rows,
        "written": state.written,
        "kept": state.kept,
        "healed": state.healed,
        "dropped": state.dropped,
        "reasons": dict(state.why.most_common()),
        "filters": list(names),
        "runs": [r.id for r in recorded.runs] if recorded else [],
        "asked": state.asked,
        "spent_usd": state.spent_usd,
        "changes": state.changes,
        "notes": state.notes,
        "out": str(out) if out else None,
    }


def curated_lines(
    state: Curated, names: tuple[str, ...], recorded: Recorded | None, *, diffs: int
) -> list[str]:
    """Return the diffs, then the counts."""
    from harness.core.money import usd

    lines: list[str] = []
    for decision in ("keep", "heal", "drop"):
        some = [c for c in state.changes if c.decision == decision]
        for change in some[:diffs]:
            lines += ["", *diff_lines(change)]
    lines.append("")
    if recorded:
        lines += [f"replies of {clean(r.candidate.name)}, run {r.id}" for r in recorded.runs]
    lines.append(f"filtered by {clean(', '.join(names))}")
    lines.append(
        f"{count(state.rows, 'row')}: {state.kept} kept, {state.healed} healed, "
        f"{state.dropped} dropped"
    )
    lines += [f"  {n} × {clean(name)}" for name, n in state.why.most_common()]
    if state.asked:
        cost = "cost unknown" if state.spent_usd is None else usd(state.spent_usd)
        lines.append(f"{count(state.asked, 'answer')} while healing; {cost}")
    return lines + [f"Note: {clean(note.rstrip('.'))}." for note in state.notes]


def diff_lines(change: Change) -> list[str]:
    """Return a unified diff of a row's answer, bounded, with the reasons."""
    words = {"keep": "kept", "heal": "healed", "drop": "dropped"}
    place = f" ({one_line(change.place)})" if change.place else ""
    lines = [f"{words[change.decision]} {clean(change.case_id)}{place}"]
    lines += [f"  because {one_line(reason, width=160)}" for reason in change.reasons[:4]]
    before, after = clean(change.before).splitlines(), clean(change.after or "").splitlines()
    told = unified_diff(before, after, "before", "after", lineterm="", n=1)
    shown = [one_line(line, width=180) for line in islice(told, MOST_LINES + 1)]
    if len(shown) > MOST_LINES:
        shown[MOST_LINES:] = ["…"]
    return lines + [f"  {line}" for line in shown]


def _end(state: Curated, out: Path | None) -> list[str]:
    if not state.written:
        return ["No row stayed; nothing was written."]
    if out is None:
        return ["Nothing was written: --out FILE writes the rows that stay."]
    return [f"Written to {clean(str(out))}: {count(state.written, 'row')}."]

"""`harness tune`: an artifact, once prompting has hit a wall."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.core.scoring import ALL, trial_value
from harness.core.words import count
from harness.engine.tasks import Task
from harness.errors import BackendError
from harness.records import Case
from harness.surface.cli.app import App, now, options
from harness.surface.cli.tune_show import (
    HANGING,
    Watched,
    artifact_lines,
    filled,
    next_line,
    preview_lines,
)
from harness.surface.words import one_line, sentence

if TYPE_CHECKING:
    from harness.engine.tune_plan import Plan


@click.command("tune")
@click.argument("task")
@click.option("--plan", "is_plan", is_flag=True, help="Show what it would do; trains nothing.")
@click.option("--override", metavar="REASON", help="Tune without a wall; recorded for ever.")
@click.option("--tuner", help="Another tuner than task.toml says, instead of its stages too.")
@click.option(
    "--recipe",
    type=click.Path(path_type=Path),
    help="Another recipe: a file, or a name that `harness plugins` lists, as trl-dpo.",
)
@click.option("--name", help="What to call the artifact (default: task.toml's tune.name).")
@click.option(
    "--start", metavar="ARTIFACT", help="Go on from this artifact, and not from the base."
)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--devices",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many processes train together, each on a device of its own.",
)
@click.option(
    "--override-boundary",
    metavar="REASON",
    help="Send internal rows to a tuner outside; recorded for ever.",
)
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0),
    metavar="USD",
    help="Spend at most this on judges, who are asked about the rows' references.",
)
@click.option("--fresh", is_flag=True, help="Begin anew, though a training was cut short.")
@click.option(
    "--pilot",
    is_flag=True,
    help="Draw a learning curve from small trainings; needs no wall, and makes nothing to release.",
)
@click.option(
    "--rows",
    type=click.IntRange(min=8),
    help="With --pilot: the most rows of a training (default: 512, and never more than a half).",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="With --pilot: the time for all trainings together (default: 30).",
)
@options()
@click.pass_obj
def command(
    store: str | None,
    task: str,
    is_plan: bool,
    override: str | None,
    tuner: str | None,
    recipe: Path | None,
    name: str | None,
    start: str | None,
    seed: int,
    devices: int,
    override_boundary: str | None,
    max_cost: float | None,
    fresh: bool,
    pilot: bool,
    rows: int | None,
    minutes: float | None,
    as_json: bool,
) -> int:
    """Fine-tune; refuses without a wall.

    Exit 0: tuned, or the pilot's curve is drawn. 1: refused, with the reason. 3: no curve. Rows
    whose reference fails the task's own evals are left out; parity of what is trained and served
    is checked before the first step. With --plan, exit 0: it could start. 1: it would be refused.
    A training that was stopped or killed goes on by the same command.
    """
    from harness.engine import tune as engine, tune_plan as planning
    from harness.errors import Refused

    if pilot and (override or name or start or is_plan or fresh or devices > 1):
        raise click.UsageError(
            "--pilot needs no --override, what it makes has no --name, and it knows no --plan, "
            "--start, --fresh and --devices"
        )
    if not pilot and (rows or minutes):
        raise click.UsageError("--rows and --minutes go with --pilot")

    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
        app.refuse_leaks(loaded, "train", is_anew=True)
        licence, unlicensed = planning.Licence(), None
        if not pilot:
            try:
                licence = planning.licence(loaded, app.store, override=override)
            except Refused as exc:
                if not is_plan:
                    raise
                unlicensed = str(exc)
        plans = engine.drafts(
            loaded,
            plugins=app.plugins,
            licence=licence,
            against=against_rows(loaded, app.project.store, max_cost_usd=max_cost),
            tuner=tuner,
            recipe=recipe,
            name=name,
            seed=seed,
        )
        begins = start or planning.tune_table(loaded).start
        if begins and not pilot:
            found = engine.find_start(loaded, begins, store=app.store, project=app.project)
            plans[0] = replace(plans[0], start=found)
        plans = [
            replace(one, devices=devices, override_boundary=override_boundary) for one in plans
        ]
        if is_plan:
            return show_plan(app, plans, why_unlicensed=unlicensed)
        if pilot:
            return run_pilot(app, plans, most_rows=rows, minutes=minutes)
        return train(app, plans, is_fresh=fresh)


def against_rows(
    task: Task, store: Path, *, max_cost_usd: float | None = None
) -> Callable[[Sequence[Case]], dict[str, str]]:
    """Return what tells of the cases whose references do not pass the task's own evals, and why;
    runs these once.

    It raises BackendError where a judge did not answer: such a row fails nothing.
    """
    from harness.engine.tune_plan import FAILED
    from harness.surface.run_evals import completed, run_evals

    @cache
    def bad() -> dict[str, str]:
        cap = [] if max_cost_usd is None else [f"--max-cost={max_cost_usd}"]
        run = run_evals(task, ["reference"], store=store, split="train", extra=cap)
        trials = completed(run).runs[0].trials
        faults = [t.fault for t in trials if t.fault is not None and t.fault.origin == "harness"]
        if faults:
            raise BackendError(
                f"{len(faults)} of {count(len(trials), 'reference')} were not judged: "
                + sentence(faults[0].message)
            )
        crashed = [t for t in trials if t.fault is not None]
        # what an eval had nothing to measure of, as the latency of a reference, fails nothing
        passed = {t.case_id for t in trials if trial_value(t, ALL) in {1, None}}
        why = dict.fromkeys((t.case_id for t in trials), FAILED)
        if crashed and (fault := crashed[0].fault):
            said = f"for an eval crashed on them ({one_line(fault.message, width=200)})"
            why |= dict.fromkeys((t.case_id for t in crashed), said)
        return {name: text for name, text in why.items() if name not in passed}

    return lambda cases: {c.id: bad()[c.id] for c in cases if c.id in bad()}


def show_plan(app: App, plans: Sequence[Plan], *, why_unlicensed: str | None) -> int:
    """Show what each training would be. Exit 0 where all could start."""
    from harness.engine.tune_preview import preview

    shown = [
        preview(
            one, project=app.project, plugins=app.plugins, pool=app.pool,
            why_unlicensed=why_unlicensed,
        )
        for one in plans
    ]  # fmt: skip
    can_start = not any(one.refusals for one in shown)
    app.answer({"can_start": can_start, "trainings": shown})
    for number, one in enumerate(shown, start=1):
        app.say(*([f"training {number} of {len(shown)}"] if len(shown) > 1 else []))
        app.say(*filled(preview_lines(one), hanging=HANGING), "")
    app.say("it could start" if can_start else "it would be refused")
    return 0 if can_start else 1


def train(app: App, plans: Sequence[Plan], *, is_fresh: bool) -> int:
    """Train all stages, and show what came of it."""
    from harness.engine import tune as engine
    from harness.engine.tune_plan import checked

    for one in plans:
        for dropped in checked(one).dropped:
            app.say(dropped.text)
        tuner = app.plugins.owner("harness_tuners", one.tuner_name)()
        first = (
            "; first each row is compared with what will be served"
            if getattr(tuner, "has_tokens", True)
            else ""
        )
        app.say(f"training on {count(len(one.rows), 'row')} with {one.tuner_name}{first}")
    watched = Watched()
    try:
        made = engine.tune_stages(
            plans,
            project=app.project,
            plugins=app.plugins,
            pool=app.pool,
            store=app.store,
            at=now,
            listener=engine.Listener(
                report=watched.report, looked=watched.looked, note=watched.note
            ),
            is_fresh=is_fresh,
        )
    except BaseException:
        watched.cut_short(app.project.home)
        raise
    app.answer(made[-1] if len(made) == 1 else {"stages": made})
    for artifact in made:
        app.say(*filled(artifact_lines(artifact)))
    app.say("", next_line(plans[0].task, made[-1]))
    return 0


def run_pilot(
    app: App, plans: Sequence[Plan], *, most_rows: int | None, minutes: float | None
) -> int:
    """Run a pilot of the first stage, and say what its curve tells."""
    from harness.surface.cli.pilot_path import PILOT_MINUTES, PILOT_ROWS, draw_curve

    if len(plans) > 1:
        raise click.UsageError("a pilot is one training: name its --tuner (and --recipe)")
    from harness.engine.tune_plan import checked

    return draw_curve(
        app,
        checked(plans[0]),
        most_rows=most_rows or PILOT_ROWS,
        minutes=minutes or PILOT_MINUTES,
        report=Watched().report,
    )

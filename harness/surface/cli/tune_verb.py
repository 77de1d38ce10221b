"""`harness tune`: an artifact, once prompting has hit a wall."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.engine.tasks import Task, candidate_names
from harness.records import Artifact, Case, Run
from harness.surface.cli.app import App, now, options
from harness.surface.words import number, one_line

if TYPE_CHECKING:
    from harness.engine.tune import Plan
    from harness.ports.protocols import TrainProgress

EVERY_S = 10.0
PILOT_ROWS = 512
PILOT_MINUTES = 30.0


@click.command("tune")
@click.argument("task")
@click.option("--override", metavar="REASON", help="Tune without a wall; recorded for ever.")
@click.option("--tuner", help="Another tuner than task.toml says.")
@click.option("--recipe", type=click.Path(path_type=Path), help="Another recipe file.")
@click.option("--name", help="What to call the artifact (default: task.toml's tune.name).")
@click.option("--seed", default=0, show_default=True)
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
    override: str | None,
    tuner: str | None,
    recipe: Path | None,
    name: str | None,
    seed: int,
    pilot: bool,
    rows: int | None,
    minutes: float | None,
    as_json: bool,
) -> int:
    """Fine-tune; refuses without a wall.

    Exit 0: tuned, or the pilot's curve is drawn. 1: refused, with the reason. 3: no curve. Rows
    whose reference fails the task's own evals are left out; parity of what is trained and served
    is checked before the first step.
    """
    from harness.engine import tune as engine
    from harness.surface.run_evals import completed, run_evals

    if pilot and (override or name):
        raise click.UsageError("--pilot needs no --override, and what it makes has no --name")
    if not pilot and (rows or minutes):
        raise click.UsageError("--rows and --minutes go with --pilot")

    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
        licence = engine.Licence()
        if not pilot:
            licence = engine.licence(loaded, app.store, override=override)

        def passing(cases: Sequence[Case]) -> set[str]:
            run = completed(
                run_evals(loaded, ["reference"], store=app.project.store, split="train")
            ).runs[0]
            good = {t.case_id for t in run.trials if all(s.value == 1 for s in t.scores)}
            bad = [c.id for c in cases if c.id not in good]
            if bad:
                app.say(f"{len(bad)} rows fail the task's own evals and are left out: {bad[:5]}")
            return good

        plan = engine.plan(
            loaded,
            licence=licence,
            passing=passing,
            tuner=tuner,
            recipe=recipe,
            name=name,
            seed=seed,
        )
        if not pilot:
            app.say(f"training on {len(plan.rows)} rows with {plan.tuner_name}; parity first")
        shown = 0.0

        def report(step: TrainProgress) -> None:
            nonlocal shown
            is_last = step.step == step.steps
            if time.monotonic() - shown < EVERY_S and not is_last:
                return
            shown = time.monotonic()
            left = step.seconds / max(step.step, 1) * (step.steps - step.step)
            click.echo(
                f"step {step.step} of {step.steps}, loss {step.loss:.3f}, "
                f"{number(step.tokens / max(step.seconds, 1e-9))} tokens/s, "
                f"{step.seconds:.0f} s, about {left:.0f} s to go",
                err=True,
            )

        if pilot:
            most, limit = rows or PILOT_ROWS, minutes or PILOT_MINUTES
            return draw_curve(app, plan, most_rows=most, minutes=limit, report=report)

        artifact = engine.tune(
            plan,
            project=app.project,
            plugins=app.plugins,
            pool=app.pool,
            store=app.store,
            report=report,
            at=now,
        )
        app.answer(artifact)
        app.say(
            f"artifact {artifact.name} {artifact.digest[:16]}",
            f"  {artifact.rows} rows, prompt {artifact.prompt}, base {artifact.base}",
            f"  parity: {parity_line(len(plan.rows), [f.name for f in artifact.parity])}",
            f"  licence: {one_line(artifact.override or f'wall {artifact.wall_verdict}')}",
            "",
            f"score it: harness eval {task} --candidate {candidate_of(loaded, artifact)}",
        )
    return 0


def draw_curve(
    app: App,
    plan: Plan,
    *,
    most_rows: int,
    minutes: float,
    report: Callable[[TrainProgress], None],
) -> int:
    """Run a pilot, and say what its curve tells."""
    from harness.core.learning import curve_lines
    from harness.engine.pilot import run_pilot, subset_sizes
    from harness.surface.run_evals import completed, run_evals

    sizes = subset_sizes(len(plan.rows), most=most_rows)
    app.say(
        f"a pilot on {', '.join(map(str, sizes))} of {len(plan.rows)} rows with {plan.tuner_name}, "
        f"at most {minutes:g} minutes of training"
    )

    def score(artifact: Artifact) -> Run:
        name = f"{artifact.prompt}@{artifact.base}+{artifact.digest[:16]}"
        done = completed(run_evals(plan.task, [name], store=app.project.store))
        app.say(f"  {artifact.rows} rows are trained and scored on dev")
        return done.runs[0]

    made = run_pilot(
        plan,
        most_rows=most_rows,
        minutes=minutes,
        score=score,
        project=app.project,
        plugins=app.plugins,
        pool=app.pool,
        store=app.store,
        report=report,
        at=now,
    )
    app.answer(made)
    app.say("", *curve_lines(made.curve, available=made.available))
    app.say(*([f"ended early: {made.stopped}"] if made.stopped else []))
    app.say("", f"nothing of it can be released; what may be is: harness tune {plan.task.name}")
    return 0


def candidate_of(task: Task, artifact: Artifact) -> str:
    """Return what `--candidate` calls `artifact`."""
    if artifact.name in candidate_names(task):
        return artifact.name
    return f"{artifact.prompt}@{artifact.base}+{artifact.name}"


def parity_line(rows: int, findings: Sequence[str]) -> str:
    """Return what parity found, in a few words."""
    if not findings:
        return f"{rows} rows compared id by id, no difference"
    return f"{rows} rows compared; warnings: {', '.join(sorted(set(findings)))}"

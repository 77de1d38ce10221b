"""`harness tune`: an artifact, once prompting has hit a wall."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from harness.engine.tasks import Task, candidate_names
from harness.records import Artifact, Case
from harness.surface.cli.app import App, now, options
from harness.surface.words import number, one_line

EVERY_S = 10.0


@click.command("tune")
@click.argument("task")
@click.option("--override", metavar="REASON", help="Tune without a wall; recorded for ever.")
@click.option("--tuner", help="Another tuner than task.toml says.")
@click.option("--recipe", type=click.Path(path_type=Path), help="Another recipe file.")
@click.option("--name", help="What to call the artifact (default: task.toml's tune.name).")
@click.option("--seed", default=0, show_default=True)
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
    as_json: bool,
) -> int:
    """Fine-tune; refuses without a wall.

    Exit 0: tuned. 1: refused, with the reason. Rows whose reference fails the task's own evals
    are left out; parity of what is trained and served is checked before the first step.
    """
    from harness.engine import tune as engine
    from harness.ports.protocols import TrainProgress
    from harness.surface.run_evals import completed, run_evals

    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
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

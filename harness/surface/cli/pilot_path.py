"""`harness tune --pilot`: a learning curve, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.records import Artifact, Run
from harness.surface.cli.app import App, now

if TYPE_CHECKING:
    from harness.engine.tune_plan import Plan
    from harness.ports.tuners import TrainProgress

PILOT_ROWS = 512
PILOT_MINUTES = 30.0


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
    app.say(*[d.text for d in plan.dropped])
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

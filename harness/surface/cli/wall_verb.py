"""`harness wall`: the verdict on prompting, recorded in the ledger."""

from __future__ import annotations

import click

from harness.surface.cli.app import App, now, options
from harness.surface.verdicts import wall_lines

CODES = {
    "WALL": 0,
    "SHIP_PROMPT": 1,
    "KEEP_PROMPTING": 1,
    "FIX_DATA": 1,
    "INSUFFICIENT_EVIDENCE": 3,
}


@click.command("wall")
@click.argument("task")
@options()
@click.pass_obj
def command(store: str | None, task: str, as_json: bool) -> int:
    """Tell whether prompting has hit a wall.

    Exit 0: WALL, tuning may start. 1: keep prompting, ship the prompt, or fix the data. 3: not
    enough evidence.
    """
    from harness.core.wall import judge_wall
    from harness.engine.ladder import read_ladder, wall_entry, wall_input
    from harness.surface.run_evals import completed, run_evals

    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
        ladder = read_ladder(loaded, app.store)
        has_control = any(r.candidate.backend == "reference" for r in ladder.runs)
        again = [*ladder.stale, *([] if has_control else ["reference"])]
        if again:  # recorded replies are scored anew; no model is asked
            app.say(f"scoring recorded replies anew: {', '.join(again)}")
            completed(run_evals(loaded, again, store=app.project.store, is_offline=True))
            ladder = read_ladder(loaded, app.store)
        verdict = judge_wall(wall_input(loaded, ladder))
        app.store.record(wall_entry(verdict, at=now()))
        app.plugins.tell(verdict)
        app.answer({"id": verdict.id, "verdict": verdict})
        app.say(*wall_lines(verdict))
    return CODES[verdict.answer]

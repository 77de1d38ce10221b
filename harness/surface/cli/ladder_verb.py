"""`harness ladder`: every prompt of a task as a try, and the table of tries."""

from __future__ import annotations

from dataclasses import replace

import click

from harness.core.words import count
from harness.engine.certificates import deciding_scores
from harness.engine.optimise import OptimiseWish
from harness.surface.cli.anatomy import show_anatomy
from harness.surface.cli.app import App, options
from harness.surface.cli.climbing import (
    Climb,
    climb_now,
    climb_options,
    dry_run,
    owed_lines,
    refuse_unknown,
)
from harness.surface.cli.optimising import optimise_now, optimise_options


@click.command("ladder")
@click.argument("task")
@click.option("--candidate", multiple=True, help="Also this candidate; repeatable.")
@click.option("--show", is_flag=True, help="Show what was recorded; ask nothing.")
@click.option(
    "--max-cost", type=click.FloatRange(min=0), metavar="USD",
    help="Spend at most this, in this command; what is recorded costs nothing.",
)  # fmt: skip
@climb_options
@optimise_options
@click.option(
    "--models",
    metavar="A:X,B:Y",
    help="Also the same prompts on these models, from small to large; never counted as tries.",
)
@click.option(
    "--anatomy",
    metavar="NAME",
    help="Instead: what each part of a candidate's prompt costs, and what removing it does.",
)
@options(candidates=True)
@click.pass_obj
def command(
    store: str | None,
    task: str,
    candidate: tuple[str, ...],
    show: bool,
    max_cost: float | None,
    climb: Climb,
    optimising: OptimiseWish | None,
    models: str | None,
    anatomy: str | None,
    base_url: str | None,
    as_json: bool,
) -> int:
    """Make the tries that a task lacks, run them all, and show the ladder.

    Prompts are made from one of the task's (--from) and its cases, as files in prompts/made that
    you can read and edit: seven for the profile quick, fourteen for standard. A prompt file of
    your own is a try too. The same command goes on where it was stopped.
    """
    from harness.core.tries import build_tries
    from harness.engine.ladder import (
        moved_words,
        read_ladder,
        refuse_without_scores,
        scored_cases,
        try_scores,
    )
    from harness.engine.model_ladder import models_named
    from harness.surface.cli.other_models import climb_models
    from harness.surface.forecasts import opening_lines
    from harness.surface.retrieval import recall_lines, recalls
    from harness.surface.run_evals import completed, run_evals
    from harness.surface.tables import ladder_table

    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
        app.refuse_leaks(loaded, "dev")
        refuse_without_scores(loaded)
        if anatomy is not None:
            return show_anatomy(app, loaded, anatomy, base_url=base_url, max_cost_usd=max_cost)
        if models is not None:
            models_named(models, loaded)  # what is wrong is told before anything is asked
        if not show:
            refuse_unknown(app, loaded, candidate, base_url=base_url)
        app.say(*opening_lines(loaded, app.store), "")
        if climb.dry_run:
            app.answer(dry_run(app, loaded, candidate, wish=climb, base_url=base_url))
            return 0
        left_out: dict[str, str] = {}
        if not show:
            climbed = climb_now(
                app, loaded, candidate, wish=climb, base_url=base_url, max_cost_usd=max_cost
            )
            loaded, left_out = climbed.task, climbed.left_out
            if max_cost is not None:
                max_cost = max(0.0, max_cost - climbed.spent_usd)
            cap = [] if max_cost is None else [f"--max-cost={max_cost}"]
            if optimising is not None:
                wish = replace(optimising, max_cost_usd=max_cost)
                made = optimise_now(app, loaded, wish, base_url=base_url)
                loaded = app.task(task)
                if max_cost is not None:
                    max_cost = max(0.0, max_cost - made.spent_usd)
                    cap = [f"--max-cost={max_cost}"]
                if made.names:
                    completed(
                        run_evals(
                            loaded,
                            made.names,
                            store=app.project.store,
                            base_url=base_url,
                            extra=cap,
                        ),
                        deciding=deciding_scores(loaded),
                    )
        ladder = read_ladder(loaded, app.store)
        kept = [c.cluster for c in scored_cases(loaded, ladder)]
        rungs = try_scores(loaded, ladder)
        tries = build_tries(rungs, kept)
        app.say("", *ladder_table(tries, target=loaded.settings.target), "")
        found = recalls(loaded, [r.candidate.prompt or "" for r in ladder.runs], split="dev")
        app.say(*recall_lines(found))
        told: dict[str, object] = {"tries": tries, "target": loaded.settings.target}
        told |= {"retrieval": found} if found else {}
        told |= {"not_made": left_out} if left_out else {}
        if models is not None:
            told |= climb_models(
                app,
                loaded,
                models,
                base_url=base_url,
                extra=[] if max_cost is None else [f"--max-cost={max_cost}"],
                is_shown_only=show,
            )
        app.answer(told)
        if moved := moved_words(ladder, loaded):
            app.say(f"note: {moved}")
        if ladder.stale:
            app.say(
                f"{len(ladder.stale)} more tries were scored with older labels or evals; "
                f"`harness wall {task}` scores their replies anew"
            )
        if not climb.only_files:
            app.say(*owed_lines(loaded, rungs))
        counted = sum(t.is_counted for t in tries)
        verb = "counts" if counted == 1 else "count"
        app.say(f"{count(counted, 'try')} {verb}. Ask for the verdict: harness wall {task}")
    return 0

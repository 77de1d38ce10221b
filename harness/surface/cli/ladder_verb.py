"""`harness ladder`: every prompt of a task as a try, and the table of tries."""

from __future__ import annotations

from dataclasses import replace

import click

from harness.engine.evaluate import Requests, cases_of
from harness.engine.optimise import OptimiseWish
from harness.engine.tasks import Task
from harness.records import Candidate
from harness.surface.cli.app import App, options
from harness.surface.cli.optimising import optimise_now, optimise_options


@click.command("ladder")
@click.argument("task")
@click.option("--candidate", multiple=True, help="Also this candidate; repeatable.")
@click.option("--show", is_flag=True, help="Show what was recorded; ask nothing.")
@click.option("--max-cost", type=click.FloatRange(min=0), metavar="USD", help="Spend at most this.")
@optimise_options
@options(candidates=True)
@click.pass_obj
def command(
    store: str | None,
    task: str,
    candidate: tuple[str, ...],
    show: bool,
    max_cost: float | None,
    optimising: OptimiseWish | None,
    base_url: str | None,
    as_json: bool,
) -> int:
    """Run every prompt of a task, and show the ladder of tries."""
    from harness.core.forecast import forecast_lines
    from harness.core.tries import build_tries
    from harness.engine.ladder import read_ladder, scored_cases, try_scores
    from harness.surface.run_evals import completed, run_evals
    from harness.surface.tables import ladder_table

    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
        clusters = [c.cluster for c in loaded.split("dev")]
        s, sealed = loaded.settings, loaded.split("test")
        app.say(
            *forecast_lines(
                len(clusters),
                len(set(clusters)),
                target=s.target,
                mid=s.mid,
                profile=s.profile,
                goal=s.goal,
                margin=s.margin,
                sealed_cases=len(sealed) or None,
                sealed_clusters=len({c.cluster for c in sealed}) or None,
            ),
            "",
        )
        if not show:
            names = ["reference"]
            for name in dict.fromkeys([*loaded.prompts, *candidate]):
                refusal = why_not_asked(app, loaded, app.candidate(loaded, name, base_url=base_url))
                if refusal:
                    app.say(f"left out: {name}: {refusal}")
                else:
                    names.append(name)
            cap = [] if max_cost is None else [f"--max-cost={max_cost}"]
            run = run_evals(loaded, names, store=app.project.store, base_url=base_url, extra=cap)
            completed(run)
            if optimising is not None:
                wish = replace(optimising, max_cost_usd=max_cost)
                made = optimise_now(app, loaded, wish, base_url=base_url)
                loaded = app.task(task)
                if made.names:
                    completed(
                        run_evals(
                            loaded,
                            made.names,
                            store=app.project.store,
                            base_url=base_url,
                            extra=cap,
                        )
                    )
        ladder = read_ladder(loaded, app.store)
        kept = [c.cluster for c in scored_cases(loaded, ladder)]
        tries = build_tries(try_scores(loaded, ladder), kept)
        app.answer({"tries": tries, "target": loaded.settings.target})
        app.say("", *ladder_table(tries, target=loaded.settings.target), "")
        if ladder.stale:
            app.say(
                f"{len(ladder.stale)} more tries were scored with older labels or evals; "
                f"`harness wall {task}` scores their replies anew"
            )
        counted = sum(t.is_counted for t in tries)
        app.say(f"{counted} tries count. Ask for the verdict: harness wall {task}")
    return 0


def why_not_asked(app: App, task: Task, candidate: Candidate) -> str | None:
    """Return what its backend would ignore of a candidate's requests, or None."""
    if candidate.prompt is None:
        return None
    request = Requests(task).of(candidate, cases_of(task, "dev")[0])
    return app.pool.get(candidate, folder=task.folder).refuse(request)

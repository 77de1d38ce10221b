"""`harness eval`: the same run as `pytest TASK_FOLDER`, with the house's exit codes."""

from __future__ import annotations

from difflib import get_close_matches

import click

from harness.errors import HarnessError
from harness.records import SPLITS, Split
from harness.surface.cli.app import App, options


class _Eval(click.Command):
    """A command that tells where pytest's options go: many are known by heart, as `-k`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as exc:
            if not get_close_matches(exc.option_name, exc.possibilities or (), cutoff=0.8):
                name = exc.option_name  # click takes `--lf` for `--help`
                told = f"Options for pytest stand after `--`: harness eval TASK -- {name}"
                raise click.UsageError(f"No such option {name!r}. {told}", ctx) from None
            raise


@click.command("eval", cls=_Eval)
@click.argument("task")
@click.argument("pytest_options", nargs=-1, type=click.UNPROCESSED)
@click.option("--candidate", multiple=True, metavar="NAME", help="Repeatable; see the README.")
@click.option("--split", type=click.Choice(SPLITS), default="dev")
@click.option("--floor", multiple=True, metavar="SCORE=VALUE", help="Fail below it; repeatable.")
@click.option("--offline", is_flag=True, help="Use recorded replies alone.")
@click.option(
    "--only",
    type=click.Choice(["missed", "faults", "changed"]),
    help="The cases that were missed or ended in a fault when last recorded, or changed since.",
)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    metavar="N",
    help="N cases, always the same ones; a larger N keeps the smaller's.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    metavar="N",
    help="Ask each case N times; with other repeats than the task's it is no try.",
)
@click.option(
    "--max-cost", type=click.FloatRange(min=0), metavar="USD",
    help="Spend at most this, in this command; what is recorded costs nothing.",
)  # fmt: skip
@click.option(
    "--override-boundary", metavar="REASON", help="Send internal cases outside; recorded for ever."
)
@click.option("--batch", is_flag=True, help="Use the provider's batch API, and wait.")
@options(candidates=True)
@click.pass_obj
def command(
    store: str | None,
    task: str,
    pytest_options: tuple[str, ...],
    candidate: tuple[str, ...],
    split: Split,
    floor: tuple[str, ...],
    offline: bool,
    only: str | None,
    sample: int | None,
    repeats: int | None,
    max_cost: float | None,
    override_boundary: str | None,
    batch: bool,
    base_url: str | None,
    as_json: bool,
) -> int:
    """Run a task's evals for one or more candidates.

    Exit 0: no fault, floors held. Options for pytest stand after `--`, as in
    `harness eval TASK -- -k parses --lf`.
    """
    from harness.core.repeats import check_verdict
    from harness.engine.evaluate import cases_of
    from harness.engine.life import began_again
    from harness.surface.retrieval import recalls_of_runs
    from harness.surface.run_evals import completed, refuse_unrecorded, run_evals
    from harness.surface.slices import flaky_of_task, slices_of_task
    from harness.surface.tables import check_floors

    chosen = {"only": only, "sample": sample, "repeats": repeats, "max-cost": max_cost}
    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
        app.refuse_leaks(loaded, split)  # what is wrong is told before pytest begins
        cases_of(loaded, split)
        check_floors(floor, known=loaded.eval_names)
        check_verdict(loaded.settings.repeat_verdict, repeats=repeats or loaded.settings.repeats)
        for name in candidate or loaded.settings.default_candidates:
            app.candidate(loaded, name, base_url=base_url)
        outcome = run_evals(
            loaded,
            candidate,
            store=app.project.store,
            split=split,
            base_url=base_url,
            is_offline=offline,
            is_quiet=as_json,
            is_forecast=not began_again(),
            override_boundary=override_boundary,
            extra=[
                *(f"--floor={f}" for f in floor),
                *(f"--{name}={value}" for name, value in chosen.items() if value is not None),
                *(["--batch"] if batch else []),
                *pytest_options,
            ],
        )
        if outcome.selected_none and outcome.error is None:
            app.answer({"runs": [], "notes": outcome.notes})
            return 0  # nothing was missed, or nothing changed: that is what was asked
        runs = [{"id": run.id, "run": run} for run in outcome.runs]
        try:
            completed(outcome)
            refuse_unrecorded(outcome.runs)
        except HarnessError as exc:
            exc.beside = {"runs": runs}  # one lost reply takes nothing from the other cases
            raise
        if outcome.listed:  # --collect-only
            app.answer({"runs": [], "items": outcome.listed})
            return 0
        app.answer(
            {
                "runs": runs,
                "notes": outcome.notes,
                "slices": slices_of_task(outcome.runs, loaded),
                "flaky": flaky_of_task(outcome.runs, loaded),
                "judges": outcome.judges,
                "retrieval": recalls_of_runs(loaded, outcome.runs),
            }
        )
        return 1 if outcome.exit_code == 1 else 0 if outcome.exit_code == 0 else 2

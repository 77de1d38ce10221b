"""`harness runs`: what was recorded."""

from __future__ import annotations

from collections.abc import Sequence

import click
from tabulate import tabulate

from harness.records import Score
from harness.surface.cli.app import App, options
from harness.surface.words import clean, one_line


@click.command("runs")
@click.argument("run_id", required=False)
@click.option("--task", help="Runs of this task alone.")
@options()
@click.pass_obj
def command(store: str | None, run_id: str | None, task: str | None, as_json: bool) -> int:
    """List the recorded runs, or show one."""
    from harness.surface.tables import without_blank

    with App(store, as_json=as_json) as app:
        place = app.project.store
        if run_id is None and not place.exists() and not place.parent.is_file():
            # to look makes no store
            app.answer([])
            app.say(f"no runs yet in {app.project.store}")
            return 0
        if run_id:
            run = app.store.run(run_id)
            app.answer({"id": run.id, "run": run})
            app.say(f"{run.id}: {clean(run.candidate.name)} on {run.task}, {run.split} split")
            rows = [
                [
                    clean(t.case_id) + (f" {t.repeat + 1}" if run.repeats > 1 else ""),
                    *(f"{s.name} {'–' if s.value is None else f'{s.value:g}'}" for s in t.scores),
                    one_line(t.fault.message if t.fault else _first_reason(t.scores), width=80),
                ]
                for t in run.trials
            ]
            app.say(tabulate(rows, tablefmt="plain", disable_numparse=True))
            return 0
        found = app.store.runs(task=task)
        app.answer(found)
        rows = [
            [
                r.id[:8],
                r.task,
                r.split,
                clean(r.candidate),
                r.backend,
                (r.artifact or "")[:8],
                str(r.cases),
                "" if r.is_complete else "partial",
                r.at[:19],
            ]
            for r in found
        ]
        heads = ["run", "task", "split", "candidate", "backend", "artifact", "cases", "note", "at"]
        heads, rows = without_blank(heads, rows)
        app.say(tabulate(rows, headers=heads, disable_numparse=True) if rows else "no runs yet")
    return 0


def _first_reason(scores: Sequence[Score]) -> str:
    first = next((s for s in scores if s.reason), None)
    # one line, as below a run: what follows in a reason is pytest's comparison in detail
    return "" if first is None else first.name + ": " + first.reason.partition("\n")[0]

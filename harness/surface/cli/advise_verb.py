"""`harness advise`: should we fine-tune?"""

from __future__ import annotations

import click

from harness.surface.cli.app import App, options
from harness.surface.words import clean

MARKS = {True: "+", False: "-", None: "·"}


@click.command("advise")
@click.argument("task")
@options()
@click.pass_obj
def command(store: str | None, task: str, as_json: bool) -> int:
    """Answer: should we fine-tune?

    Exit 0: FINE_TUNE. 1: another answer. 3: not enough evidence.
    """
    from harness.core.advice import advise
    from harness.engine.advise import gather

    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
        advice = advise(gather(loaded, app.store))
        app.answer(advice)
        app.say(f"Should we fine-tune {task}?  {advice.answer}", clean(advice.summary), "")
        for reason in advice.reasons:
            mark = MARKS[reason.is_for_tuning]
            app.say(f"  {mark} {clean(reason.text)}  [{clean(reason.evidence)}]")
        app.say(*(f"  ? not measured: {gap}" for gap in advice.not_measured))
    return {"FINE_TUNE": 0, "INSUFFICIENT_EVIDENCE": 3}.get(advice.answer, 1)

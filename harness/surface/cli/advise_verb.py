"""`harness advise`: should we fine-tune?"""

from __future__ import annotations

from pathlib import Path

import click

from harness.surface.cli.app import App, now, options
from harness.surface.words import clean

MARKS = {True: "+", False: "-", None: "·"}


@click.command("advise")
@click.argument("task")
@click.option(
    "--memo",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the one page that a lead forwards, as Markdown.",
)
@options()
@click.pass_obj
def command(store: str | None, task: str, page: Path | None, as_json: bool) -> int:
    """Answer: should we fine-tune?

    Exit 0: FINE_TUNE. 1: another answer. 3: not enough evidence. Every reason names its evidence,
    or the fact of [advise] that it rests on.
    """
    from harness.core.advice import advise
    from harness.core.memo import memo
    from harness.engine.advise import gather

    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
        app.refuse_leaks(loaded, "dev")
        evidence = gather(loaded, app.store, pool=app.pool, root=app.project.root)
        advice = advise(evidence)
        app.answer(advice)
        app.say(f"Should we fine-tune {task}?  {advice.answer}", clean(advice.summary), "")
        for reason in advice.reasons:
            mark = "»" if reason.decides else MARKS[reason.is_for_tuning]
            app.say(f"  {mark} {clean(reason.text)}  [{clean(reason.evidence)}]")
        app.say(*(f"  $ {clean(line)}" for line in advice.costs))
        app.say(*(f"  i {clean(line)}" for line in advice.provisions))
        app.say(*(f"  ? not measured: {clean(gap)}" for gap in advice.not_measured))
        if advice.would_change:
            app.say("", "what would change this:")
            app.say(*(f"  - {clean(line)}" for line in advice.would_change if line))
        if page is not None:
            text = memo(advice, evidence, about=loaded.settings.about, on=now()[:10])
            page.write_text(text, encoding="utf-8", errors="backslashreplace")
            app.say("", f"the page to forward: {page}")
    return {"FINE_TUNE": 0, "INSUFFICIENT_EVIDENCE": 3}.get(advice.answer, 1)

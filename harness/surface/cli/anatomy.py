"""What `ladder --anatomy` and `model slim` share: what asks variants of a candidate's prompt.

Knows no table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.engine.plain_evals import PlainEvals
from harness.engine.spending import Spending
from harness.engine.tasks import Task
from harness.engine.unrecorded import Variants, refuse_unseen
from harness.errors import UsageError
from harness.surface.cli.app import App
from harness.surface.progress import TextProgress


@contextmanager
def variants_of(
    app: App, task: Task, name: str, *, what: str, base_url: str | None, max_cost_usd: float | None
) -> Iterator[Variants]:
    """Open what asks variants of a candidate's prompt. Raises UsageError where it has none, or the
    primary score cannot be had outside pytest.
    """
    from harness.checks import use_plugins

    candidate = app.candidate(task, name, base_url=base_url)
    if candidate.prompt is None:
        raise UsageError(f"candidate {name!r} has no prompt: name one that asks a model")
    use_plugins(app.plugins)
    spending = None if max_cost_usd is None else Spending(cap_usd=max_cost_usd)
    with PlainEvals(task) as evals, TextProgress() as progress:
        app.say(*refuse_unseen(task, evals, what=what))
        yield Variants(
            task=task,
            candidate=candidate,
            evals=evals,
            pool=app.pool,
            store=app.store,
            progress=progress,
            spending=spending,
        )


def show_anatomy(
    app: App, task: Task, name: str, *, base_url: str | None, max_cost_usd: float | None
) -> int:
    """Take the prompt of a candidate apart, and show what each part costs and does."""
    from harness.core.anatomy import removable
    from harness.engine.anatomy import anatomy
    from harness.surface.anatomy_table import anatomy_lines

    with variants_of(
        app, task, name, what="an anatomy", base_url=base_url, max_cost_usd=max_cost_usd
    ) as variants:
        parts, cases = len(removable(variants.prompt)), len(task.split("dev"))
        each = cases * task.settings.repeats
        app.say(f"{parts} parts can be removed: up to {(parts + 1) * each} requests over dev", "")
        found = anatomy(variants)
    app.answer({"anatomy": found})
    app.say(*anatomy_lines(found))
    return 0

"""`harness ladder TASK --optimise`: its options, and what it says. Knows nothing of the ladder."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from harness.engine.optimise import MAX_CALLS, Optimised, OptimiseWish, optimise
from harness.engine.tasks import Task
from harness.surface.cli.app import App, now
from harness.surface.words import number, one_line

_OPTIONS = (
    click.option(
        "--optimise",
        is_flag=False,
        flag_value="gepa",
        metavar="[NAME]",
        help="Have an optimiser rewrite the best prompt (default: gepa), and try what it makes.",
    ),
    click.option(
        "--optimise-from",
        metavar="PROMPT",
        help="The prompt to rewrite (default: the best try so far).",
    ),
    click.option(
        "--reflect",
        metavar="SCHEME:MODEL",
        help="The model that rewrites (default: the task's own; a small one cannot).",
    ),
    click.option(
        "--max-calls",
        type=click.IntRange(min=1),
        default=MAX_CALLS,
        show_default=True,
        help="The most calls of the task's model while optimising.",
    ),
    click.option("--optimise-seed", default=0, show_default=True, help="Fixes every draw."),
    click.option(
        "--override-boundary",
        metavar="REASON",
        help="Show internal cases to an external reflection model; recorded for ever.",
    ),
)


def optimise_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as one `optimising: OptimiseWish | None`."""

    @wraps(command)
    def wrapped(
        *arguments: Any,
        optimise: str | None,
        optimise_from: str | None,
        reflect: str | None,
        max_calls: int,
        optimise_seed: int,
        override_boundary: str | None,
        **others: Any,
    ) -> Any:
        wish = None
        if optimise is not None:
            wish = OptimiseWish(
                optimiser=optimise,
                seed_prompt=optimise_from,
                reflect=reflect,
                max_calls=max_calls,
                seed=optimise_seed,
                override=override_boundary,
            )
        elif optimise_from or reflect or override_boundary:
            raise click.UsageError(
                "--optimise-from, --reflect and --override-boundary need --optimise"
            )
        return command(*arguments, optimising=wish, **others)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def optimise_now(app: App, task: Task, wish: OptimiseWish, *, base_url: str | None) -> Optimised:
    """Run the optimiser, and say what came of it."""
    from harness.surface.progress import TextProgress

    with TextProgress(label=f"{wish.optimiser}: replies") as progress:
        made = optimise(
            task,
            wish,
            plugins=app.plugins,
            pool=app.pool,
            store=app.store,
            progress=progress,
            at=now,
            base_url=base_url,
        )
    took = f"{number(made.calls)} calls, {number(made.reflections)} reflections"
    if not made.names:
        app.say(
            f"{wish.optimiser} found no prompt that beats {made.seed_prompt} on the cases that it "
            f"learns from ({took}): nothing was written. A larger reflection model may "
            "(--reflect SCHEME:MODEL), or more calls (--max-calls)."
        )
    for path in made.paths:
        app.say(f"made {_shown(task, path)} from {made.seed_prompt} ({took})")
    return made


def _shown(task: Task, path: Any) -> str:
    return one_line(str(path.relative_to(task.folder)))

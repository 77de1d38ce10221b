"""`harness model`: what is served, and how."""

from __future__ import annotations

from pathlib import Path

import click

from harness.engine.prompt_files import MADE
from harness.engine.slim import Slim
from harness.engine.tasks import Task
from harness.engine.unrecorded import Variants
from harness.surface.cli.anatomy import variants_of
from harness.surface.cli.app import App, options
from harness.surface.cli.model_forms import adopt_command, export_command, merge_command
from harness.surface.cli.model_parity import parity_command
from harness.surface.cli.model_serve import serve_command
from harness.surface.cli.model_shelf import (
    diff_command,
    gc_command,
    list_command,
    show_command,
    verify_command,
)
from harness.surface.cli.model_variants import variants_command


@click.group("model")
def command() -> None:
    """Look after what is served."""


for _one in (
    list_command, show_command, diff_command, verify_command, gc_command,
    merge_command, export_command, adopt_command, parity_command,
    variants_command, serve_command,
):  # fmt: skip
    command.add_command(_one)


@command.command("slim")
@click.argument("task")
@click.option("--candidate", required=True, metavar="NAME", help="A tuned model, or any other.")
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.03,
    show_default=True,
    help="How much of the primary score may be lost.",
)
@click.option(
    "--max-cost", type=click.FloatRange(min=0), metavar="USD",
    help="Spend at most this, in this command; what is recorded costs nothing.",
)  # fmt: skip
@options(candidates=True)
@click.pass_obj
def slim_command(
    store: str | None,
    task: str,
    candidate: str,
    margin: float,
    max_cost: float | None,
    base_url: str | None,
    as_json: bool,
) -> int:
    """Find the shortest prompt that is not worse, measured on dev.

    Writes it to prompts/made/slim-NAME.md. Exit 0: one was found. 1: none is shown to be no worse.
    3: these cases cannot show it.
    """
    from harness.engine.slim import slim
    from harness.surface.anatomy_table import slim_lines

    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
        app.refuse_leaks(loaded, "dev")
        with variants_of(
            app, loaded, candidate, what="slim", base_url=base_url, max_cost_usd=max_cost
        ) as variants:
            found = slim(variants, margin=margin)
        path = _write(loaded, variants, found)
        app.answer({"slim": found, "path": None if path is None else str(path)})
        app.say(*slim_lines(found))
        if path is not None:
            app.say(*_next(loaded, variants, path))
    return 1 if path is None else 0


def _write(task: Task, variants: Variants, found: Slim) -> Path | None:
    """Write the slim prompt's file; a file of that name is replaced only where it is one of these,
    or not edited since.
    """
    from harness.engine.made_prompts import write_variant

    if found.prompt is None or found.delta is None:
        return None
    note = (
        f"{variants.prompt.name} without {len([s for s in found.steps if s.is_kept])} parts, for "
        f"{variants.candidate.name}: {100 * found.delta.mean:+.1f} points on dev, at least "
        f"{100 * found.delta.lower:+.1f}"
    )
    return write_variant(task, found.prompt, name=f"slim-{variants.prompt.name}", note=note)


def _next(task: Task, variants: Variants, path: Path) -> list[str]:
    lines = [f"written: {path.parent.parent.name}/{MADE}/{path.name}"]
    if variants.candidate.artifact:
        lines.append(
            "dev was searched, and a release wants a tuned model to be served with the prompt that "
            f'it was tuned with: set [tune] prompt = "{path.stem}" and tune again, then gate it'
        )
    else:
        lines.append(
            f"dev was searched: confirm it on sealed cases, harness gate {task.name} "
            f"--candidate {path.stem} --baseline {variants.candidate.name}"
        )
    return lines

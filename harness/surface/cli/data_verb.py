"""`harness data`: read the raw rows before anything else."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from statistics import median

import click

from harness.engine.tasks import Task, repeated_inputs
from harness.errors import UsageError
from harness.records import SPLITS, Case
from harness.surface.cli.app import App, options
from harness.surface.judge_prompts import JudgePrompt, judge_prompts, prompt_lines
from harness.surface.words import clean, one_line


@click.group("data")
def command() -> None:
    """Look at a task's cases."""


@command.command("look")
@click.argument("task")
@click.option(
    "--rows", type=click.IntRange(0), default=5, show_default=True, help="How many rows to read."
)
@click.option("--split", type=click.Choice(SPLITS), help="Rows of this split alone.")
@click.option("--seed", default=0, show_default=True, help="Which rows: the same for a seed.")
@click.option(
    "--judges", is_flag=True, help="Also print what each judge is asked about the first dev row."
)
@options()
@click.pass_obj
def look(
    store: str | None,
    task: str,
    rows: int,
    split: str | None,
    seed: int,
    judges: bool,
    as_json: bool,
) -> int:
    """Show raw rows first, then counts: splits, clusters, tags, lengths.

    Rows of the sealed test split are shown only where --split test asks for them.
    """
    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
        open_splits = [split] if split else ["train", "dev"]
        pool = [c for c in loaded.cases if c.split in open_splits]
        drawn = random.Random(seed).sample(pool, min(rows, len(pool)))
        prompts = _judge_prompts(loaded, drawn) if judges else []
        told: dict[str, object] = {"rows": drawn, "facts": facts(loaded)}
        app.answer(told | ({"judges": prompts} if judges else {}))
        for case in drawn:
            app.say(*row_lines(case), "")
        for prompt in prompts:
            app.say(*prompt_lines(prompt))
        app.say(*fact_lines(loaded))
    return 0


def _judge_prompts(task: Task, drawn: Sequence[Case]) -> list[JudgePrompt]:
    """Return what the judges are asked about the first dev row that is shown, else about the
    first shown row, or the first dev case.
    """
    if not task.settings.judges:
        raise UsageError(
            f"{task.folder / 'task.toml'}: no [judges.NAME], so there is no prompt of a judge"
        )
    shown = sorted(drawn, key=lambda case: case.split != "dev") or task.split("dev")
    return list(judge_prompts(task, shown[0])) if shown else []


def row_lines(case: Case) -> list[str]:
    """Return one case as a person reads it."""
    lines = [f"{clean(case.id)}  {case.split}  cluster {clean(case.cluster)}  {clean(case.line)}"]
    for name, value in case.inputs.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines.append(f"  {clean(name)}: {one_line(text, width=300)}")
    reference = case.reference_text
    lines.append(f"  → {one_line(reference, width=400) if reference else 'no reference'}")
    return lines


def facts(task: Task) -> dict[str, dict[str, object]]:
    """Return counts a split: cases, clusters, references, tags, median length in characters."""
    found: dict[str, dict[str, object]] = {}
    for split in SPLITS:
        cases = task.split(split)
        lengths = [len(json.dumps(dict(c.inputs), ensure_ascii=False)) for c in cases]
        answers = [len(c.reference_text) for c in cases if c.reference_text is not None]
        found[split] = {
            "cases": len(cases),
            "clusters": len({c.cluster for c in cases}),
            "references": len(answers),
            "input_characters": int(median(lengths)) if lengths else 0,
            "reference_characters": int(median(answers)) if answers else 0,
            "same_inputs": len(cases) - len({c.inputs_digest for c in cases}),
            "tags": dict(Counter(tag for c in cases for tag in c.tags).most_common(12)),
        }
    return found


def fact_lines(task: Task) -> list[str]:
    """Return the facts in words, and cases that stand in two splits."""
    lines = []
    for split, fact in facts(task).items():
        tags = ", ".join(f"{clean(t)} {n}" for t, n in fact["tags"].items())  # type: ignore[attr-defined]
        lines.append(
            f"{split}: {fact['cases']} cases in {fact['clusters']} clusters, "
            f"{fact['references']} with a reference; median {fact['input_characters']} characters "
            f"in, {fact['reference_characters']} out"
            + (f"; {fact['same_inputs']} repeat another" if fact["same_inputs"] else "")
        )
        if tags:
            lines.append(f"  tags: {tags}")
    leaks = repeated_inputs(task)
    if leaks:
        lines.append(
            f"LEAK: {len(leaks)} inputs stand in two splits: {clean(', '.join(leaks[:5]))}"
        )
    return lines

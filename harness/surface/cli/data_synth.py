"""`harness data synth`: its options, and what it says of the rows that were made."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.core.words import count
from harness.records import SPLITS, Split
from harness.surface.cli.app import App, options
from harness.surface.words import clean, one_line

if TYPE_CHECKING:
    from harness.engine.data.synth import Synth
    from harness.engine.data.synth_setting import By, Setting
    from harness.engine.tasks import Task

METHODS = ("self-instruct", "evolve", "documents", "perturb", "holes")
SHOWN = 3


@click.command("synth")
@click.argument("task")
@click.option("--by", required=True, type=click.Choice(METHODS), help="How rows are made.")
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND",
    help="Only this kind of change; repeatable (perturb: typos, case, whitespace, distractor, "
    "numbers, truncate, paraphrase, negation; evolve: deepen, widen; holes: tag, class).",
)  # fmt: skip
@click.option(
    "--rows", type=click.IntRange(min=1),
    help="How many (default: 50; holes: what is lacking, 200 at most).",
)  # fmt: skip
@click.option("--for", "split", type=click.Choice(SPLITS), default="train", show_default=True,
              help="The split of the rows.")  # fmt: skip
@click.option(
    "--from", "source", type=click.Choice(SPLITS),
    help="The split of the rows that they are made from: that of --for, and no other.",
)  # fmt: skip
@click.option("--model", metavar="SCHEME:MODEL", help="Who is asked; any backend.")
@click.option("--field", metavar="INPUT", help="The input whose text is changed (perturb).")
@click.option(
    "--max-cost", type=click.FloatRange(min=0), metavar="USD",
    help="Stop at this; what is recorded costs nothing.",
)  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Fixes every draw.")
@click.option(
    "--near", type=click.FloatRange(0, 1),
    help="From which share of common word sequences a row is a copy; 0: only equal ones are "
    "(default: the task's own `near`).",
)  # fmt: skip
@click.option(
    "--least", type=click.IntRange(min=1), default=10, show_default=True,
    help="How many cases a tag or class should have (holes).",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="The file to write: a case file.")
@click.option("--force", is_flag=True, help="Replace it.")
@click.option("--plan", "is_plan", is_flag=True, help="Show what would be asked; ask nothing.")
@options(candidates=True)
@click.pass_obj
def synth_command(
    store: str | None,
    task: str,
    by: By,
    kinds: tuple[str, ...],
    rows: int | None,
    split: Split,
    source: Split | None,
    model: str | None,
    field: str | None,
    max_cost: float | None,
    seed: int,
    near: float | None,
    least: int,
    out: Path | None,
    force: bool,
    is_plan: bool,
    base_url: str | None,
    as_json: bool,
) -> int:
    """Make new rows: from a task's rows or documents, or for its holes.

    self-instruct: rows like the collected ones. evolve: harder or rarer ones. documents: rows
    whose answers stand in the task's documents. perturb: the collected ones with typos, other
    spacing, a distractor, paraphrased. holes: rows for tags and classes with few cases.

    Each row passes the task's own evals and the lints, copies no row of any split, and says how
    it was made. Answers are recorded: the same command goes on where it stopped.
    Exit codes: 0 rows were written, 1 none passed, 4 no answer came.
    """
    from harness.engine.data.synth import synthesise
    from harness.engine.data.synth_setting import Wish, prepare
    from harness.engine.data.writing import free
    from harness.surface.progress import TextProgress

    if source not in {None, split}:
        raise click.UsageError(
            f"--from {source} --for {split}: a row made from one of another split is a leak. Rows "
            f"for {split} are made from {split} (leave --from out)."
        )
    if out is None and not is_plan:
        raise click.UsageError("--out FILE: where the rows go (or --plan, to see what would be)")
    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
        app.refuse_leaks(loaded, split)  # a change of a row that leaks would leak unseen
        if out is not None:
            free(out, overwrite=force)  # before anything is paid for
        wish = Wish(
            by=by, rows=rows or 0, kinds=kinds, split=split, model=model, base_url=base_url,
            max_cost_usd=max_cost, seed=seed, field=field, least=least,
            near=loaded.settings.near if near is None else near,
        )  # fmt: skip
        setting = prepare(loaded, wish, root=app.project.root, pool=app.pool)
        app.say(*setting_lines(setting))
        if is_plan:
            app.answer(plan_json(setting))
            app.say(*first_order(setting))
            return 0
        with TextProgress(label="answers") as progress:
            made = synthesise(loaded, setting, store=app.store, progress=progress)
        assert out is not None
        if made.rows:
            write_cases(out, made.rows, overwrite=force)
        app.answer(synth_json(made, out=out))
        app.say(*synth_lines(made, setting, out=out, task=loaded))
    return 0 if made.rows else 1


def write_cases(out: Path, rows: Any, *, overwrite: bool) -> None:
    """Write cases to a file, whole or not at all."""
    from harness.engine.data.forms.cases import of_case
    from harness.engine.data.writing import write_examples

    write_examples(out, map(of_case, rows), form="cases", overwrite=overwrite, allow_refused=False)


def setting_lines(setting: Setting) -> list[str]:
    """Return what rows are made from, before anybody is asked."""
    wish = setting.wish
    lines = [
        f"{count(wish.rows, 'row')} for {wish.split}, by {wish.by} ({', '.join(setting.kinds)}), "
        f"from {count(len(setting.seeds), 'row')} of {wish.split}"
        + (f" and {count(len(setting.passages), 'passage')}" if setting.passages else "")
        + (f"; asked is {setting.live.name}" if setting.live else "; no model is asked")
    ]
    lines += [f"  hole: {clean(h.text)}" for h in setting.holes]
    return lines + ([f"  {clean(setting.terms)}"] if setting.terms else [])


def first_order(setting: Setting) -> list[str]:
    """Return the first request, as it would be sent."""
    if setting.live is None:
        return ["Nothing was written."]
    request = setting.request(next(setting.orders()), number=0)
    lines = ["", "The first request:"]
    for message in request.messages:
        lines += [f"@{message.role}", clean(message.content), ""]
    return [*lines, "Nothing was asked, and nothing was written."]


def plan_json(setting: Setting) -> dict[str, Any]:
    """Return what would be done."""
    from harness.engine.data.synth_setting import facts_json

    request = setting.request(next(setting.orders()), number=0) if setting.live else None
    return {**facts_json(setting), "first_request": request}


def named_files(task: Task, out: Path) -> list[str]:
    """Return what `cases` names with `out` beside it, as seen from the task's folder."""
    given = task.settings.cases
    known = [given] if isinstance(given, str) else list(given)
    new = Path(os.path.relpath(out.resolve(), task.folder.resolve())).as_posix()
    return list(dict.fromkeys([*known, new]))


def synth_json(made: Synth, *, out: Path) -> dict[str, Any]:
    """Return what was made, as one value."""
    from harness.engine.data.synth import origins

    return {
        "rows": len(made.rows),
        "out": str(out) if made.rows else None,
        "kinds": dict(origins(made.rows, key="kind")),
        "refused": dict(made.refused),
        "samples": {k: list(v) for k, v in made.samples.items() if k in made.refused},
        "requests": made.requests,
        "recorded": made.recorded,
        "spent_usd": made.spent_usd,
        "stopped": made.stopped or None,
        "holes": [h.text for h in made.holes],
        "notes": list(made.notes),
    }


def _with_spaces(value: object) -> str:
    """Return a text whose white space can be seen, where it is more than one space."""
    text = re.sub(r"^ +| {2,}| +$", lambda gap: "·" * len(gap[0]), str(value))
    return text.replace("\n", "\\n").replace("\t", "\\t")


def synth_lines(made: Synth, setting: Setting, *, out: Path, task: Task) -> list[str]:
    """Return what was made, what was refused and why, and what to do next."""
    from harness.core.money import usd
    from harness.engine.data.synth import origins

    lines = [""]
    for row in made.rows[:SHOWN]:
        sources = row.provenance.get("from") or [row.provenance.get("document", "")]
        told = ", ".join(map(str, sources))
        lines.append(f"  {clean(row.id)}, from {one_line(told, width=60)}")
        show = _with_spaces if row.provenance.get("kind") == "whitespace" else str
        for name, value in row.inputs.items():
            lines.append(f"    {clean(name)}: {one_line(show(value), width=110)}")
        lines.append(f"    → {one_line(row.reference_text or 'no reference', width=110)}")
    kinds = ", ".join(f"{kind} {n}" for kind, n in origins(made.rows, key="kind").items())
    lines += [
        "",
        f"{count(len(made.rows), 'row')} of {made.said} passed" + (f": {kinds}" if kinds else ""),
    ]
    for reason, n in made.refused.items():
        lines.append(f"  {n} × {clean(reason)}")
        lines += [f"      as {one_line(s, width=120)}" for s in made.samples.get(reason, ())[:1]]
    if made.requests:
        cost = "cost unknown" if made.spent_usd is None else usd(made.spent_usd)
        lines.append(
            f"{count(made.requests, 'answer')}, {made.recorded} of them recorded before; {cost}"
        )
    lines += [f"  hole: {clean(h.text)}" for h in made.holes]
    if made.stopped and len(made.rows) < setting.wish.rows:
        lines.append(f"Fewer than the {setting.wish.rows} asked for: {clean(made.stopped)}.")
    lines += [f"Note: {clean(note)}." for note in made.notes]
    if not made.rows:
        return [*lines, "Nothing was written."]
    named = f"cases = {clean(json.dumps(named_files(task, out), ensure_ascii=False))}"
    lines.append(
        f"Written to {clean(str(out))}. Read some of it (harness data look {clean(str(out))}); "
        f"then name it in task.toml: {named}"
    )
    return lines

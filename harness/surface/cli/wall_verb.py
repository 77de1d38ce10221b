"""`harness wall`: the verdict on prompting, recorded in the ledger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from harness.core.measures import Confirmation
from harness.engine.candidates import REFERENCE, backend_options
from harness.engine.certificates import deciding_scores
from harness.engine.ladder import Ladder
from harness.engine.tasks import Task
from harness.errors import HarnessError, UsageError
from harness.records import Candidate, Request, WallVerdict
from harness.surface.cli.app import App, now, options
from harness.surface.cli.audit_path import audit_labels, only_one
from harness.surface.cli.scores_options import (
    all_files,
    named_texts,
    one_task,
    only_with_scores,
    scores_options,
)
from harness.surface.verdicts import wall_lines

CODES = {
    "WALL": 0,
    "SHIP_PROMPT": 1,
    "KEEP_PROMPTING": 1,
    "FIX_DATA": 1,
    "INSUFFICIENT_EVIDENCE": 3,
}
CONSTRAINED = "constrained"
"""The family of prompts that hold a reply to a schema."""


@click.command("wall")
@click.argument("task", required=False)
@scores_options("store", "primary")
@click.option(
    "--target", type=click.FloatRange(0, 1), help="With --scores: what a prompt must reach."
)
@click.option(
    "--profile",
    type=click.Choice(["standard", "quick"]),
    help="With --scores (default: standard); a task has its own.",
)
@click.option(
    "--mid",
    type=click.FloatRange(0, 1),
    help="With --scores: the smallest gain that matters (default: .05).",
)
@click.option(
    "--model", metavar="NAME", help="With --scores: whose tries count, of several models."
)
@click.option(
    "--reference", metavar="NAME", help="With --scores: the try that is the reference answers."
)
@click.option(
    "--waive", multiple=True, metavar="FAMILY=REASON", help="With --scores: a family not tried."
)
@click.option(
    "--confirm", is_flag=True, help="Spend a look at test on the best prompt, if worth it."
)
@click.option("--plan", is_flag=True, help="What these cases can show; asks nothing of anybody.")
@click.option(
    "--gap",
    type=click.FloatRange(0, 1, min_open=True),
    help="With --plan: how far below the target prompts are expected to stay (default: .10).",
)
@click.option("--audit", is_flag=True, help="Read labels here, case by case: are they right?")
@click.option(
    "--audit-csv",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="OUT.csv",
    help="Write the labels to be read as a sheet.",
)
@click.option(
    "--audit-import",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="IN.csv",
    help="Take the filled-in sheet.",
)
@options()
@click.pass_obj
def command(
    store: str | None,
    task: str | None,
    files: tuple[str, ...],
    scores: tuple[str, ...],
    into: str | None,
    primary: str | None,
    target: float | None,
    profile: str | None,
    mid: float | None,
    model: str | None,
    reference: str | None,
    waive: tuple[str, ...],
    confirm: bool,
    plan: bool,
    gap: float | None,
    audit: bool,
    audit_csv: Path | None,
    audit_import: Path | None,
    as_json: bool,
) -> int:
    """Tell whether prompting has hit a wall.

    Exit 0: WALL, tuning may start. 1: keep prompting, ship the prompt, or fix the data. 3: not
    enough evidence. With --plan, 0: these cases could show it; 3: they could not. With --audit, 0:
    the labels were read and do not exclude the target; 1: they do; 3: some are still to be read.
    """
    only_one(
        scores=scores, confirm=confirm, plan=plan, audit=audit, audit_csv=audit_csv,
        audit_import=audit_import,
    )  # fmt: skip
    if gap is not None and not plan:
        raise click.UsageError("--gap goes with --plan")
    if scores:
        from harness.surface.cli.scores_path import wall_scores

        return wall_scores(
            all_files(scores, task, files),
            target=target,
            primary=primary,
            profile=profile or "standard",
            mid=0.05 if mid is None else mid,
            model=model,
            reference=reference,
            waivers=named_texts(waive, option="--waive"),
            store=into or store,
            as_json=as_json,
        )
    only_with_scores(
        store=into, primary=primary, target=target, profile=profile, mid=mid, model=model,
        reference=reference, waive=waive,
    )  # fmt: skip
    task = one_task(task, files)
    if plan:
        with App(store, as_json=as_json) as app:
            return show_plan(app, task, gap=gap)
    if audit or audit_csv or audit_import:
        with App(store, as_json=as_json) as app:
            return audit_labels(app, task, sheet_out=audit_csv, sheet_in=audit_import, asks=audit)
    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
        app.refuse_leaks(loaded, "dev")
        verdict = judge(app, loaded, rescored(app, loaded), is_confirming=confirm)
        show(app, verdict)
    return CODES[verdict.answer]


def rescored(app: App, task: Task) -> Ladder:
    """Return the ladder, after recorded replies were scored with the labels and evals of today;
    no model is asked.
    """
    from harness.engine.ladder import read_ladder
    from harness.engine.policy import pin_policy
    from harness.surface.run_evals import completed, run_evals

    ladder = read_ladder(task, app.store)
    if ladder.runs:
        pin_policy(task, app.store, at=now())
    again = rescorable(app, task, ladder)
    if not any(r.candidate.backend == REFERENCE for r in ladder.runs):
        again[None] = list(dict.fromkeys([*again.get(None, []), REFERENCE]))
    for base_url, names in again.items():
        app.say(f"scoring recorded replies anew: {', '.join(names)}")
        completed(
            run_evals(task, names, store=app.project.store, base_url=base_url, is_offline=True),
            deciding=deciding_scores(task),
        )
    return read_ladder(task, app.store) if again else ladder


def judge(app: App, task: Task, ladder: Ladder, *, is_confirming: bool) -> WallVerdict:
    """Return the verdict on `ladder`; with `is_confirming`, a look at sealed cases is spent where
    the best prompt is worth one.
    """
    from harness.core.wall import judge_wall, nominee
    from harness.engine.label_audit import audit_of
    from harness.engine.ladder import wall_input
    from harness.engine.policy import policy_notes

    evidence = wall_input(
        task,
        ladder,
        certificates=app.store.ledger(task=task.name, kind="certificate"),
        audit=audit_of(task, ladder, app.store.ledger(task=task.name, kind="audit")),
        more_notes=policy_notes(app.store.ledger(task=task.name, kind="policy")),
    )
    if is_confirming and evidence.judges is not None and evidence.judges.holds is not True:
        app.say(f"no look at the sealed cases is spent: {evidence.judges.text}")
    elif is_confirming:
        # an earlier text of a prompt cannot be asked again under its name
        names = {r.candidate.name for r in ladder.runs}
        askable = replace(evidence, tries=[t for t in evidence.tries if t.name in names])
        name = nominee(askable)
        # at the server that its try was asked at, which the task file need not name
        best = next((r for r in ladder.runs if r.candidate.name == name), None)
        base_url = best.candidate.base_url if best is not None else None
        confirmed = confirmation(app, task, name, base_url=base_url)
        evidence = replace(evidence, confirmation=confirmed)
    evidence = replace(evidence, notes=[*evidence.notes, *look_notes(app, task)])
    verdict = judge_wall(evidence)
    without = judge_wall(replace(evidence, refused=(CONSTRAINED,)))
    # a backend that holds a model is asked only where its answer changes what is said
    if without.next_step != verdict.next_step and refuses_schema(app, task):
        return without
    return verdict


def show(app: App, verdict: WallVerdict) -> None:
    """Record a verdict, tell plugins of it, and print it."""
    from harness.engine.walls import wall_entry

    app.store.record(wall_entry(verdict, at=now()))
    app.plugins.tell(verdict)
    app.answer({"id": verdict.id, "verdict": verdict})
    app.say(*wall_lines(verdict))


def refuses_schema(app: App, task: Task) -> bool:
    """Tell whether the backend of the task's model is known to honour no schema; asks no model."""
    s = task.settings
    model = Candidate(
        name="model",
        backend=s.model,
        base_url=s.base_url,
        options=backend_options(task, s.model),
    )
    try:
        live = app.pool.get(model, folder=task.folder)
        return live.refuse(Request(messages=(), schema={"type": "object"})) is not None
    except HarnessError:  # no key, no extra, another machine: then it is not known here
        return False


def show_plan(app: App, name: str, *, gap: float | None) -> int:
    """Print what a task's cases can show; return 0, or 3 where that is not enough."""
    from harness.core.planning import EXPECTED_GAP
    from harness.surface.forecasts import after, plan_lines, plan_of

    task = app.task(name)
    app.refuse_leaks(task, "dev")
    plan = plan_of(task, gap=EXPECTED_GAP if gap is None else gap)
    if gap is None and app.project.store.exists():
        plan = after(plan, task, app.store)
    app.answer(plan)
    app.say(*([] if app.as_json else plan_lines(task, plan)))
    return 0 if plan.answer == "ENOUGH" else 3


def look_notes(app: App, task: Task) -> list[str]:
    """Return how many looks at the sealed cases confirmations have spent."""
    from harness.core.looks import looks_line
    from harness.engine.release import looks_spent

    entries = app.store.ledger(task=task.name, kind="look")
    spent = looks_spent(task, entries, purposes=("confirmation", "eval"))
    return [f"Confirmation: {looks_line(len(spent))}"] if spent else []


def rescorable(app: App, task: Task, ladder: Ladder) -> dict[str | None, list[str]]:
    """Return, by base URL, the names of stale candidates that are still what they were."""
    found: dict[str | None, list[str]] = {}
    for row in ladder.stale:
        recorded = app.store.run(row.id).candidate
        try:
            now_called_so = app.candidate(task, recorded.name, base_url=recorded.base_url)
        except UsageError:  # its prompt, table or artifact is gone
            continue
        if now_called_so.digest == recorded.digest:
            found.setdefault(recorded.base_url, []).append(recorded.name)
    return found


def confirmation(
    app: App, task: Task, name: str | None, *, base_url: str | None
) -> Confirmation | None:
    """Spend one look at the sealed cases on the prompt `name`; the same prompt is one look.

    Returns None where no prompt is worth it, or none could be confirmed on so few cases: a look
    that would fail wastes error that later looks need. Raises BackendError where a reply is
    missing.
    """
    from harness.core.looks import alpha_of_look
    from harness.core.planning import no_look
    from harness.core.scoring import case_values
    from harness.engine.ladder import read_ladder
    from harness.engine.release import (
        look_entry,
        look_number,
        looks_spent,
        pair_key,
        refuse_changed,
    )
    from harness.surface.run_evals import completed, run_evals

    if name is None:
        app.say("no prompt is likely enough to pass: no look at the sealed cases is spent")
        return None
    app.refuse_leaks(task, "test", is_anew=True)
    candidate = app.candidate(task, name, base_url=base_url)
    key = pair_key(None, candidate)
    entries = app.store.ledger(task=task.name, kind="look")
    refuse_changed(task, entries)
    spent = looks_spent(task, entries, purposes=("confirmation", "eval"))
    look = look_number(spent, key)
    clusters = len({c.cluster for c in task.split("test")})
    if why := no_look(clusters, target=task.settings.target, alpha=alpha_of_look(look)):
        app.say(f"no look at the sealed cases is spent: {why}")
        return None
    if key not in spent:
        app.store.record(
            look_entry(task, purpose="confirmation", baseline=None, candidate=candidate, at=now())
        )
    app.say(f"confirming {name} on sealed cases: look {look}, at {100 * alpha_of_look(look):.2f} %")
    completed(
        run_evals(
            task,
            [name],
            store=app.project.store,
            split="test",
            base_url=base_url,
            extra=["--look-is-counted"],
        ),
        deciding=deciding_scores(task),
    )
    run = read_ladder(task, app.store, split="test").complete(candidate)
    assert run is not None  # `completed` raised where one was not
    values = case_values(run, task.settings.primary)
    cases = [c for c in task.split("test") if values.get(c.id, 0.0) is not None]
    return Confirmation(
        name=name,
        scores=[values.get(c.id) for c in cases],
        clusters=[c.cluster for c in cases],
        alpha=alpha_of_look(look),
    )

"""The steps of a release, for `harness gate`: who stands against whom, the look, the verdict.

Knows no scores made elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.core.looks import alpha_of_look
from harness.core.synth_origin import made_note
from harness.engine.boundary import boundary_condition, crossings
from harness.engine.certificates import advised_scores, deciding_scores, judges_condition
from harness.engine.gate import candidate_conditions, not_a_pilot, refuse_uncertified
from harness.engine.ladder import read_ladder, refuse_without_scores
from harness.engine.off_task import OffTask, off_task, waiver_entry
from harness.engine.policy import pin_policy, policy_notes
from harness.engine.release import (
    arms_of,
    best_prompt,
    control_condition,
    look_entry,
    look_number,
    looks_spent,
    not_the_same,
    pair_key,
    refuse_changed,
    refuse_too_few,
    release_verdict,
    terms_not_set,
)
from harness.engine.tasks import Task
from harness.engine.variants import Match, match_of
from harness.records import Candidate, Condition, LedgerEntry, ReleaseVerdict
from harness.surface.cli.app import App, now
from harness.surface.run_evals import completed, run_evals
from harness.surface.verdicts import release_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for: the pair by name, and the terms that are not the task's."""

    candidate: str | None = None
    baseline: str | None = None
    margin: float | None = None
    override_boundary: str | None = None
    base_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bout:
    """A candidate against a baseline, called `new_name` and `old_name`, with all of the release
    that is known before sealed cases are looked at.
    """

    task: Task
    new_name: str
    old_name: str
    new: Candidate
    old: Candidate
    match: Match | None
    conditions: Sequence[Condition]
    overrides: Sequence[str]


def decide(app: App, name: str, wish: Wish) -> ReleaseVerdict:
    """Judge a release of the task `name`, record it and show it; one pair is one look.

    Raises UsageError, Refused or NotEnoughEvidence before a look is spent, BackendError where a
    reply is missing.
    """
    bout = bout_of(app, app.task(name), wish)
    look = spend_look(app, bout)
    completed(
        run_evals(
            bout.task,
            ["reference", bout.old_name, bout.new_name],
            store=app.project.store,
            split="test",
            base_url=wish.base_url,
            override_boundary=wish.override_boundary,
            extra=["--look-is-counted"],
        ),
        deciding=deciding_scores(bout.task),
    )
    verdict = judge(app, bout, look=look)
    show(app, bout.task, verdict)
    return verdict


def bout_of(app: App, task: Task, wish: Wish) -> Bout:
    """Return who stands against whom. Raises UsageError or Refused where they may not, and
    NotEnoughEvidence where no look could tell.
    """
    app.refuse_leaks(task, "test", is_anew=True)
    new_name = wish.candidate or (task.settings.tune.name if task.settings.tune else None)
    if new_name is None:
        raise app.which_candidate(task)
    old_name = wish.baseline or best_prompt(task, read_ladder(task, app.store))
    new = app.candidate(task, new_name, base_url=wish.base_url)
    old = app.candidate(task, old_name, base_url=wish.base_url)
    not_the_same(old, new)
    refuse_without_scores(task)
    refuse_too_few(task)
    refuse_uncertified(task, app.store.ledger(task=task.name, kind="certificate"), pool=app.pool)
    made = [
        (c, app.store.artifact(c.artifact, task=task.name) if c.artifact else None)
        for c in (new, old)
    ]
    match = match_of(*made, task=task, project=app.project, margin=wish.margin)
    conditions, overrides = candidate_conditions(
        task, new, store=app.store, pool=app.pool, plugins=app.plugins, project=app.project
    )
    if (origin := made[1][1]) is not None:
        not_a_pilot(old, origin)
    return Bout(
        task=task,
        new_name=new_name,
        old_name=old_name,
        new=new,
        old=old,
        match=match,
        conditions=conditions,
        overrides=overrides,
    )


def spend_look(app: App, bout: Bout) -> int:
    """Record the look at the sealed cases, once for a pair, and return its number.

    Raises Refused where the sealed cases are not those of earlier looks.
    """
    task, key = bout.task, pair_key(bout.old, bout.new)
    entries = app.store.ledger(task=task.name, kind="look")
    refuse_changed(task, entries)
    pin_policy(task, app.store, at=now())
    spent = looks_spent(task, entries, purposes=("release", "eval"))
    look = look_number(spent, key)
    app.say(
        f"{bout.new_name} against {bout.old_name} on {len(task.split('test'))} sealed cases: "
        f"look {look}, at {100 * alpha_of_look(look):.2f} %"
    )
    if key not in spent:
        app.store.record(
            look_entry(task, purpose="release", baseline=bout.old, candidate=bout.new, at=now())
        )
    return look


def judge(app: App, bout: Bout, *, look: int) -> ReleaseVerdict:
    """Return the verdict on the recorded runs over the sealed cases."""
    task, match = bout.task, bout.match
    sealed = read_ladder(task, app.store, split="test")
    arms = arms_of(task, sealed, baseline=bout.old, candidate=bout.new)
    runs = [arms.baseline, arms.candidate]
    certificates = app.store.ledger(task=task.name, kind="certificate")
    judges = judges_condition(task, runs, certificates)
    overridden = app.store.ledger(task=task.name, kind="override")
    inside = boundary_condition(task, bout.new, pool=app.pool, entries=overridden)
    control = control_condition(task, sealed, split="test")
    beside = _off_task(app, bout)
    verdict = release_verdict(
        arms,
        store=app.store,
        pool=app.pool,
        look=look,
        conditions=[
            control,
            inside,
            *([judges] if judges is not None else []),
            *bout.conditions,
        ],
        overrides=list(dict.fromkeys([*bout.overrides, *crossings(overridden)])),
        watched=[beside.guard] if beside is not None and beside.guard is not None else [],
        match=None if match is None else (match.margin, match.fact),
        advised=advised_scores(task, runs, certificates),
    )
    notes = [beside.text if beside is not None else "", match.note if match is not None else ""]
    notes.append(made_note([c.tags for c in task.split("test")], split="test") or "")
    policies = policy_notes(app.store.ledger(task=task.name, kind="policy"))
    return replace(verdict, notes=(*verdict.notes, *filter(None, notes), *policies))


def _off_task(app: App, bout: Bout) -> OffTask | None:
    """Return what the tuned model lost outside its task; None for a prompt."""
    if bout.new.artifact is None:
        return None
    tuned = app.store.artifact(bout.new.artifact, task=bout.task.name)
    beside = off_task(bout.task, bout.new, artifact=tuned, store=app.store, pool=app.pool)
    if (waiver := waiver_entry(bout.task, at=now())) is not None:
        app.store.record(waiver)
    return beside


def show(app: App, task: Task, verdict: ReleaseVerdict) -> None:
    """Record a verdict, tell plugins of it, and print it."""
    text = f"{verdict.answer}: {verdict.reason}"
    app.store.record(
        LedgerEntry(kind="release", task=task.name, at=now(), payload=verdict, text=text)
    )
    app.plugins.tell(verdict)
    app.answer({"id": verdict.id, "verdict": verdict})
    app.say(*release_lines(verdict))
    if unset := terms_not_set(task):
        app.say(f"not asked of this release (task.toml sets none): {', '.join(unset)}")

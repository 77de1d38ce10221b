"""`harness gate`: the release, decided once on sealed cases."""

from __future__ import annotations

from dataclasses import replace

import click

from harness.surface.cli.app import App, now, options
from harness.surface.cli.scores_options import (
    all_files,
    named_numbers,
    one_task,
    only_with_scores,
    scores_options,
)
from harness.surface.verdicts import release_lines

CODES = {"SHIP": 0, "BLOCK": 1, "INSUFFICIENT_EVIDENCE": 3}


@click.command("gate")
@click.argument("task", required=False)
@scores_options("store", "primary")
@click.option(
    "--guardrail", multiple=True, metavar="METRIC=MARGIN", help="With --scores: may not lose more."
)
@click.option(
    "--min-gain",
    type=click.FloatRange(0, 1),
    help="With --scores: the least gain that is worth a release (default: .02).",
)
@click.option(
    "--must-hold", multiple=True, metavar="SLICE", help="With --scores: a slice that may not lose."
)
@click.option("--candidate", metavar="NAME", help="Default: the newest artifact of the task.")
@click.option("--baseline", metavar="NAME", help="Default: the best recorded prompt on dev.")
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="For a form of a tuned model (int8, GGUF, ...) against that model: what it may lose.",
)
@click.option(
    "--override-boundary", metavar="REASON", help="Send internal cases outside; recorded for ever."
)
@options(candidates=True)
@click.pass_obj
def command(
    store: str | None,
    task: str | None,
    files: tuple[str, ...],
    scores: tuple[str, ...],
    into: str | None,
    primary: str | None,
    guardrail: tuple[str, ...],
    min_gain: float | None,
    must_hold: tuple[str, ...],
    candidate: str | None,
    baseline: str | None,
    margin: float | None,
    override_boundary: str | None,
    base_url: str | None,
    as_json: bool,
) -> int:
    """Decide a release on the sealed test split; counts the look.

    Exit 0: SHIP. 1: BLOCK. 3: not enough evidence. The same pair judged again is the same look.
    """
    if scores:
        from harness.surface.cli.scores_path import gate_scores

        return gate_scores(
            all_files(scores, task, files),
            baseline=baseline,
            candidate=candidate,
            primary=primary,
            guardrails=named_numbers(guardrail, option="--guardrail"),
            min_gain=0.02 if min_gain is None else min_gain,
            must_hold=must_hold,
            store=into or store,
            as_json=as_json,
        )
    only_with_scores(
        store=into, primary=primary, guardrail=guardrail, min_gain=min_gain, must_hold=must_hold
    )
    task = one_task(task, files)
    from harness.core.looks import alpha_of_look
    from harness.core.synth_origin import made_note
    from harness.engine.boundary import boundary_condition, crossings
    from harness.engine.certificates import judges_condition
    from harness.engine.gate import candidate_conditions, not_a_pilot
    from harness.engine.ladder import read_ladder
    from harness.engine.leaks import refuse_leaks
    from harness.engine.off_task import off_task, waiver_entry
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
        release_verdict,
        terms_not_set,
    )
    from harness.engine.variants import match_of
    from harness.errors import UsageError
    from harness.records import LedgerEntry
    from harness.surface.run_evals import completed, run_evals

    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
        table = loaded.settings.tune
        name = candidate or (table.name if table else None)
        if name is None:
            raise UsageError("which candidate? --candidate NAME")
        old_name = baseline or best_prompt(loaded, read_ladder(loaded, app.store))
        new = app.candidate(loaded, name, base_url=base_url)
        old = app.candidate(loaded, old_name, base_url=base_url)
        not_the_same(old, new)  # before a look is spent
        made = [
            (c, app.store.artifact(c.artifact, task=loaded.name) if c.artifact else None)
            for c in (new, old)
        ]
        match = match_of(*made, task=loaded, project=app.project, margin=margin)
        conditions, overrides = candidate_conditions(
            loaded, new, store=app.store, pool=app.pool, plugins=app.plugins, project=app.project
        )
        key = pair_key(old, new)
        if not loaded.split("test"):
            raise UsageError(f"task {task!r} has no test split: a release needs sealed cases")
        refuse_leaks(loaded, "test")
        if old.artifact is not None:
            not_a_pilot(old, app.store.artifact(old.artifact, task=loaded.name))
        entries = app.store.ledger(task=loaded.name, kind="look")
        refuse_changed(loaded, entries)
        pin_policy(loaded, app.store, at=now())
        spent = looks_spent(loaded, entries, purposes=("release", "eval"))
        look = look_number(spent, key)
        app.say(
            f"{name} against {old_name} on {len(loaded.split('test'))} sealed cases: "
            f"look {look}, at {100 * alpha_of_look(look):.2f} %"
        )
        if key not in spent:
            app.store.record(
                look_entry(loaded, purpose="release", baseline=old, candidate=new, at=now())
            )
        completed(
            run_evals(
                loaded,
                ["reference", old_name, name],
                store=app.project.store,
                split="test",
                base_url=base_url,
                override_boundary=override_boundary,
                extra=["--look-is-counted"],
            )
        )
        sealed = read_ladder(loaded, app.store, split="test")
        arms = arms_of(loaded, sealed, baseline=old, candidate=new)
        judges = judges_condition(
            loaded,
            [arms.baseline, arms.candidate],
            app.store.ledger(task=loaded.name, kind="certificate"),
        )
        certificate = [judges] if judges is not None else []
        overridden = app.store.ledger(task=loaded.name, kind="override")
        inside = boundary_condition(loaded, new, pool=app.pool, entries=overridden)
        control = control_condition(loaded, sealed, split="test")
        beside = None
        if new.artifact is not None:
            tuned = app.store.artifact(new.artifact, task=loaded.name)
            beside = off_task(loaded, new, artifact=tuned, store=app.store, pool=app.pool)
            if (waiver := waiver_entry(loaded, at=now())) is not None:
                app.store.record(waiver)
        verdict = release_verdict(
            arms,
            store=app.store,
            pool=app.pool,
            look=look,
            conditions=[control, inside, *certificate, *conditions],
            overrides=list(dict.fromkeys([*overrides, *crossings(overridden)])),
            watched=[beside.guard] if beside is not None and beside.guard is not None else [],
            match=None if match is None else (match.margin, match.fact),
        )
        policies = app.store.ledger(task=loaded.name, kind="policy")
        told = [beside.text] if beside is not None else []
        told += [match.note] if match is not None else []
        told += filter(None, [made_note([c.tags for c in loaded.split("test")], split="test")])
        verdict = replace(verdict, notes=(*verdict.notes, *told, *policy_notes(policies)))
        text = f"{verdict.answer}: {verdict.reason}"
        app.store.record(
            LedgerEntry(kind="release", task=loaded.name, at=now(), payload=verdict, text=text)
        )
        app.plugins.tell(verdict)
        app.answer({"id": verdict.id, "verdict": verdict})
        app.say(*release_lines(verdict))
        if unset := terms_not_set(loaded):
            app.say(f"not asked of this release (task.toml sets none): {', '.join(unset)}")
    return CODES[verdict.answer]

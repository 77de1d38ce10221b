"""`harness compare` against a blessed file: a pull request's check, from what is recorded alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from harness.core.blessed import Blessed
from harness.core.money import usd
from harness.engine.certificates import ADVICE, advised_scores
from harness.engine.tasks import Task
from harness.errors import NotEnoughEvidence
from harness.records import Candidate, Comparison, Run
from harness.surface.cli.app import App
from harness.surface.step_summary import folded, plain, table, write_summary
from harness.surface.tables import comparison_lines
from harness.surface.words import clean, interval, points

SHOWN = 12
NAMES = {
    "latency_s": ("latency, median", "s"),
    "latency_p95_s": ("latency, p95", "s"),
    "cost_usd": ("cost a reply", "$"),
    "input_tokens": ("tokens in", ""),
    "output_tokens": ("tokens out", ""),
}


def recorded_run(app: App, task: Task, candidate: Candidate) -> Run:
    """Return the candidate's complete run under the present evals, its recorded replies scored
    anew where only evals or labels changed. Asks no backend. Raises NotEnoughEvidence.
    """
    from harness.engine.ladder import read_ladder
    from harness.surface.run_evals import completed, run_evals

    ladder = read_ladder(task, app.store)
    if any(row.candidate_digest == candidate.digest for row in ladder.stale):
        completed(
            run_evals(
                task,
                [candidate.name],
                store=app.project.store,
                base_url=candidate.base_url,
                is_offline=True,
            )
        )
        ladder = read_ladder(task, app.store)
    if (run := ladder.complete(candidate)) is not None:
        return run
    raise NotEnoughEvidence(
        f"no complete, current run of {candidate.name!r}, and compare asks no backend. "
        f"Make one: harness eval {task.name} --candidate '{candidate.name}'"
    )


def refuse_unmeasured(found: Comparison) -> None:
    """Raise NotEnoughEvidence where no case was measured in both: what is not shown is no news."""
    if not found.delta.n:
        raise NotEnoughEvidence(
            f"nothing to compare: no case of {found.baseline!r} and {found.candidate!r} was "
            f"measured in both, for all {found.missing} ended in a fault in one of them. "
            f"`harness eval {found.task}` asks again, and says what went wrong."
        )


def bless_run(app: App, task: Task, candidate: Candidate, *, path: Path) -> int:
    """Write the blessed file of a candidate's recorded run."""
    from harness.core.blessed import bless, to_text

    run = recorded_run(app, task, candidate)
    blessed = bless(run, primary=task.settings.primary, usage=_usage(app, run))
    half = path.with_name(f"{path.name}.half")
    try:
        half.write_text(to_text(blessed), encoding="utf-8")
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
    app.answer({"blessed": str(path), "run": run.id, "cases": len(blessed.cases)})
    app.say(
        f"{clean(run.candidate.name)} is blessed in {path}: {len(blessed.cases)} cases of run "
        f"{run.id[:8]}. Commit it; a pull request checks against it with",
        f"harness compare {task.name} --candidate '{clean(candidate.name)}' --baseline {path}",
    )
    return 0


def compare_blessed(app: App, task: Task, candidate: Candidate, *, path: Path) -> int:
    """Compare a candidate's recorded run with the blessed file; 1 where a regression is shown."""
    from harness.core.blessed import (
        changed_cases,
        flaky_ids,
        from_text,
        pair_with,
        usage_a_reply,
        why_stale,
    )
    from harness.core.pairs import compare
    from harness.core.release import shown_loss
    from harness.engine.text_files import read_text
    from harness.errors import Refused, UsageError

    blessed = from_text(read_text(path), place=str(path))
    again = f"Bless again, and commit it: harness compare {task.name} --candidate NAME "
    again += f"--bless {path}"
    if blessed.task != task.name:
        raise UsageError(f"{path}: blessed for the task {blessed.task!r}, not {task.name!r}")
    run = recorded_run(app, task, candidate)
    primary = task.settings.primary
    if stale := why_stale(blessed, run, primary=primary):
        raise UsageError(f"{path} is stale: {stale}. {again}")
    changed = changed_cases(blessed, run)
    clusters = {c.id: c.cluster for c in task.split(run.split)}
    try:
        pair = pair_with(blessed, run, primary=primary, clusters=clusters)
    except Refused as exc:  # no regression was shown: exit 1 would say so
        raise UsageError(
            f"{path} is stale: {len(changed)} of its {len(blessed.cases)} cases changed or are "
            f"gone ({', '.join(changed[:3]) or 'others were added'}). {again}"
        ) from exc
    found = compare(
        pair,
        task=task.name,
        split=run.split,
        baseline=f"{blessed.candidate} (blessed)",
        candidate=run.candidate.name,
        baseline_run=blessed.run,
        candidate_run=run.id,
    )
    refuse_unmeasured(found)
    certificates = app.store.ledger(task=task.name, kind="certificate")
    lost = shown_loss(found)
    loss = None if primary in advised_scores(task, [run], certificates) else lost
    flaky = {c for c, one in blessed.cases.items() if one.of} | flaky_ids(run, primary)
    spent = usage_a_reply(_usage(app, run))
    changes = {k: (blessed.usage.get(k), spent.get(k)) for k in NAMES}
    lists = _lists(found, flaky, changed)
    app.answer(
        {
            "comparison": found,
            "is_shown_regression": loss is not None,
            "advice": lost if loss is None else None,
            "flaky": sorted(flaky),
            "changed_cases": changed,
            "usage": {k: {"blessed": a, "now": b} for k, (a, b) in changes.items()},
        }
    )
    verdict = _verdict(found, loss, lost=lost)
    app.say(*comparison_lines(found), *_usage_lines(changes, blessed))
    app.say(*(f"{what}: {_some(ids)}" for what, ids in lists if ids), verdict)
    where = write_summary(_markdown(task, found, verdict, changes=changes, lists=lists))
    if where is not None:
        click.echo(f"summary written to {where}", err=True)
    return 1 if loss else 0


def _usage(app: App, run: Run) -> Any:
    from harness.core.usage import usage

    keys = [t.reply_key for t in run.trials if t.reply_key]
    return usage(app.store.known_replies(keys).values())


def _lists(
    found: Comparison, flaky: set[str], changed: Sequence[str]
) -> list[tuple[str, list[str]]]:
    missed = found.newly_missed
    return [
        ("newly missed", [c for c in missed if c not in flaky]),
        ("newly missed, and measured flaky", [c for c in missed if c in flaky]),
        ("newly passed", list(found.newly_passed)),
        ("changed since the blessing, left out", list(changed)),
    ]


def _verdict(found: Comparison, loss: str | None, *, lost: str | None) -> str:
    if loss:
        return f"a regression is shown: {clean(loss)}"
    if lost:
        return f"no alarm: {clean(lost)}, {ADVICE}"
    if found.delta.lower > 0:
        return "a gain is shown; bless it, where it is merged"
    return (
        f"no regression is shown; a loss of up to {-100 * found.delta.lower:.1f} points cannot be "
        "excluded with these cases"
    )


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f"{', '.join(map(clean, ids[:SHOWN]))}{more}"


Changes = dict[str, tuple[float | None, float | None]]


def _usage_rows(changes: Changes) -> list[list[str]]:
    rows = []
    for key, (then, now) in changes.items():
        if then is None and now is None:
            continue
        what, unit = NAMES[key]
        shown = [_shown(value, unit) for value in (then, now)]
        change = f"{100 * (now / then - 1):+.0f} %" if then and now is not None else ""
        rows.append([what, *shown, change])
    return rows


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return "unknown"
    return usd(value) if unit == "$" else f"{value:.3g} {unit}".strip()


def _usage_lines(changes: Changes, blessed: Blessed) -> list[str]:
    return [
        f"{what}: {then} when blessed, {now} now{f' ({change})' if change else ''}"
        for what, then, now, change in _usage_rows(changes)
    ]


def _markdown(
    task: Task,
    found: Comparison,
    verdict: str,
    *,
    changes: Changes,
    lists: Sequence[tuple[str, list[str]]],
) -> list[str]:
    rows = [
        [found.baseline, interval(found.baseline_estimate), found.baseline_run[:8]],
        [found.candidate, interval(found.candidate_estimate), found.candidate_run[:8]],
        ["difference, points", points(found.delta), f"{found.wins} won, {found.losses} lost"],
    ]
    lines = [f"### {plain(task.name)}: {plain(verdict)}", ""]
    lines += table(["", task.settings.primary, "run"], rows)
    if costs := _usage_rows(changes):
        lines += ["", *table(["", "blessed", "now", "change"], costs)]
    for what, ids in lists:
        lines += folded(what, ids)
    return [*lines, "", "Intervals are one-sided 95 % bounds over clusters of cases\\."]

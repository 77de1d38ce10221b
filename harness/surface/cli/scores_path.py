"""`--scores`: wall, gate and compare over scores made elsewhere. Needs no task and no project.

Nothing is written unless a store was named. Several tasks get a verdict each, and the exit code is
the worst of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.core.bounds import cluster_codes
from harness.core.deciding import decided_by
from harness.core.planning import CLUSTERS_FOR_ANY
from harness.core.release import shown_loss
from harness.core.words import count, listed
from harness.engine.scores import judging
from harness.engine.scores.reading import Scores, read_scores
from harness.engine.scores.table import Column, ScoreTable
from harness.errors import UsageError
from harness.records import Comparison, LedgerEntry, ReleaseVerdict, WallVerdict
from harness.surface.cli.app import App, now
from harness.surface.tables import comparison_lines
from harness.surface.verdicts import release_lines, wall_lines
from harness.surface.words import clean

WALL_CODES = {
    "WALL": 0, "SHIP_PROMPT": 1, "KEEP_PROMPTING": 1, "FIX_DATA": 1, "INSUFFICIENT_EVIDENCE": 3,
}  # fmt: skip
GATE_CODES = {"SHIP": 0, "BLOCK": 1, "INSUFFICIENT_EVIDENCE": 3}
SHOWN = 12
NAMES = 4

# ---------------------------------------------------------------- the wall


def wall_scores(
    files: Sequence[str],
    *,
    target: float | None,
    primary: str | None,
    profile: str,
    mid: float,
    model: str | None,
    reference: str | None,
    waivers: Mapping[str, str],
    store: str | None,
    as_json: bool,
) -> int:
    """Judge the tries in `files`; return the exit code. Raises UsageError, Refused."""
    if target is None:
        raise UsageError("--scores needs --target T, between 0 and 1: what a prompt must reach")
    scores = read_scores(files, who="try")
    with App(store, as_json=as_json) as app:
        app.say(*_read(scores))
        said, codes = [], []
        for table in scores.tables:
            verdict = judging.wall_of(
                table, target=target, metric=primary, profile=profile, mid=mid, model=model,
                reference=reference, waivers=waivers,
            )  # fmt: skip
            gaps = judging.not_checked_by_wall(table, verdict)
            if store:
                text = f"{verdict.answer}: {verdict.reason}"
                app.store.record(
                    LedgerEntry(
                        kind="wall", task=verdict.task, at=now(), payload=verdict, text=text
                    )
                )
            app.say(*_about(table, table.metric(primary)))
            app.say(*wall_lines(verdict, is_recorded=store is not None))
            app.say(_gaps(gaps))
            said.append(wall_json(table, verdict, metric=table.metric(primary), gaps=gaps))
            codes.append(WALL_CODES[verdict.answer])
        app.answer(_together(said, scores, codes))
    return _worst(codes)


def wall_json(
    table: ScoreTable, verdict: WallVerdict, *, metric: str, gaps: Sequence[str]
) -> dict[str, Any]:
    """Return a wall verdict as one flat object for scripts. Shares lie in [0, 1]."""
    best = next((t for t in verdict.tries if t.candidate == verdict.best), None)
    return {
        "verdict": verdict.answer,
        "decided_by": decided_by(verdict),
        "task": table.task or None,
        "metric": metric,
        "profile": verdict.profile,
        "target": verdict.target,
        "mid": verdict.mid,
        "best": verdict.best,
        "best_mean": best.estimate.mean if best else None,
        "best_lower": best.estimate.lower if best else None,
        "best_upper": best.estimate.upper if best else None,
        "upper": max((t.estimate.upper for t in verdict.tries if t.is_counted), default=None),
        "p_reach": verdict.reach,
        "horizon": verdict.horizon,
        "climbing": verdict.is_climbing,
        "mde80": verdict.resolution,
        "need_cases": verdict.need_cases,
        "cases": len(table.cases),
        "tries": verdict.tries,
        "conditions": [  # by hand: a record leaves out what is None, and None is said here
            {"name": c.name, "holds": c.holds, "text": c.text} for c in verdict.conditions
        ],
        "not_checked": list(gaps),
        "missing": {t.candidate: t.missing for t in verdict.tries if t.missing},
        "reason": verdict.reason,
        "next_step": verdict.next_step,
        "notes": verdict.notes,
        "id": verdict.id,
    }


# ---------------------------------------------------------------- the gate


def gate_scores(
    files: Sequence[str],
    *,
    baseline: str | None,
    candidate: str | None,
    primary: str | None,
    guardrails: Mapping[str, float],
    min_gain: float,
    must_hold: Sequence[str],
    store: str | None,
    as_json: bool,
) -> int:
    """Judge a release on `files`; return the exit code. Looks count only in a named store."""
    if baseline is None or candidate is None:
        raise UsageError("--scores needs --baseline NAME and --candidate NAME, both in the files")
    scores = read_scores(files)
    with App(store, as_json=as_json) as app:
        app.say(*_read(scores))
        said, codes = [], []
        for table in scores.tables:
            judging.two_of(table, baseline=baseline, candidate=candidate)  # before a look is spent
            metric = table.metric(primary)
            look = None
            if store and _is_enough(app, table):
                look = _look(app, table, baseline, candidate)
            verdict = judging.release_of(
                table, baseline=baseline, candidate=candidate, primary=metric,
                guardrails=guardrails, min_gain=min_gain, must_hold=must_hold, look=look,
            )  # fmt: skip
            if store:
                text = f"{verdict.answer}: {verdict.reason}"
                app.store.record(
                    LedgerEntry(
                        kind="release", task=verdict.task, at=now(), payload=verdict, text=text
                    )
                )
            gaps = [*judging.NOT_IN_A_GATE, *([] if store else ["looks (no --store was given)"])]
            app.say(*_about(table, metric))
            app.say(*release_lines(verdict, is_recorded=store is not None))
            app.say(_gaps(gaps))
            said.append(gate_json(table, verdict, metric=metric, gaps=gaps))
            codes.append(GATE_CODES[verdict.answer])
        app.answer(_together(said, scores, codes))
    return _worst(codes)


def gate_json(
    table: ScoreTable, verdict: ReleaseVerdict, *, metric: str, gaps: Sequence[str]
) -> dict[str, Any]:
    """Return a release verdict as one flat object for scripts."""
    decided = [c.name for c in verdict.checks if c.answer == verdict.answer]
    return {
        "verdict": verdict.answer,
        "decided_by": decided,
        "task": table.task or None,
        "metric": metric,
        "baseline": verdict.comparison.baseline,
        "candidate": verdict.comparison.candidate,
        "min_gain": verdict.min_gain,
        "delta": verdict.comparison.delta,
        "look": verdict.look or None,
        "alpha": verdict.alpha,
        "alpha_left": verdict.alpha_left if verdict.look else None,
        "need_cases": verdict.need_cases,
        "cases": len(table.cases),
        "checks": verdict.checks,
        "comparison": verdict.comparison,
        "not_checked": list(gaps),
        "reason": verdict.reason,
        "id": verdict.id,
    }


def _is_enough(app: App, table: ScoreTable) -> bool:
    """Tell whether a look at these cases could decide anything; say where none is spent."""
    _, clusters = cluster_codes(table.clusters, len(table.cases))
    if clusters < CLUSTERS_FOR_ANY:
        few = count(clusters, "cluster")
        app.say(f"no look is spent: {few}, and below {CLUSTERS_FOR_ANY} nothing can be said")
    return clusters >= CLUSTERS_FOR_ANY


def _look(app: App, table: ScoreTable, baseline: str, candidate: str) -> int:
    """Count this look in the named store, and return its number."""
    from harness.core.looks import alpha_of_look
    from harness.engine.release import look_number, looks_on

    key = judging.look_key(table, baseline=baseline, candidate=candidate)
    entries = app.store.ledger(task=judging.name_of(table), kind="look")
    spent = looks_on(set(judging.case_marks(table)), entries, purposes=("release",))
    look = look_number(spent, key)
    if key not in spent:
        line = judging.look_line(table, baseline=baseline, candidate=candidate, key=key, at=now())
        app.store.record(line)
    app.say(f"look {look} at these cases, at {100 * alpha_of_look(look):.2f} %")
    return look


# ---------------------------------------------------------------- compare


def compare_scores(
    files: Sequence[str],
    *,
    baseline: str | None,
    candidate: str | None,
    primary: str | None,
    as_json: bool,
) -> int:
    """Compare two files, or two candidates of one; return the exit code. Spends nothing."""
    if len(files) > 2:
        raise UsageError(f"--scores A B compares two files, not {len(files)}")
    read = [read_scores([file]) for file in files]
    with App(as_json=as_json) as app:
        for scores in read:
            app.say(*_read(scores))
        said, codes = [], []
        for first, second in _pairs(read):
            old = _arm(first, baseline, "--baseline", default=0)
            new = _arm(second, candidate, "--candidate", default=-1)
            if old is new:
                raise UsageError(f"{new.name!r} is its own baseline: name another")
            metric = second.metric(primary)
            pair = judging.pair_of((first, old), (second, new), metric=metric)
            names = [old.name, new.name]
            if old.name == new.name and len(files) == 2:
                names = [f"{c.name} in {f}" for c, f in zip((old, new), files, strict=True)]
            found = judging.comparison_of(
                pair, task=judging.name_of(second), baseline=names[0], candidate=names[1]
            )
            loss = shown_loss(found)
            app.say(*_about(second, metric))
            app.say(*compared_lines(found, loss))
            said.append(
                {
                    "verdict": "REGRESSION" if loss else "NO_SHOWN_REGRESSION",
                    "is_shown_regression": loss is not None,
                    "task": second.task or None,
                    "metric": metric,
                    "comparison": found,
                }
            )
            codes.append(1 if loss else 0)
        app.answer(_together(said, read[-1], codes))
    return _worst(codes)


def compared_lines(found: Comparison, loss: str | None) -> list[str]:
    """Return a comparison: the table, newly missed and won cases, and what may be said."""
    lines = list(comparison_lines(found))
    for what, ids in [("newly missed", found.newly_missed), ("won", found.newly_passed)]:
        if ids:
            more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
            lines.append(f"{what}: {', '.join(map(clean, ids[:SHOWN]))}{more}")
    if loss:
        return [*lines, f"a regression is shown: {clean(loss)}"]
    if found.delta.lower > 0:
        return [*lines, "a gain is shown; a release is decided by harness gate"]
    at_most = f"{-100 * found.delta.lower:.1f} points"
    text = f"no regression is shown; a loss of up to {at_most} cannot be excluded with these cases"
    return [*lines, text]


def _pairs(read: Sequence[Scores]) -> list[tuple[ScoreTable, ScoreTable]]:
    if len(read) == 1:
        return [(table, table) for table in read[0].tables]
    first, second = (scores.tables for scores in read)
    if len(first) == len(second) == 1:
        return [(first[0], second[0])]
    by_task = {table.task: table for table in first}
    shared = [(by_task[t.task], t) for t in second if t.task in by_task]
    if not shared:
        raise UsageError("the two files have no task in common")
    return shared


def _arm(table: ScoreTable, wanted: str | None, option: str, *, default: int) -> Column:
    if wanted is not None:
        return table.column(wanted, what=option)
    if len(table.columns) == 1 or (len(table.columns) == 2 and option):
        return table.columns[default]
    names = ", ".join(repr(c.name) for c in table.columns)
    raise UsageError(f"which one? {option} NAME. In the scores: {names}")


# ---------------------------------------------------------------- what all say


def _read(scores: Scores) -> list[str]:
    lines = [
        f"{clean(shown)}: read as {one.form} ({'sure' if one.is_sure else 'a guess'}: {one.why})"
        for shown, one in scores.forms
    ]
    return [*lines, *(f"note: {clean(note)}" for note in scores.notes)]


def _about(table: ScoreTable, metric: str) -> list[str]:
    repeats = max(c.repeats for c in table.columns)
    missing = table.missing(metric)
    parts = [
        table.task or "scores",
        f"{count(len(table.cases), 'case')} of {listed([c.name for c in table.columns[:NAMES]])}"
        + (f" and {len(table.columns) - NAMES} more" if len(table.columns) > NAMES else ""),
        f"metric {metric}",
    ]
    if repeats > 1:
        parts.append(f"up to {repeats} repeats a case, averaged")
    if missing:
        parts.append(f"{missing} scores missing")
    return ["", clean("; ".join(parts))]


def _gaps(gaps: Sequence[str]) -> str:
    return f"not checked, because the scores do not show it: {clean('; '.join(gaps))}"


def _together(
    said: Sequence[dict[str, Any]], scores: Scores, codes: Sequence[int]
) -> dict[str, Any]:
    """Return the one verdict, or the deciding one with all of them under `tasks`."""
    files = [
        {"file": shown, "form": one.form, "is_sure": one.is_sure, "why": one.why}
        for shown, one in scores.forms
    ]
    read = {"files": files, "read_notes": list(scores.notes)}
    if len(said) == 1:
        return {**said[0], **read}
    deciding = said[list(codes).index(_worst(codes))]
    return {**deciding, "tasks": list(said), **read}


def _worst(codes: Sequence[int]) -> int:
    """Return 1 (no) before 3 (not enough evidence) before 0 (yes)."""
    return next((code for code in (1, 3) if code in codes), 0)

"""Gathers what `core.advice` answers from. Knows nothing of how the answer is reached."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.core.advice_evidence import (
    MISS_KINDS,
    Evidence,
    Measured,
    Misses,
    Pilot,
    Provision,
    Scope,
)
from harness.core.costs import cost_view
from harness.core.coverage import LABELS
from harness.core.learning import LearningCurve, curve_lines
from harness.core.scoring import case_values
from harness.core.tries import try_estimates
from harness.core.usage import Usage
from harness.engine.backends import BackendPool
from harness.engine.boundary import crossings, internal_ids, zone_of
from harness.engine.candidates import CONSTANT, REPLAY, resolve_candidate
from harness.engine.ladder import Ladder, is_present, read_ladder
from harness.engine.providers import provisions, read_table
from harness.engine.release import Arms
from harness.engine.tasks import Task
from harness.engine.walls import asked_elsewhere, last_wall, why_not_licensed, why_outdated
from harness.errors import HarnessError, UsageError
from harness.records import Candidate, ReleaseVerdict, Run, WallVerdict, from_plain
from harness.store.store import Store

APPS = ("python:", "http:")
CLASSICAL_SCHEMES = (CONSTANT, "sklearn:")


def gather(task: Task, store: Store, *, pool: BackendPool, root: Path) -> Evidence:
    """Return what was measured of `task` and what its `[advise]` states.

    `root` is the project's, where a `tunable.toml` may be. Raises UsageError where `[advise]`
    names a candidate that was not run.
    """
    wall = last_wall(task, store)
    stated = task.settings.advise
    stale = why_not_licensed(task, wall, store) if wall is None or wall.answer == "WALL" else None
    if wall is not None and stale is None and asked_elsewhere(task, wall, store):
        stale = why_outdated(task, wall, store)
    ladder = read_ladder(task, store)
    released = last_tuned_release(task, store)
    classical, people = _baselines(task, ladder)
    best = _best_of(task, ladder, wall) if wall is not None else None
    tuned, tuned_usage = _tuned_usage(task, store, ladder, released)
    asked = [r.candidate for r in ladder.runs if r.candidate.prompt]
    return Evidence(
        task=task.name,
        target=task.settings.target,
        wall=wall,
        why_stale=stale,
        training_rows=sum(c.reference is not None for c in task.split("train")),
        people=_measured(task, people),
        classical=tuple(m for run in classical if (m := _measured(task, run)) is not None),
        best=_measured(task, best),
        scope=_scope(task, ladder, best),
        misses=_misses(task, best),
        has_rag=any(c.family == "rag" for c in asked if c.backend == task.settings.model),
        labels=_labels(wall),
        pilot=_pilot(task, store),
        release=released,
        costs=cost_view(
            _usage_of(ladder, best),
            tuned_usage,
            stated.facts(),
            is_tuned_inside=_is_inside(task, tuned, pool),
        ),
        internal=len(internal_ids(task.cases)),
        outside=_outside(task, asked, pool),
        crossings=tuple(crossings(store.ledger(task=task.name, kind="override"))),
        provisions=(offers := _provisions(task, root)),
        untunable=_untunable(task, offers),
        facts=stated.facts(),
    )


def last_release(task: Task, store: Store) -> ReleaseVerdict | None:
    """Return the newest release verdict of `task`."""
    entries = store.ledger(task=task.name, kind="release")
    return from_plain(ReleaseVerdict, entries[-1].payload) if entries else None


def last_tuned_release(task: Task, store: Store) -> ReleaseVerdict | None:
    """Return the newest release verdict whose candidate was tuned: a prompt that was gated against
    another says nothing of tuning.
    """
    for entry in reversed(store.ledger(task=task.name, kind="release")):
        verdict = from_plain(ReleaseVerdict, entry.payload)
        try:
            run = store.run(verdict.comparison.candidate_run)
        except UsageError:  # scores made elsewhere have no run here
            continue
        if run.candidate.artifact:
            return verdict
    return None


def _run_of(task: Task, ladder: Ladder, name: str) -> Run | None:
    named = (r for r in ladder.runs if r.candidate.name == name and r.is_complete)
    return next((r for r in named if is_present(r, task)), None)


def _best_of(task: Task, ladder: Ladder, wall: WallVerdict) -> Run | None:
    """Return the run of the best try: by its id, since two texts of a prompt have one name."""
    ids = [t.run_id for t in wall.tries if t.candidate == wall.best]
    by_id = [r for r in ladder.runs if r.id in ids] if ids else []
    return by_id[0] if len(by_id) == 1 else _run_of(task, ladder, wall.best or "")


def _usage_of(ladder: Ladder, run: Run | None) -> Usage | None:
    pairs = zip(ladder.runs, ladder.usages, strict=True)
    return next((usage for one, usage in pairs if one is run), None)


def _baselines(task: Task, ladder: Ladder) -> tuple[list[Run], Run | None]:
    """Return the runs without a language model, and that of people."""
    stated = task.settings.advise
    for key, names in (("classical", stated.classical), ("people", [stated.people or ""])):
        for name in filter(None, names):
            if _run_of(task, ladder, name) is None:
                raise UsageError(
                    f"{task.folder / 'task.toml'}: advise.{key}: no complete, current run of "
                    f"{name!r}. Make one: harness eval {task.name} --candidate '{name}'"
                )
    whole = [r for r in ladder.runs if r.is_complete]
    classical = [
        r
        for r in whole
        if r.candidate.name in stated.classical or r.candidate.backend.startswith(CLASSICAL_SCHEMES)
    ]
    replayed = [r for r in whole if r.candidate.backend.startswith(REPLAY) and r not in classical]
    people = _run_of(task, ladder, stated.people) if stated.people else None
    return classical, people or (replayed[0] if replayed else None)


def _values(task: Task, run: Run) -> dict[str, float]:
    """Return the primary score a case: NaN where missing."""
    values = case_values(run, task.settings.primary)
    return {c: v for c, v in values.items() if v is not None}


def _measured(task: Task, run: Run | None, *, tag: str | None = None) -> Measured | None:
    if run is None:
        return None
    cases = {c.id: c for c in task.split("dev") if tag is None or tag in c.tags}
    values = {c: v for c, v in _values(task, run).items() if c in cases}
    if all(map(math.isnan, values.values())):
        return None
    import numpy as np

    table = np.array(list(values.values()))[:, None]
    (estimate,) = try_estimates(table, [cases[c].cluster for c in values])
    return Measured(name=run.candidate.name, run_id=run.id, estimate=estimate)


def _scope(task: Task, ladder: Ladder, best: Run | None) -> Scope | None:
    """Return a narrower task beside the whole: two candidates that `[advise]` names, or a tag."""
    stated = task.settings.advise
    if stated.broad and stated.scoped:
        runs = [_run_of(task, ladder, name) for name in (stated.broad, stated.scoped)]
        for name, run in zip((stated.broad, stated.scoped), runs, strict=True):
            if run is None:
                raise UsageError(
                    f"{task.folder / 'task.toml'}: advise: no complete, current run of {name!r}. "
                    f"Make one: harness eval {task.name} --candidate '{name}'"
                )
        broad, scoped = runs
        assert broad is not None
        assert scoped is not None
        found = Arms(task=task, baseline=broad, candidate=scoped).comparison()
        return Scope(
            broad=broad.candidate.name,
            scoped=scoped.candidate.name,
            evidence=f"runs {broad.id[:8]} and {scoped.id[:8]}",
            estimate=found.candidate_estimate,
            gain=found.delta,
        )
    if stated.scope and best is not None:
        within = _measured(task, best, tag=stated.scope)
        if within is None:
            raise UsageError(
                f"{task.folder / 'task.toml'}: advise.scope: no scored case of dev is tagged "
                f"{stated.scope!r}"
            )
        return Scope(
            broad=within.name,
            scoped=stated.scope,
            evidence=f"run {within.run_id[:8]}, tag {stated.scope}",
            estimate=within.estimate,
        )
    return None


def _misses(task: Task, best: Run | None) -> Misses | None:
    if best is None:
        return None
    missed = {c for c, v in _values(task, best).items() if v < 1}
    tags = Counter(tag for c in task.split("dev") if c.id in missed for tag in set(c.tags))
    return Misses(
        candidate=best.candidate.name,
        run_id=best.id,
        kinds={kind: tags[kind] for kind in MISS_KINDS},
        misses=len(missed),
    )


def _labels(wall: WallVerdict | None) -> str:
    """Return what the audit said, where the newest verdict saw one."""
    found = [c for c in wall.conditions if c.name == LABELS] if wall else []
    return found[0].text if found and found[0].holds is not None else ""


def _pilot(task: Task, store: Store) -> Pilot | None:
    """Return the newest learning curve of the ledger."""
    entries = [e for e in store.ledger(task=task.name, kind="pilot") if "curve" in e.payload]
    if not entries:
        return None
    newest = entries[-1]
    curve = from_plain(LearningCurve, newest.payload["curve"])
    lines = curve_lines(curve, available=int(newest.payload["rows"]))
    step = curve.last_step
    return Pilot(
        text="; ".join([newest.text, *map(str.strip, lines)]),
        at=newest.at[:10],
        is_climbing=None if step is None else True if step.lower > 0 else None,
    )


def _tuned_usage(
    task: Task, store: Store, ladder: Ladder, released: ReleaseVerdict | None
) -> tuple[Candidate | None, Usage | None]:
    """Return the tuned candidate on dev: the released one, else the newest; and what it takes.
    A pilot is none.
    """
    pilots = {a.digest for a in store.artifacts(task.name) if a.is_pilot}
    tuned = [
        (run.candidate, spent)
        for run, spent in zip(ladder.runs, ladder.usages, strict=True)
        if run.candidate.artifact and run.candidate.artifact not in pilots
    ]
    named = [one for one in tuned if released and one[0].name == released.comparison.candidate]
    chosen = named or tuned
    return chosen[-1] if chosen else (None, None)


def _zone(task: Task, candidate: Candidate, pool: BackendPool) -> str:
    try:
        return zone_of(pool.get(candidate, folder=task.folder))
    except HarnessError:  # its extra or its key is not here: an advice needs neither
        return "unknown"


def _is_inside(task: Task, tuned: Candidate | None, pool: BackendPool) -> bool:
    return tuned is not None and _zone(task, tuned, pool) == "inside"


def _outside(task: Task, asked: Sequence[Candidate], pool: BackendPool) -> tuple[str, ...]:
    """Return the backends in use that would take internal cases out."""
    if not internal_ids(task.cases):
        return ()
    names = {c.backend: c for c in asked}
    return tuple(n for n, c in sorted(names.items()) if _zone(task, c, pool) == "outside")


def _base(task: Task) -> str:
    """Return the backend whose model would be tuned."""
    if (tune := task.settings.tune) and tune.prompt in task.prompts:
        return resolve_candidate(task, tune.prompt, artifact_digest=str).backend
    return task.settings.model


def _untunable(task: Task, offers: Sequence[Provision]) -> str:
    """Return why the task's model cannot be tuned here, or nothing.

    Of a scheme that the table of offers does not know, a `[tune]` table's tuner may.
    """
    tuning, base = [one for one in offers if one.kind == "tuning"], _base(task)
    if any(one.is_open for one in tuning):
        return ""
    if base.startswith(APPS):
        why = "it is an application, of which only the answers are seen"
    elif task.settings.tune is not None and not tuning:
        return ""
    else:
        why = "the one known is closed to newcomers" if tuning else "the table has none for it"
    return (
        f"no way to tune {base} is known here: {why}. Tuning would need another base model, such "
        "as open weights (local:NAME), which must be measured first"
    )


def _provisions(task: Task, root: Path) -> tuple[Provision, ...]:
    table, base = read_table(root), _base(task)
    return tuple(provisions(table, base, teacher=task.settings.advise.teacher))

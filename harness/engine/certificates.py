"""Which judges may decide: those whose agreement with people is on record. Knows no judge's model.

A judge without a certificate advises: its score is shown, and no wall, no release, no alarm of a
comparison and no floor rests on it, for or against.
A certificate is a line of the ledger, of kind `certificate`, whose payload has the `judge` that it
is for (`Score.judge`); `"holds": false` withdraws it. The newest line of a judge counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from harness.core.scoring import ALL
from harness.core.words import listed
from harness.engine.outcomes import judges_in
from harness.engine.tasks import Task
from harness.records import Condition, LedgerEntry, Run

ADVICE = "by a judge without a certificate: advice, and no verdict"
JUDGES = "judges"
"""The name of the condition."""


def certified(entries: Iterable[LedgerEntry]) -> set[str]:
    """Return the identities of the judges whose newest certificate holds."""
    holds: dict[str, bool] = {}
    for entry in entries:
        if entry.kind == "certificate" and isinstance(entry.payload, dict):
            holds[str(entry.payload.get("judge"))] = entry.payload.get("holds", True) is True
    return {judge for judge, does in holds.items() if does}


def deciding_scores(task: Task) -> frozenset[str]:
    """Return the scores that a verdict rests on: the primary one, which may be all, and guards."""
    s = task.settings
    named = {s.primary, *s.guardrails}
    return frozenset(task.eval_names if ALL in named else named)


def judges_of(runs: Iterable[Run], *, names: Iterable[str]) -> dict[str, set[str]]:
    """Return, by score, the identities of the judges that gave it in `runs`."""
    wanted = set(names)
    found: dict[str, set[str]] = {}
    for run in runs:
        scores = [s for t in run.trials for s in t.scores]
        for score in (*scores, *run.aggregates):
            if score.judge and score.name in wanted:
                found.setdefault(score.name, set()).update(judges_in(score))
    return found


def advised_scores(
    task: Task, runs: Iterable[Run], entries: Iterable[LedgerEntry]
) -> frozenset[str]:
    """Return the scores of `runs` that may only advise: those of judges that are not certified,
    and `all` where one of them is part of it.
    """
    known = certified(entries)
    of_judges = judges_of(runs, names=task.eval_names)
    found = [name for name, judges in of_judges.items() if judges - known]
    return frozenset([*found, ALL] if found else ())


def judges_condition(
    task: Task, runs: Sequence[Run], entries: Iterable[LedgerEntry]
) -> Condition | None:
    """Return whether every judge that a verdict rests on is certified; None where none judges."""
    return condition_of(judges_of(runs, names=deciding_scores(task)), entries)


def condition_of(
    found: Mapping[str, Collection[str]], entries: Iterable[LedgerEntry]
) -> Condition | None:
    """Return whether the judges in `found` (their identities, by score) are all certified; None
    where there is none.
    """
    if not found:
        return None
    known = certified(entries)
    open_ = {name: sorted(set(some) - known) for name, some in sorted(found.items())}
    open_ = {name: some for name, some in open_.items() if some}
    if not open_:
        names = listed(sorted(found))
        text = f"{names}: agreement with people is on record"
        return Condition(name=JUDGES, holds=True, text=text)
    shown = listed([f"{name} (judge {', '.join(some)})" for name, some in open_.items()])
    return Condition(
        name=JUDGES,
        holds=None,
        text=f"{shown} rests on a model's judgement, without a certificate that it agrees with "
        "people: it may advise, and decide nothing. Have people label replies and certify the "
        "judge, or let `primary` and guardrails name evals that no judge scores",
    )

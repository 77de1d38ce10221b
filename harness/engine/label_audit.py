"""The audit of a task's labels: which cases are read, and what the ledger holds of it.

A judgement is bound to the case as it was: whoever corrects a label has to look at it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.core.audit import LABELS, Label, LabelAudit, Sample, draw_sample, weigh
from harness.core.tries import failed_by_all, score_table
from harness.engine.ladder import Ladder, scored_cases, try_scores
from harness.engine.tasks import Task
from harness.records import Case, LedgerEntry

KIND = "audit"


def said_of(cases: Sequence[Case], entries: Sequence[LedgerEntry]) -> dict[str, Label]:
    """Return the newest judgement of each case that still is what was judged."""
    now = {c.id: c.digest for c in cases}
    found: dict[str, Label] = {}
    for entry in entries:
        plain = entry.payload
        if entry.kind == KIND and now.get(plain["case"]) == plain["digest"]:
            found[plain["case"]] = plain["label"]
    return found


def hard_cases(task: Task, ladder: Ladder) -> list[str]:
    """Return the dev cases that every counted try fails; none before there are tries."""
    rungs = [rung for rung in try_scores(task, ladder) if rung.is_countable]
    if not rungs:
        return []
    cases = [c.id for c in scored_cases(task, ladder)]
    return [cases[row] for row in failed_by_all(np.asarray(score_table(rungs, len(cases))))]


def auditable(task: Task) -> list[Case]:
    """Return the dev cases that have a label to be read."""
    return [c for c in task.split("dev") if c.reference is not None or c.checks]


def sample_of(
    task: Task, ladder: Ladder, entries: Sequence[LedgerEntry]
) -> tuple[Sample, Mapping[str, Label]]:
    """Return the cases to read, and what was said of them and of others so far."""
    cases = auditable(task)
    said = said_of(cases, entries)
    again = {e.payload["case"] for e in entries if e.kind == KIND} - set(said)
    ids = [c.id for c in cases]
    return draw_sample(ids, hard_cases(task, ladder), judged=said, again=again), said


def audit_of(task: Task, ladder: Ladder, entries: Sequence[LedgerEntry]) -> LabelAudit | None:
    """Return what the recorded audit says, None where nobody has begun one."""
    if not any(entry.kind == KIND for entry in entries):
        return None
    sample, said = sample_of(task, ladder, entries)
    return weigh(
        sample,
        said,
        clusters={c.id: c.cluster for c in auditable(task)},
        failed_by_all=hard_cases(task, ladder),
        target=task.settings.target,
    )


def audit_entry(task: Task, case: Case, label: str, *, note: str, at: str) -> LedgerEntry:
    """Return the line of the ledger that records one judgement."""
    assert label in LABELS
    payload = {"case": case.id, "digest": case.digest, "label": label}
    text = f"label of {case.id}: {label}" + (f" ({note})" if note else "")
    if note:
        payload["note"] = note
    return LedgerEntry(kind="audit", task=task.name, at=at, payload=payload, text=text)

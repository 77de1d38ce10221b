"""What was promised before scores were seen, and when it changed. Knows the ledger, no verdict.

The first run whose scores are seen pins goal, target and margins down in the ledger (kind
`policy`). Changing them later starts a new record: a line of its own, which every later verdict
prints. Looks that were spent stay spent: they are counted by cases, not by policies.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from harness.core.words import count, listed, percent
from harness.engine.candidates import REFERENCE
from harness.engine.tables import as_dict
from harness.engine.tasks import Task
from harness.records import LedgerEntry, to_plain
from harness.store.store import Store

KIND = "policy"
SHARES = frozenset({"target", "margin", "mid", "min_gain"})


def terms(task: Task) -> dict[str, Any]:
    """Return what `task` promises, by the names of task.toml."""
    s = task.settings
    watched = as_dict(s.release, without="defaults")
    return {
        **({"release": watched} if watched else {}),  # older records have none
        "model": s.model,
        "goal": s.goal,
        "target": s.target,
        "margin": s.margin,
        "better_in": s.better_in,
        "mid": s.mid,
        "min_gain": s.min_gain,
        "primary": s.primary,
        "profile": s.profile,
        "guardrails": dict(s.guardrails),
        "must_hold_slices": list(s.must_hold_slices),
        "budgets": as_dict(s.budgets, without="none"),
        "needs_knowledge": s.needs_knowledge,
        "waivers": dict(s.waivers),
        "repeat_verdict": s.repeat_verdict,
    }


def pin_policy(task: Task, store: Store, *, at: str) -> None:
    """Record what `task` promises now, unless the newest line of the ledger says the same.

    To be called when scores are seen, before those of the present run are recorded.
    """
    entries = store.ledger(task=task.name, kind=KIND)
    if entries and entries[-1].payload["digest"] == task.policy_digest:
        return
    tries = _tries_seen(task, store)
    promised = to_plain(terms(task))
    payload = {"digest": task.policy_digest, "terms": promised, "tries_seen": tries}
    if not entries:
        text = f"target {percent(task.settings.target)}, goal {task.settings.goal}"
        if tries:
            text += f"; {count(tries, 'try')} of before were not held to a recorded policy"
    else:
        changes = _changes(entries[-1].payload["terms"], promised)
        text = f"{listed(changes) or 'policy changed'} after {count(tries, 'try')} were seen"
    store.record(LedgerEntry(kind="policy", task=task.name, at=at, payload=payload, text=text))


def policy_notes(entries: Sequence[LedgerEntry]) -> list[str]:
    """Return what changed after scores were seen, one line a change, to print with verdicts."""
    lines = [entry for entry in entries if entry.kind == KIND]
    found = []
    for before, after in pairwise(lines):
        seen = after.payload["tries_seen"]
        verb = "was" if seen == 1 else "were"
        changes = _changes(before.payload["terms"], after.payload["terms"])
        found += [
            f"{change} after {count(seen, 'try')} {verb} seen ({after.at[:10]})"
            for change in changes
        ]
    return found


def _tries_seen(task: Task, store: Store) -> int:
    rows = store.runs(task=task.name, complete=True)
    return len(
        {r.candidate_digest for r in rows if r.backend != REFERENCE and r.prompt and not r.artifact}
    )


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    names = [n for n in {**after, **before} if before.get(n) != after.get(n)]
    return [
        f"{n} changed from {_said(n, before.get(n))} to {_said(n, after.get(n))}" for n in names
    ]


def _said(name: str, value: Any) -> str:
    if value in (None, {}, [], ""):
        return "none"
    if name in SHARES:
        return percent(value)
    if isinstance(value, dict):
        return "; ".join(f"{key}: {str(inner).rstrip('.')}" for key, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

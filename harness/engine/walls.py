"""A task's wall verdicts, as the ledger has them. Knows no statistics: every eval reads one."""

from __future__ import annotations

from harness.engine.asked import moved_runs
from harness.engine.tasks import Task
from harness.records import LedgerEntry, WallVerdict, from_plain
from harness.store.store import Store


def last_wall(task: Task, store: Store) -> WallVerdict | None:
    """Return the newest recorded wall verdict of `task`, whatever it says."""
    entries = store.ledger(task=task.name, kind="wall")
    return from_plain(WallVerdict, entries[-1].payload) if entries else None


def why_not_licensed(task: Task, verdict: WallVerdict | None, store: Store) -> str | None:
    """Return why tuning may not start under `verdict`, or None where it may."""
    if verdict is None:
        return f"there is no wall verdict. Ask for one: `harness wall {task.name}`."
    if verdict.answer != "WALL":
        return f"the last verdict is {verdict.answer}: {verdict.reason}"
    return why_outdated(task, verdict, store)


def why_outdated(task: Task, verdict: WallVerdict, store: Store) -> str | None:
    """Return why `verdict` no longer speaks of the task as it is, or None where it does."""
    changed = changed_since(task, verdict, store)
    if not changed:
        return None
    return (
        f"the {', '.join(changed)} changed since the wall verdict {verdict.id}. "
        f"Ask again: `harness wall {task.name}`."
    )


def changed_since(task: Task, verdict: WallVerdict, store: Store) -> list[str]:
    """Return what is no longer as it was when `verdict` was given; nothing where it holds.

    Its tries have to be runs that were asked where, and as, the task asks now.
    """
    now = {
        "cases": (verdict.inputs_digest, task.inputs_digest("dev")),
        "references": (verdict.labels_digest, task.labels_digest("dev")),
        "evals": (verdict.evals_digest, task.evals_digest),
        "model, goal, target or margins": (verdict.policy_digest, task.policy_digest),
    }
    is_moved = asked_elsewhere(task, verdict, store)
    changed = [what for what, (then, here) in now.items() if then != here]
    return [*changed, "server, epoch or options of the model"] if is_moved else changed


def asked_elsewhere(task: Task, verdict: WallVerdict, store: Store) -> bool:
    """Tell whether a try that `verdict` counts was asked elsewhere than the task asks now."""
    return not moved_runs(task, store).isdisjoint(t.run_id for t in verdict.tries if t.is_counted)


def wall_entry(verdict: WallVerdict, *, at: str) -> LedgerEntry:
    """Return the line of the ledger that records `verdict`."""
    return LedgerEntry(
        kind="wall",
        task=verdict.task,
        at=at,
        payload=verdict,
        text=f"{verdict.answer}: {verdict.reason}",
    )

"""What a training may be given: models of its own schemes, and no internal row for a host outside.

Knows what a tuner says of itself, and nothing of how it trains.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from harness.core.words import count
from harness.engine.boundary import CROSSED, internal_ids
from harness.engine.requests import Requests
from harness.engine.tune_plan import Plan
from harness.errors import UsageError
from harness.ports.tuners import TuneJob
from harness.records import Artifact, LedgerEntry
from harness.store.store import Store


def check_scheme(plan: Plan, tuner: Any) -> None:
    """Raise UsageError where the tuner does not tune models such as the task's."""
    schemes = getattr(tuner, "schemes", None)
    scheme = plan.candidate.backend.partition(":")[0]
    if schemes is not None and scheme not in schemes:
        known = ", ".join(f"{s}:NAME" for s in sorted(schemes))
        raise UsageError(
            f"{plan.tuner_name} tunes {known}, and the task's model is {plan.candidate.backend}: "
            "nothing was sent. Change `model` in task.toml, or take another tuner "
            "(`harness plugins` lists them)."
        )


def hosted_start(plan: Plan, tuner: Any) -> Artifact | None:
    """Return the artifact that is gone on from by its name, having no files here."""
    start = plan.start
    if start is None or start.folder or not start.backend:
        return None
    return start if start.backend.partition(":")[0] in getattr(tuner, "schemes", ()) else None


def stays_here(plan: Plan, tuner: Any, job: TuneJob) -> LedgerEntry | None:
    """Return the line to record before internal rows are sent outside; None where none are.

    Raises UsageError where nobody allowed it: nothing was sent.
    """
    ask = getattr(tuner, "sends_rows_to", None)
    host = ask(job) if callable(ask) else None
    if host is None:
        return None
    internal = _internal(plan)
    if not internal:
        return None
    if not (plan.override_boundary or "").strip():
        raise UsageError(
            f"{count(len(internal), 'internal case')} would be sent to {host}, outside, for "
            f"training ({', '.join(internal[:3])}): nothing was sent. Train on this machine, take "
            "the rows out (`rows = TAG` in [[tune.stages]]), or say why it may be this once: "
            "--override-boundary 'REASON'; it is recorded, and shown with every later release."
        )
    text = (
        f"{count(len(internal), 'internal case')} sent to {plan.candidate.backend} at {host}, "
        f"outside, to train {plan.name}: {plan.override_boundary}"
    )
    payload = {
        CROSSED: plan.candidate.backend,
        "cases": list(internal),
        "who": [plan.name],
        "reason": plan.override_boundary,
    }
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    return LedgerEntry(kind="override", task=plan.task.name, at=at, payload=payload, text=text)


def record_crossing(entry: LedgerEntry | None, store: Store) -> None:
    """Record a crossing, before it happens."""
    if entry is not None:
        store.record(entry)


def _internal(plan: Plan) -> tuple[str, ...]:
    """Return the internal cases among the rows, and among the examples that they show."""
    chosen, prompt = {r.case_id for r in plan.rows}, plan.candidate.prompt or ""
    shown = [c for c in plan.task.split("train") if c.id in chosen]
    if plan.task.prompts[prompt].shots and internal_ids(plan.task.example_rows):
        requests = Requests(plan.task)
        shown += [e for c in tuple(shown) for e in requests.examples(prompt, c)]
    return tuple(dict.fromkeys(internal_ids(shown)))

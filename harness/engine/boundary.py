"""What may leave this machine: a case tagged `internal` never reaches an external backend.

Knows who is asked about what, not what was answered. The one way past the rule is a person's
reason: it stands in the ledger before the first byte is sent, and in every release after.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from harness.core.words import count, listed
from harness.engine.backends import BackendPool, LiveBackend
from harness.engine.candidates import backend_options
from harness.engine.tasks import Task
from harness.errors import UsageError
from harness.records import Candidate, Case, Condition, LedgerEntry
from harness.store.store import Store

if TYPE_CHECKING:
    from harness.engine.fetch import Ask

INTERNAL = "internal"
"""The tag of a case that may not leave this machine."""
CROSSED = "boundary"
"""The key of a line of kind `override` that tells of a crossing: the backend that was asked."""
DATA_BOUNDARY = "data boundary"
"""The name of a release's condition."""

Zone = Literal["inside", "outside", "unknown"]


def internal_ids(cases: Iterable[Case]) -> tuple[str, ...]:
    """Return the ids of the cases that no external backend may be sent."""
    return tuple(c.id for c in cases if INTERNAL in c.tags)


def stay_inside(asks: Iterable[Ask]) -> None:
    """Raise UsageError where an internal case would be sent to an external backend.

    Called before the first byte of any request is sent.
    """
    for ask in asks:
        if ask.internal and ask.live.is_external:
            draw = ""
            if ask.case and ask.case not in ask.internal:  # only its examples are
                draw = f'draw examples without it (`without = "{INTERNAL}"` in the prompt), '
            raise UsageError(
                f"case {ask.internal[0]!r} is tagged internal, and {ask.live.name} is an external "
                f"backend: nothing was sent. Use a backend on this machine, {draw}remove the tag "
                "if the case may leave it, or say why it may this once: --override-boundary "
                "'REASON'; it is recorded, and shown with every later release."
            )


def cross(asks: Iterable[Ask], *, reason: str, store: Store) -> list[str]:
    """Record each crossing of `asks`, before it happens, and return what was recorded.

    A crossing that is on record already, with the same reason, is not told twice.
    """
    if not reason.strip():
        raise UsageError("--override-boundary needs a reason, in a sentence: it is recorded")
    found: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    for ask in asks:
        if ask.internal and ask.live.is_external:
            cases, who = found.setdefault((ask.task, ask.live.name), (set(), set()))
            cases.update(ask.internal)
            who.add(ask.payer)
    texts = []
    for (task, backend), (cases, who) in sorted(found.items()):
        known = _on_record(store.ledger(task=task, kind="override"), backend, reason=reason)
        if cases <= known:
            continue
        text = (
            f"{count(len(cases), 'internal case')} sent to {backend}, outside, for "
            f"{listed(sorted(who))}: {reason}"
        )
        payload = {CROSSED: backend, "cases": sorted(cases), "who": sorted(who), "reason": reason}
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        store.record(LedgerEntry(kind="override", task=task, at=at, payload=payload, text=text))
        texts.append(text)
    return texts


def _on_record(
    entries: Iterable[LedgerEntry], backend: str, *, reason: str | None = None
) -> set[str]:
    """Return the internal cases that an override on record let `backend` see."""
    return {
        case
        for entry in entries
        if _backend_of(entry) == backend and reason in (None, entry.payload.get("reason"))
        for case in entry.payload["cases"]
    }


def _backend_of(entry: LedgerEntry) -> str | None:
    """Return the backend of a crossing; an optimiser's names it as its reflection model."""
    payload = entry.payload
    if entry.kind != "override" or not isinstance(payload, dict) or "cases" not in payload:
        return None
    named = payload.get(CROSSED, payload.get("reflect"))
    return None if named is None else str(named)


def crossings(entries: Iterable[LedgerEntry]) -> list[str]:
    """Return what the ledger says of crossings, each once: shown with every later release."""
    return list(dict.fromkeys(e.text for e in entries if _backend_of(e) is not None))


# ---------------------------------------------------------------- the release


def zone_of(live: LiveBackend | None) -> Zone:
    """Return where a backend says that it answers; one that says nothing is unknown."""
    if live is None:
        return "unknown"
    return "outside" if live.is_external else "inside" if live.stays_inside else "unknown"


def stays_inside(
    task: Task, candidate: Candidate, *, baseline: Candidate, pool: BackendPool
) -> Condition:
    """Return whether the candidate keeps on this machine what the baseline sends outside.

    Unknown where either backend does not say (`is_external`), or replies were made elsewhere.
    """
    mine, theirs = (zone_of(_live(task, one, pool)) for one in (candidate, baseline))
    text = f"{candidate.backend} {_SAYS[mine]}; the baseline's {baseline.backend} {_SAYS[theirs]}"
    holds: bool | None = mine == "inside" and theirs == "outside"
    if mine != "outside" and theirs != "inside" and "unknown" in (mine, theirs):
        holds = None
        text += ". A backend says so itself: `is_external = False`, or True"
    return Condition(name="boundary", holds=holds, text=text)


_SAYS = {
    "inside": "stays on this machine",
    "outside": "leaves it",
    "unknown": "does not say where it answers",
}


def boundary_condition(
    task: Task,
    candidate: Candidate,
    *,
    pool: BackendPool,
    entries: Sequence[LedgerEntry] = (),
) -> Condition:
    """Return whether no internal case reached an external backend or judge of the candidate.

    What an override on record allowed is told, and holds; what nobody allowed (the tag was added
    after the replies were recorded) does not.
    """
    internal = set(internal_ids([*task.split("dev"), *task.split("test")]))
    prompt = task.prompts.get(candidate.prompt or "")
    if prompt is not None:
        internal |= set(internal_ids(task.rows_for(prompt)))
    if not internal:
        return Condition(name=DATA_BOUNDARY, holds=True, text="no case is tagged internal")
    named = f"{count(len(internal), 'internal case')}"
    outside = _outside(task, candidate, pool)
    if not outside:
        text = f"{named}, and neither the candidate nor a judge is an external backend"
        return Condition(name=DATA_BOUNDARY, holds=True, text=text)
    allowed = [b for b in outside if _on_record(entries, b)]
    if allowed == outside:
        text = f"{named} reached {listed(outside)}: an override is on record"
        return Condition(name=DATA_BOUNDARY, holds=True, text=text)
    silent = listed([b for b in outside if b not in allowed])
    return Condition(
        name=DATA_BOUNDARY,
        holds=False,
        text=f"{named}, and {silent} is outside with no override on record: ask on this machine, "
        "or run the eval again with --override-boundary 'REASON'",
    )


def _outside(task: Task, candidate: Candidate, pool: BackendPool) -> list[str]:
    asked = [candidate, *(_judge(task, name) for name in task.settings.judges)]
    lives = [_live(task, one, pool) for one in asked]
    return list(dict.fromkeys(live.name for live in lives if live is not None and live.is_external))


def _judge(task: Task, name: str) -> Candidate:
    table = task.settings.judges[name]
    return Candidate(
        name=f"judge {name}",
        backend=table.backend,
        base_url=table.base_url,
        options=backend_options(task, table.backend),
    )


def _live(task: Task, candidate: Candidate, pool: BackendPool) -> LiveBackend | None:
    """Return the backend of a candidate; None where its replies were recorded elsewhere."""
    if candidate.prompt is None and not candidate.name.startswith("judge "):
        return None
    return pool.get(candidate, folder=task.folder)

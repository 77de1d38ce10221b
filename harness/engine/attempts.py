"""What a guard found: its attempts, and what they come to. Knows nothing of who was asked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from harness.engine.plain_evals import PlainScores
from harness.errors import BackendError
from harness.records import Fault, Reply, Request, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One reply, or one failure to get one. `request` is None where the reply was given;
    `reasons` say what was wrong, in full; `seconds` is the time of answer and checks.
    """

    request: Request | None
    reply: Reply | None = None
    scores: tuple[Score, ...] = ()
    reasons: tuple[str, ...] = ()
    fault: Fault | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardResult:
    """What a guard found. `is_good` is None where no eval could measure anything; `reply` is the
    last one that came.
    """

    is_good: bool | None
    reply: Reply | None
    attempts: tuple[Attempt, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the last reply is not good."""
        return self.attempts[-1].reasons if self.attempts else ()


def reasons_of(found: PlainScores) -> list[str]:
    """Return what stands against a reply. An eval that broke on it does too: it is not known to
    be good.
    """
    reasons = [f"{s.name}: {s.reason or 'scored 0'}" for s in found.missed]
    return reasons + ([found.fault.message] if found.fault else [])


def result_of(attempts: Sequence[Attempt]) -> GuardResult:
    """Return what the attempts come to; the last one that has a reply decides."""
    replied = [a for a in attempts if a.reply is not None]
    last = replied[-1] if replied else None
    is_good: bool | None = False
    if last is not None and not last.reasons:
        is_good = True if any(s.value is not None for s in last.scores) else None
    return GuardResult(
        is_good=is_good, reply=last.reply if last else None, attempts=tuple(attempts)
    )


def failed(request: Request, error: BackendError, *, began: float) -> Attempt:
    """Return the attempt that brought no reply."""
    return Attempt(
        request=request,
        reasons=(f"backend: {error}",),
        fault=Fault(origin="backend", message=str(error), is_missing=not error.is_systemic),
        seconds=time.monotonic() - began,
    )

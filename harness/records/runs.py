"""What came of asking: faults, scores, trials and runs. Knows not what they mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from harness.plain import digest
from harness.records.asking import Candidate
from harness.records.cases import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An error of backend, eval or harness, never a measurement.

    `is_missing` tells infrastructure trouble (no answer to judge) from a failure of the system
    under test (no answer is its answer, so the case is failed).
    """

    origin: Literal["backend", "eval", "harness"]
    message: str
    is_missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One number in [0, 1], or `None` = unscored; `reason` says why where it is not 1.

    `judge` is the identity of the judge that gave it (model, prompt, rubric), where one did.
    `is_fault` tells a score that a fault made missing from one that had nothing to measure;
    `is_part` one of which some items did not run, as under `-k`.
    """

    name: str
    value: float | None
    reason: str = ""
    judge: str | None = None
    is_fault: bool | None = None
    is_part: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Case x candidate x repeat, with its reply, scores and fault. `reply_key` finds the reply;
    `case_digest` is what the case was when it was scored.
    """

    case_id: str
    repeat: int = 0
    reply_key: str | None = None
    scores: tuple[Score, ...] = ()
    fault: Fault | None = None
    case_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One candidate's trials on one case set.

    `inputs_digest` covers case ids, inputs and clusters; `labels_digest` the references;
    `evals_digest` the eval files. `is_complete` is true where every case and every eval ran.
    `repeat_verdict` says how a case's repeats become one number (None: their mean).
    """

    task: str
    split: Split
    candidate: Candidate
    inputs_digest: str
    labels_digest: str
    evals_digest: str
    is_complete: bool
    trials: tuple[Trial, ...]
    repeats: int = 1
    aggregates: tuple[Score, ...] = ()
    repeat_verdict: str | None = None
    _id: str | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def id(self) -> str:
        """Identity by content: 16 hex digits, computed once: a run may hold 100,000 trials."""
        if self._id is None:
            object.__setattr__(self, "_id", digest(self)[:16])
        assert self._id is not None
        return self._id

"""What runs mean: tries, comparisons and verdicts. Knows not how they are found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.plain import digest
from harness.records.cases import Split
from harness.records.estimates import Condition, Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One rung of the ladder: a complete run over dev, with its estimate.

    `wins` and `losses` are cases against the best try. `input_tokens`, `output_tokens` and
    `latency_s` are means a case, `cost_usd` the sum over the run; `missing` cases had no answer.
    """

    candidate: str
    family: str
    run_id: str
    estimate: Estimate
    wins: int = 0
    losses: int = 0
    missing: int = 0
    faults: int = 0
    unscored: int = 0
    latency_s: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    cost_usd: float | None = None
    is_counted: bool = True
    note: str = ""


WallAnswer = Literal["SHIP_PROMPT", "KEEP_PROMPTING", "WALL", "INSUFFICIENT_EVIDENCE", "FIX_DATA"]

ReleaseAnswer = Literal["SHIP", "BLOCK", "INSUFFICIENT_EVIDENCE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WallVerdict:
    """Has prompting hit a wall? `reason` is one plain sentence, `conditions` the evidence.

    `reach` is the chance that one of the next `horizon` tries reaches the target; `resolution`
    the paired difference that this eval could have seen with 80 % power; `need_cases` how many
    cases would settle it, where more would. `id` is the digest of all of it.
    """

    task: str
    answer: WallAnswer
    reason: str
    conditions: tuple[Condition, ...]
    tries: tuple[Try, ...]
    target: float
    mid: float
    profile: str
    best: str | None = None
    horizon: int = 0
    reach: float | None = None
    resolution: float | None = None
    is_climbing: bool = False
    need_cases: int | None = None
    next_step: str = ""
    alpha: float = 0.05
    inputs_digest: str = ""
    labels_digest: str = ""
    evals_digest: str = ""
    policy_digest: str = ""
    waivers: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Identity by content: 16 hex digits."""
        return digest(self)[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Candidate minus baseline on the same cases. `delta` is of the primary score."""

    task: str
    split: Split
    baseline: str
    candidate: str
    baseline_run: str
    candidate_run: str
    baseline_estimate: Estimate
    candidate_estimate: Estimate
    delta: Estimate
    wins: int
    losses: int
    ties: int
    newly_missed: tuple[str, ...] = ()
    newly_passed: tuple[str, ...] = ()
    missing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of a release. `threshold` is what the lower bound of `delta` must exceed."""

    name: str
    kind: Literal["primary", "guardrail", "slice", "budget", "condition"]
    answer: ReleaseAnswer
    text: str
    delta: Estimate | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseVerdict:
    """Does the candidate ship? `look` counts the looks at the sealed cases, `alpha` what this
    one spent, `alpha_left` what remains for later ones.
    """

    task: str
    answer: ReleaseAnswer
    reason: str
    checks: tuple[Check, ...]
    comparison: Comparison
    goal: str
    min_gain: float
    look: int
    alpha: float
    alpha_left: float
    need_cases: int | None = None
    overrides: tuple[str, ...] = ()
    policy_digest: str = ""
    notes: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Identity by content: 16 hex digits."""
        return digest(self)[:16]

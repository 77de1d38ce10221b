"""Should we fine-tune? An answer whose every reason points at evidence or at a stated fact.

Knows no store: it is given what was measured, and never guesses what was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.core.usage import Usage
from harness.records import Estimate, ReleaseVerdict, WallVerdict

AdviceAnswer = Literal[
    "SHIP_PROMPT",
    "KEEP_PROMPTING",
    "FINE_TUNE",
    "USE_CLASSICAL",
    "FIX_DATA",
    "NARROW_SCOPE",
    "KEEP_MANUAL",
    "INSUFFICIENT_EVIDENCE",
]
FEW_ROWS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """`evidence` names a verdict, a run or the data; `[advise] KEY` marks a stated fact."""

    text: str
    evidence: str
    is_for_tuning: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A candidate that is no prompt on the task's model: its estimate on dev, and its run."""

    name: str
    run_id: str
    estimate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that was measured or stated. `why_stale` says why the wall verdict does not hold now."""

    target: float
    wall: WallVerdict | None
    why_stale: str | None
    training_rows: int
    leaks: int = 0
    people: Measured | None = None
    classical: Measured | None = None
    release: ReleaseVerdict | None = None
    prompt_usage: Usage | None = None
    tuned_usage: Usage | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The answer, in the words of the house, and its reasons."""

    answer: AdviceAnswer
    summary: str
    reasons: tuple[Reason, ...]
    not_measured: tuple[str, ...] = ()


def advise(evidence: Evidence) -> Advice:
    """Return the answer that the evidence supports."""
    reasons = [*_measured_reasons(evidence), *_fact_reasons(evidence.facts)]
    answer, summary = _answer(evidence)
    return Advice(
        answer=answer,
        summary=summary,
        reasons=tuple(reasons),
        not_measured=tuple(_gaps(evidence)),
    )


def _answer(e: Evidence) -> tuple[AdviceAnswer, str]:
    if e.wall is None or e.why_stale:
        return "INSUFFICIENT_EVIDENCE", e.why_stale or "Prompting was not measured yet."
    if e.leaks:
        return "FIX_DATA", f"{e.leaks} training inputs also stand in dev or test; no score holds."
    if e.wall.answer != "WALL":
        return e.wall.answer, e.wall.reason
    if e.classical is not None and e.classical.estimate.lower >= e.target:
        return "USE_CLASSICAL", f"{e.classical.name}, a classical model, reaches the target."
    if e.people is not None and e.people.estimate.upper < e.target:
        return (
            "FIX_DATA",
            "People do not reach the target either: the labels or the target are off.",
        )
    if not e.training_rows:
        return "FIX_DATA", "Prompting has hit a wall, and there is no row to learn from."
    if e.release is not None and e.release.answer == "BLOCK":
        return "KEEP_MANUAL", f"A tuned model was tried and blocked: {e.release.reason}"
    return "FINE_TUNE", "Prompting has hit a measured wall, and there are rows to learn from."


def _measured_reasons(e: Evidence) -> list[Reason]:
    reasons = []
    if e.wall is not None:
        is_wall = e.wall.answer == "WALL"
        reasons.append(
            Reason(text=e.wall.reason, evidence=f"wall verdict {e.wall.id}", is_for_tuning=is_wall)
        )
    rows = e.training_rows
    text = f"{rows} training rows with a reference"
    if rows < FEW_ROWS:
        text += f", fewer than the {FEW_ROWS} with which small-model tuning tends to start"
    reasons.append(Reason(text=text, evidence="the train split", is_for_tuning=rows >= FEW_ROWS))
    for one, what in ((e.people, "people"), (e.classical, "a classical model")):
        if one is not None:
            mean = one.estimate
            reasons.append(
                Reason(
                    text=f"{what} ({one.name}) score {mean.mean:.0%} "
                    f"({mean.lower:.0%} to {mean.upper:.0%})",
                    evidence=f"run {one.run_id[:8]}",
                )
            )
    if e.release is not None:
        shipped = e.release.answer == "SHIP"
        text = f"tuned, on sealed cases: {e.release.answer}. {e.release.reason}"
        reasons.append(
            Reason(text=text, evidence=f"release verdict {e.release.id}", is_for_tuning=shipped)
        )
    reasons += _bill(e)
    return reasons


def _bill(e: Evidence) -> list[Reason]:
    """Tokens of the best prompt against those of the tuned model, a case."""
    before, after = e.prompt_usage, e.tuned_usage
    if before is None or after is None or not before.input_tokens or not after.input_tokens:
        return []
    text = f"a request costs {before.input_tokens:.0f} tokens in with the best prompt, "
    text += f"{after.input_tokens:.0f} tuned"
    if before.latency_s and after.latency_s:
        text += f"; {before.latency_s:.2f} s against {after.latency_s:.2f} s (median)"
    return [
        Reason(
            text=text,
            evidence="their runs",
            is_for_tuning=after.input_tokens < before.input_tokens,
        )
    ]


def _fact_reasons(facts: Mapping[str, object]) -> list[Reason]:
    return [Reason(text=str(value), evidence=f"[advise] {key}") for key, value in facts.items()]


def _gaps(e: Evidence) -> Sequence[str]:
    gaps = []
    if e.people is None:
        gaps.append("how well people do it: score their replies with --candidate replay:FILE")
    if e.classical is None:
        gaps.append("a classical baseline (nearest neighbours, TF-IDF)")
    if e.release is None:
        gaps.append("a tuned candidate on sealed cases")
    return gaps

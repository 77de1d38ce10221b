"""Should we fine-tune? An answer whose every reason points at evidence or at a stated fact.

Knows no store: it is given what was measured, and never guesses what was not. The order of the
rules: bad data decides first, then what is cheaper than tuning, then whether prompting has hit a
wall, then whether tuning can pay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.core.advice_evidence import (
    FEW_MISSES,
    LABELS,
    OFFERS,
    TRAIN,
    Evidence,
    Reason,
    misses_name,
    release_name,
    run_name,
    wall_name,
)
from harness.core.advice_reasons import fact_reasons, gaps, measured_reasons, provision_line
from harness.core.costs import cost_lines, dollars, fixed_a_month, number
from harness.core.words import percent, points

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The answer, in the words of the house, its reasons, and what would change it."""

    answer: AdviceAnswer
    summary: str
    reasons: tuple[Reason, ...]
    would_change: tuple[str, ...] = ()
    costs: tuple[str, ...] = ()
    provisions: tuple[str, ...] = ()
    not_measured: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """`on` names the evidence that decides, as reasons name it."""

    answer: AdviceAnswer
    summary: str
    on: tuple[str, ...]
    change: tuple[str, ...] = ()


def advise(evidence: Evidence) -> Advice:
    """Return the answer that the evidence supports."""
    found = _finding(evidence)
    reasons = [*measured_reasons(evidence, told=found.summary), *fact_reasons(evidence.facts)]
    marked = [
        Reason(
            text=r.text,
            evidence=r.evidence,
            is_for_tuning=r.is_for_tuning,
            decides=r.evidence in found.on,
        )
        for r in reasons
    ]
    return Advice(
        answer=found.answer,
        summary=found.summary,
        reasons=tuple(sorted(marked, key=lambda r: not r.decides)),  # stable: else as they stand
        would_change=found.change,
        costs=tuple(cost_lines(evidence.costs)),
        provisions=tuple(provision_line(p) for p in evidence.provisions),
        not_measured=tuple(gaps(evidence)),
    )


# ---------------------------------------------------------------- the answer


def _finding(e: Evidence) -> _Finding:
    return (
        _bad_data(e)
        or _cheaper(e)
        or _narrower(e)
        or _no_wall(e)
        or _not_worth_it(e)
        or _Finding(
            answer="FINE_TUNE",
            summary="Prompting has hit a measured wall, and there are rows to learn from.",
            on=(wall_name(e), OFFERS, TRAIN, *release_name(e)),
            change=(
                "a prompt that reaches the target: a new family or a stronger model",
                f"harness gate {e.task}: on sealed cases the tuned model may still be blocked",
            ),
        )
    )


def _bad_data(e: Evidence) -> _Finding | None:
    if e.wall is not None and e.wall.answer == "FIX_DATA" and not e.why_stale:
        return _Finding(
            answer="FIX_DATA",
            summary=e.wall.reason,
            on=(wall_name(e), LABELS),
            change=("corrected labels: recorded replies are scored anew, and no try is lost",),
        )
    if e.people is not None and e.people.estimate.upper < e.target:
        return _Finding(
            answer="FIX_DATA",
            summary=f"People do not reach the target of {percent(e.target)} either "
            f"(at most {percent(e.people.estimate.upper)}): the labels, the evals or the target "
            "are off.",
            on=(run_name(e.people),),
            change=("labels that people agree with, or a target that people reach",),
        )
    return None


def _cheaper(e: Evidence) -> _Finding | None:
    good = [one for one in e.classical if one.estimate.lower >= e.target]
    if good:
        best = max(good, key=lambda one: one.estimate.mean)
        return _Finding(
            answer="USE_CLASSICAL",
            summary=f"{best.name} reaches the target without a language model: at least "
            f"{percent(best.estimate.lower)} where {percent(e.target)} are needed.",
            on=(run_name(best),),
            change=("a higher target, or cases that are unlike those of dev",),
        )
    if e.wall is not None and e.wall.answer == "SHIP_PROMPT" and not e.why_stale:
        return _Finding(
            answer="SHIP_PROMPT",
            summary=e.wall.reason,
            on=(wall_name(e),),
            change=("a bill or a latency that the best prompt cannot keep: set budgets",),
        )
    return None


def _narrower(e: Evidence) -> _Finding | None:
    if e.scope is None or e.facts.get("can_narrow") is False:
        return None
    scope = e.scope
    if scope.gain is not None and scope.gain.lower > 0:
        summary = (
            f"The broad task is measurably worse: {scope.scoped} gains {points(scope.gain.mean)} "
            f"(at least {points(scope.gain.lower)}) over {scope.broad} on the same cases."
        )
    elif scope.gain is None and scope.estimate.lower >= e.target:
        summary = (
            f"Within {scope.scoped!r} the best prompt reaches the target (at least "
            f"{percent(scope.estimate.lower)}); over all cases it does not."
        )
    else:
        return None
    return _Finding(
        answer="NARROW_SCOPE",
        summary=summary,
        on=(scope.evidence,),
        change=("a need to serve the whole scope at once: state can_narrow = false",),
    )


def _no_wall(e: Evidence) -> _Finding | None:
    if e.wall is None or e.why_stale:
        return _Finding(
            answer="INSUFFICIENT_EVIDENCE",
            summary=e.why_stale or "Prompting was not measured yet.",
            on=(),
            change=(f"a wall verdict: harness ladder {e.task}, then harness wall {e.task}",),
        )
    if e.wall.answer == "INSUFFICIENT_EVIDENCE":
        more = f"about {e.wall.need_cases} cases in all" if e.wall.need_cases else "more cases"
        return _Finding(
            answer="INSUFFICIENT_EVIDENCE", summary=e.wall.reason, on=(wall_name(e),),
            change=(more,),
        )  # fmt: skip
    if e.wall.answer != "WALL":
        return _Finding(
            answer="KEEP_PROMPTING",
            summary=e.wall.reason,
            on=(wall_name(e),),
            change=(e.wall.next_step or f"more distinct tries: harness ladder {e.task}",),
        )
    if _lacks_knowledge(e):
        assert e.misses is not None
        return _Finding(
            answer="KEEP_PROMPTING",
            summary=f"{e.misses.kinds['knowledge']} of {e.misses.tagged} tagged misses lack "
            "knowledge, which retrieval brings and tuning hardly does; no retrieval was tried.",
            on=(misses_name(e.misses), wall_name(e)),
            change=("a prompt of the family rag that still stays below the target",),
        )
    return None


def _lacks_knowledge(e: Evidence) -> bool:
    if e.misses is None or e.has_rag or e.misses.tagged < FEW_MISSES:
        return False
    return e.misses.kinds.get("knowledge", 0) > e.misses.tagged / 2


def _not_worth_it(e: Evidence) -> _Finding | None:
    if not e.training_rows:
        return _Finding(
            answer="FIX_DATA",
            summary="Prompting has hit a wall, and there is no row to learn from.",
            on=(wall_name(e), TRAIN),
            change=("training rows with a reference that passes the evals",),
        )
    if e.release is not None and e.release.answer == "BLOCK":
        return _Finding(
            answer="KEEP_MANUAL",
            summary=f"Prompts stay below the target, and a tuned model was tried and blocked: "
            f"{e.release.reason}",
            on=(*release_name(e), wall_name(e)),
            change=("more or better rows, another base model, or a release that ships",),
        )
    manual, volume = (number(e.facts, k) for k in ("manual_usd_per_case", "volume_per_month"))
    fixed = fixed_a_month(e.facts)
    if manual is not None and volume is not None and fixed is not None and fixed > manual * volume:
        return _Finding(
            answer="KEEP_MANUAL",
            summary=f"People cost {dollars(manual * volume)} a month at the stated volume, less "
            f"than the {dollars(fixed)} that hosting and a twelfth of the training take.",
            on=tuple(
                f"[advise] {k}"
                for k in (
                    "manual_usd_per_case",
                    "volume_per_month",
                    "hosting_usd_per_month",
                    "training_cost_usd",
                )
            ),
            change=(
                f"more than about {fixed / manual:,.0f} cases a month"
                if manual
                else "people whose work costs something: state manual_usd_per_case",
            ),
        )
    return None

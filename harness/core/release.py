"""Does the candidate ship? Aligned scores in, verdict out; knows no store, ledger or clock.

SHIP where the primary score and every must-hold check are each shown (intersection-union, so
each at the full alpha); BLOCK where one is shown to fail (at alpha / number of checks); else
INSUFFICIENT_EVIDENCE. Sources: Berger (1982), Technometrics 24:295-300; limits and simulated
error rates in `docs/statistics.md`.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

from harness.core.looks import alpha_left, alpha_of_look
from harness.core.pairs import Pair, align, compare, slice_pair
from harness.core.release_checks import (
    Advantage,
    Budget,
    Guard,
    Judged,
    judge_advantage,
    judge_budget,
    judge_condition,
    judge_guard,
    judge_primary,
)
from harness.core.words import count, listed, percent, points
from harness.errors import UsageError
from harness.records import Comparison, Condition, ReleaseAnswer, ReleaseVerdict

__all__ = [
    "Advantage", "Budget", "Guard", "Pair", "align", "compare", "judge_release", "slice_pair",
]  # fmt: skip

ALPHA_WITHOUT_HISTORY = 0.05
MOST_MUST_HOLD_SLICES = 4


def judge_release(
    comparison: Comparison,
    *,
    primary: Pair,
    guards: Sequence[Guard] = (),
    budgets: Sequence[Budget] = (),
    advantages: Sequence[Advantage | Condition] = (),
    conditions: Sequence[Condition] = (),
    goal: str = "beat",
    min_gain: float = 0.02,
    margin: float | None = None,
    look: int | None = None,
    overrides: Sequence[str] = (),
    policy_digest: str = "",
    advised: Container[str] = (),
) -> ReleaseVerdict:
    """Return the verdict. `look` is the number of this look at the sealed cases, from 1.

    `advised` are scores that may not decide: a loss in one is told, and blocks nothing.

    Without `look` the table has no history: alpha is .05 and the reason says so. Goal `match`
    needs `margin` and at least one advantage (cheaper, faster, or a boundary as a condition).
    Raises UsageError on terms that cannot be judged.
    """
    alpha = ALPHA_WITHOUT_HISTORY if look is None else alpha_of_look(look)
    _check_terms(goal, margin, advantages=advantages, guards=guards)
    statistical = [a for a in advantages if isinstance(a, Advantage)]
    tests = 1 + len(guards) + len(budgets) + len(statistical)
    share = alpha / tests
    judged = [
        judge_primary(
            primary, alpha=alpha, block_alpha=share, min_gain=min_gain,
            margin=margin if goal == "match" else None,
        )
    ]  # fmt: skip
    judged += [judge_guard(guard, alpha=alpha, block_alpha=share) for guard in guards]
    scores = [primary.name, *((primary if g.kind == "slice" else g.pair).name for g in guards)]
    judged = [
        _as_advice(one) if score in advised else one
        for one, score in zip(judged, scores, strict=True)
    ]
    judged += [judge_budget(budget, alpha=alpha, block_alpha=share) for budget in budgets]
    judged += [judge_advantage(a, alpha=alpha, block_alpha=share) for a in statistical]
    facts = [a for a in advantages if isinstance(a, Condition)]
    judged += [judge_condition(condition) for condition in (*facts, *conditions)]
    answer = _answer(judged)
    needs = [one.need_cases for one in judged if _is_open(one) and one.need_cases is not None]
    return ReleaseVerdict(
        task=comparison.task,
        answer=answer,
        reason=_reason(answer, judged, comparison, is_first_look_unknown=look is None),
        checks=tuple(one.check for one in judged),
        comparison=comparison,
        goal=goal,
        min_gain=min_gain,
        look=look or 0,
        alpha=alpha,
        alpha_left=alpha_left(look or 0),
        need_cases=max(needs) if needs and answer == "INSUFFICIENT_EVIDENCE" else None,
        overrides=tuple(overrides),
        policy_digest=policy_digest,
    )


def _check_terms(
    goal: str,
    margin: float | None,
    *,
    advantages: Sequence[Advantage | Condition],
    guards: Sequence[Guard],
) -> None:
    if goal not in ("beat", "match"):
        raise UsageError(f"goal {goal!r} is not one of beat, match")
    if goal == "match" and (margin is None or margin <= 0):
        raise UsageError("goal match needs a margin above 0: how much of the score may be lost")
    if goal == "match" and not advantages:
        raise UsageError(
            "goal match needs what the candidate is better in: cost, latency or a boundary"
        )
    must_hold = [g for g in guards if g.kind == "slice" and g.is_must_hold]
    if len(must_hold) > MOST_MUST_HOLD_SLICES:
        raise UsageError(
            f"{len(must_hold)} must-hold slices: with more than {MOST_MUST_HOLD_SLICES} a good "
            "candidate can hardly be shown to ship; make the others watch slices"
        )
    for guard in guards:
        if guard.margin < 0:
            raise UsageError(f"{guard.pair.name}: a margin is not below 0")


def _as_advice(one: Judged) -> Judged:
    if one.check.answer != "BLOCK":
        return one
    text = f"{one.check.text}, which is advice and blocks nothing"
    return replace(one, check=replace(one.check, answer="INSUFFICIENT_EVIDENCE", text=text))


def _is_open(one: Judged) -> bool:
    return one.is_must_hold and one.check.answer == "INSUFFICIENT_EVIDENCE"


def _answer(judged: Sequence[Judged]) -> ReleaseAnswer:
    if any(one.check.answer == "BLOCK" for one in judged):
        return "BLOCK"
    return "INSUFFICIENT_EVIDENCE" if any(map(_is_open, judged)) else "SHIP"


def _reason(
    answer: ReleaseAnswer,
    judged: Sequence[Judged],
    comparison: Comparison,
    *,
    is_first_look_unknown: bool,
) -> str:
    parts = []
    if answer == "BLOCK":
        parts += [one.check.text for one in judged if one.check.answer == "BLOCK"]
    elif answer == "INSUFFICIENT_EVIDENCE":
        parts += [one.check.text for one in judged if _is_open(one)]
    else:
        parts.append(judged[0].check.text)
        held = [one.check.name for one in judged[1:] if one.is_must_hold]
        if held:
            parts.append(f"{listed(held)} {'holds' if len(held) == 1 else 'hold'}")
    who = f"{comparison.candidate} against {comparison.baseline}"
    text = f"{who}: {'; '.join(parts)}."
    if is_first_look_unknown:
        text += f" Judged at {percent(ALPHA_WITHOUT_HISTORY)}, without a history of looks."
    if comparison.missing:
        text += f" {count(comparison.missing, 'case')} missing, taken at the worst."
    return text


def shown_loss(comparison: Comparison) -> str | None:
    """Return the sentence of a shown regression, or None: all that `compare` alarms on."""
    if comparison.delta.upper >= 0:
        return None
    return (
        f"{comparison.candidate} lost {points(-comparison.delta.mean)} against "
        f"{comparison.baseline} (at least {points(-comparison.delta.upper)}): "
        f"{comparison.wins} won, {comparison.losses} lost"
    )

"""Should we fine-tune? An answer whose every reason points at evidence or at a stated fact.

Knows no store: it is given what was measured, and never guesses what was not. The order of the
rules: bad data decides first, then what is cheaper than tuning, then whether prompting has hit a
wall, then whether tuning can pay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.core.costs import CostView, cost_lines, dollars, fixed_a_month, number
from harness.core.words import count, percent, points
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
FEW_MISSES = 10
"""Fewer tagged misses than this say nothing of the others."""
MISS_KINDS = ("knowledge", "rules", "format")
"""Tags of cases that say what a miss of them lacks; people set them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """`evidence` names a verdict, a run or the data; `[advise] KEY` marks a stated fact. A reason
    that `decides` is one that the answer rests on.
    """

    text: str
    evidence: str
    is_for_tuning: bool | None = None
    decides: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A candidate that is no prompt on the task's model: its estimate on dev, and its run."""

    name: str
    run_id: str
    estimate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A narrower task beside the whole one. `gain` is scoped minus broad on the same cases, or
    None where `scoped` is a tag, whose cases alone `estimate` speaks of.
    """

    broad: str
    scoped: str
    evidence: str
    estimate: Estimate
    gain: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Misses:
    """The misses of the best try, by the kind that people tagged their cases with."""

    candidate: str
    run_id: str
    kinds: Mapping[str, int]
    misses: int

    @property
    def tagged(self) -> int:
        """How many misses are of a case with a kind (of two kinds: twice)."""
        return sum(self.kinds.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """The newest learning curve of the ledger; `is_climbing` where its last step shows a gain."""

    text: str
    at: str
    is_climbing: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision:
    """What the dated table says of tuning a model, or of training on its outputs."""

    kind: Literal["tuning", "outputs"]
    text: str
    source: str
    checked: str = ""
    is_open: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that was measured or stated. `why_stale` says why the wall verdict does not hold now;
    `internal` counts the cases that may not leave this machine, `outside` the backends that would
    take them out; `crossings` are the overrides on record. `labels` is the audit, where one was
    made; `has_rag` tells whether retrieval was tried. `release` is of a tuned candidate, never of
    a prompt; `untunable` says why the task's own model cannot be tuned.
    """

    target: float
    wall: WallVerdict | None
    why_stale: str | None
    training_rows: int
    task: str = ""
    leaks: int = 0
    people: Measured | None = None
    classical: tuple[Measured, ...] = ()
    best: Measured | None = None
    scope: Scope | None = None
    misses: Misses | None = None
    has_rag: bool = False
    labels: str = ""
    pilot: Pilot | None = None
    release: ReleaseVerdict | None = None
    costs: CostView = field(default_factory=CostView)
    internal: int = 0
    outside: tuple[str, ...] = ()
    crossings: tuple[str, ...] = ()
    provisions: tuple[Provision, ...] = ()
    untunable: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


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
    reasons = [*_measured_reasons(evidence), *_fact_reasons(evidence.facts)]
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
        provisions=tuple(_provision(p) for p in evidence.provisions),
        not_measured=tuple(_gaps(evidence)),
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
            on=(_wall_name(e), OFFERS, TRAIN, *_release_name(e)),
            change=(
                "a prompt that reaches the target: a new family or a stronger model",
                f"harness gate {e.task}: on sealed cases the tuned model may still be blocked",
            ),
        )
    )


TRAIN = "the train split"
OFFERS = "tunable.toml"


def _wall_name(e: Evidence) -> str:
    return f"wall verdict {e.wall.id}" if e.wall is not None else ""


def _release_name(e: Evidence) -> tuple[str, ...]:
    return (f"release verdict {e.release.id}",) if e.release is not None else ()


def _run_name(one: Measured) -> str:
    return f"run {one.run_id[:8]}"


def _bad_data(e: Evidence) -> _Finding | None:
    if e.leaks:
        return _Finding(
            answer="FIX_DATA",
            summary=f"{count(e.leaks, 'training input')} also stand in dev or test, so that no "
            "score can be believed.",
            on=(TRAIN,),
            change=("training rows that share no input with dev and test",),
        )
    if e.wall is not None and e.wall.answer == "FIX_DATA" and not e.why_stale:
        return _Finding(
            answer="FIX_DATA",
            summary=e.wall.reason,
            on=(_wall_name(e), LABELS),
            change=("corrected labels: recorded replies are scored anew, and no try is lost",),
        )
    if e.people is not None and e.people.estimate.upper < e.target:
        return _Finding(
            answer="FIX_DATA",
            summary=f"People do not reach the target of {percent(e.target)} either "
            f"(at most {percent(e.people.estimate.upper)}): the labels, the evals or the target "
            "are off.",
            on=(_run_name(e.people),),
            change=("labels that people agree with, or a target that people reach",),
        )
    return None


LABELS = "the label audit"


def _cheaper(e: Evidence) -> _Finding | None:
    good = [one for one in e.classical if one.estimate.lower >= e.target]
    if good:
        best = max(good, key=lambda one: one.estimate.mean)
        return _Finding(
            answer="USE_CLASSICAL",
            summary=f"{best.name} reaches the target without a language model: at least "
            f"{percent(best.estimate.lower)} where {percent(e.target)} are needed.",
            on=(_run_name(best),),
            change=("a higher target, or cases that are unlike those of dev",),
        )
    if e.wall is not None and e.wall.answer == "SHIP_PROMPT" and not e.why_stale:
        return _Finding(
            answer="SHIP_PROMPT",
            summary=e.wall.reason,
            on=(_wall_name(e),),
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
        more = f"about {e.wall.need_cases} cases" if e.wall.need_cases else "more cases"
        return _Finding(
            answer="INSUFFICIENT_EVIDENCE", summary=e.wall.reason, on=(_wall_name(e),),
            change=(more,),
        )  # fmt: skip
    if e.wall.answer != "WALL":
        return _Finding(
            answer="KEEP_PROMPTING",
            summary=e.wall.reason,
            on=(_wall_name(e),),
            change=(e.wall.next_step or f"more distinct tries: harness ladder {e.task}",),
        )
    if _lacks_knowledge(e):
        assert e.misses is not None
        return _Finding(
            answer="KEEP_PROMPTING",
            summary=f"{e.misses.kinds['knowledge']} of {e.misses.tagged} tagged misses lack "
            "knowledge, which retrieval brings and tuning hardly does; no retrieval was tried.",
            on=(_misses_name(e.misses), _wall_name(e)),
            change=("a prompt of the family rag that still stays below the target",),
        )
    return None


def _lacks_knowledge(e: Evidence) -> bool:
    if e.misses is None or e.has_rag or e.misses.tagged < FEW_MISSES:
        return False
    return e.misses.kinds.get("knowledge", 0) > e.misses.tagged / 2


def _misses_name(misses: Misses) -> str:
    return f"run {misses.run_id[:8]}, tags"


def _not_worth_it(e: Evidence) -> _Finding | None:
    if not e.training_rows:
        return _Finding(
            answer="FIX_DATA",
            summary="Prompting has hit a wall, and there is no row to learn from.",
            on=(_wall_name(e), TRAIN),
            change=("training rows with a reference that passes the evals",),
        )
    if e.release is not None and e.release.answer == "BLOCK":
        return _Finding(
            answer="KEEP_MANUAL",
            summary=f"Prompts stay below the target, and a tuned model was tried and blocked: "
            f"{e.release.reason}",
            on=(*_release_name(e), _wall_name(e)),
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
            change=(f"more than about {fixed / manual:,.0f} cases a month" if manual else "",),
        )
    return None


# ---------------------------------------------------------------- the reasons


def span(one: Estimate) -> str:
    """Return `62 % (55 to 69)`: the mean and its two one-sided bounds."""
    return f"{100 * one.mean:.0f} % ({100 * one.lower:.0f} to {100 * one.upper:.0f})"


def _measured_reasons(e: Evidence) -> list[Reason]:
    reasons = []
    if e.wall is not None:
        text = e.wall.reason
        if e.best is not None:
            text += f" Best prompt: {e.best.name}, {span(e.best.estimate)}."
        is_wall = e.wall.answer == "WALL"
        reasons.append(Reason(text=text, evidence=_wall_name(e), is_for_tuning=is_wall))
    if e.untunable:
        reasons.append(Reason(text=e.untunable, evidence=OFFERS, is_for_tuning=False))
    if e.labels:
        reasons.append(Reason(text=e.labels, evidence=LABELS))
    rows = e.training_rows
    text = f"{count(rows, 'training row')} with a reference"
    if rows < FEW_ROWS:
        text += f", fewer than the {FEW_ROWS} with which small-model tuning tends to start"
    if e.leaks:
        text += f"; {e.leaks} of them have the inputs of a dev or test case"
    reasons.append(Reason(text=text, evidence=TRAIN, is_for_tuning=rows >= FEW_ROWS))
    if e.pilot is not None:
        reasons.append(
            Reason(
                text=f"pilot: {e.pilot.text}",
                evidence=f"pilot of {e.pilot.at}",
                is_for_tuning=e.pilot.is_climbing,
            )
        )
    for one, what in [(e.people, "people"), *((c, "no language model") for c in e.classical)]:
        if one is not None:
            reasons.append(
                Reason(text=f"{what} ({one.name}): {span(one.estimate)}", evidence=_run_name(one))
            )
    reasons += _scope_reasons(e)
    if e.misses is not None and e.misses.tagged:
        kinds = ", ".join(f"{kind} {n}" for kind, n in e.misses.kinds.items() if n)
        text = f"{e.misses.misses} misses of {e.misses.candidate}, tagged by people: {kinds}"
        can_help = e.misses.kinds.get("knowledge", 0) <= e.misses.tagged / 2
        reasons.append(Reason(text=text, evidence=_misses_name(e.misses), is_for_tuning=can_help))
    if e.release is not None:
        shipped = e.release.answer == "SHIP"
        text = f"tuned, on sealed cases: {e.release.answer}. {e.release.reason}"
        reasons.append(Reason(text=text, evidence=_release_name(e)[0], is_for_tuning=shipped))
    return [*reasons, *_bill(e), *_latency(e), *_boundary(e)]


def _scope_reasons(e: Evidence) -> list[Reason]:
    if e.scope is None:
        return []
    s = e.scope
    if s.gain is None:
        text = f"within the scope {s.scoped!r}, {s.broad}: {span(s.estimate)}"
    else:
        low, high = points(s.gain.lower, is_signed=True), points(s.gain.upper, is_signed=True)
        text = (
            f"{s.scoped} {span(s.estimate)}, against {s.broad} on the same cases "
            f"{points(s.gain.mean, is_signed=True)} ({low} to {high})"
        )
    return [Reason(text=text, evidence=s.evidence)]


def _bill(e: Evidence) -> list[Reason]:
    """Tokens of the best prompt against those of the tuned model, a case."""
    before, after = e.costs.prompt, e.costs.tuned
    if before is None or after is None or not before.input_tokens or not after.input_tokens:
        return []
    text = f"a request takes {before.input_tokens:.0f} tokens in with the best prompt, "
    text += f"{after.input_tokens:.0f} tuned"
    if before.latency_s and after.latency_s:
        text += f"; {before.latency_s:.2f} s against {after.latency_s:.2f} s (median)"
    is_less = after.input_tokens < before.input_tokens
    return [Reason(text=text, evidence="their runs", is_for_tuning=is_less)]


def _latency(e: Evidence) -> list[Reason]:
    needed, before = number(e.facts, "latency_needed_s"), e.costs.prompt
    if needed is None or before is None or before.latency_p95_s is None:
        return []
    text = f"the best prompt answers 95 % within {before.latency_p95_s:.2f} s, and {needed:g} s "
    is_kept = before.latency_p95_s <= needed
    text += "are needed" if is_kept else "are needed: it is too slow"
    after = e.costs.tuned
    if after is not None and after.latency_p95_s is not None:
        text += f"; the tuned model takes {after.latency_p95_s:.2f} s"
    return [Reason(text=text, evidence="[advise] latency_needed_s and the runs")]


def _boundary(e: Evidence) -> list[Reason]:
    reasons = []
    if e.internal:
        named = f"{count(e.internal, 'case')} may not leave this machine"
        out = f"; {', '.join(e.outside)} would take them out" if e.outside else ""
        reasons.append(
            Reason(
                text=f"{named}{out}",
                evidence="cases tagged internal",
                is_for_tuning=True if e.outside else None,
            )
        )
    reasons += [Reason(text=text, evidence="ledger, override") for text in e.crossings]
    return reasons


def _fact_reasons(facts: Mapping[str, object]) -> list[Reason]:
    return [
        Reason(text=_stated(key, value), evidence=f"[advise] {key}") for key, value in facts.items()
    ]


def _stated(key: str, value: object) -> str:
    return value if isinstance(value, str) else f"{key.replace('_', ' ')}: {_plain(value)}"


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _provision(one: Provision) -> str:
    seen = f"source {one.source}, read {one.checked}" if one.checked else f"unchecked; {one.source}"
    legal = " Not legal advice." if one.kind == "outputs" else ""
    return f"{one.text} ({seen}).{legal}"


READINESS = {
    "can_serve": "who can serve a tuned model, and on what",
    "owner": "who owns it once it runs",
    "monitoring": "how it is watched after release",
}


def _gaps(e: Evidence) -> Sequence[str]:
    gaps = []
    if e.wall is None:
        gaps.append("whether prompting has hit a wall")
    if e.people is None:
        gaps.append("how well people do it: score their replies with --candidate replay:FILE")
    if not e.classical:
        gaps.append("a baseline without a language model: constant:TEXT, or [advise] classical")
    if not e.labels:
        gaps.append("whether the labels are right: no audit is on record")
    if e.misses is None or not e.misses.tagged:
        gaps.append(f"what misses lack: tag cases {', '.join(MISS_KINDS)}")
    if e.pilot is None and e.release is None:
        gaps.append("whether more rows would help: no pilot is on record")
    if e.release is None:
        gaps.append("a tuned candidate on sealed cases")
    gaps += e.costs.unknown
    gaps += [f"{what}: state {key}" for key, what in READINESS.items() if key not in e.facts]
    return gaps

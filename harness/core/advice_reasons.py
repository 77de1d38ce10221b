"""Evidence in words: one reason for each thing that was measured or stated. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.core.advice_evidence import (
    FEW_ROWS,
    LABELS,
    MISS_KINDS,
    OFFERS,
    TRAIN,
    Evidence,
    Provision,
    Reason,
    misses_name,
    release_name,
    run_name,
    wall_name,
)
from harness.core.costs import number
from harness.core.words import count, points
from harness.records import Estimate


def span(one: Estimate) -> str:
    """Return `62 % (55 to 69)`: the mean and its two one-sided bounds."""
    return f"{100 * one.mean:.0f} % ({100 * one.lower:.0f} to {100 * one.upper:.0f})"


def measured_reasons(e: Evidence, *, told: str = "") -> list[Reason]:
    """Return a reason for everything that was measured. What the answer has `told` already, a
    verdict's own words, is not told again.
    """
    reasons = []
    if e.wall is not None:
        is_told = not e.why_stale and e.wall.reason in told
        text = f"the verdict on prompting: {e.wall.answer}." if is_told else e.wall.reason
        if e.best is not None:
            text += f" Best prompt: {e.best.name}, {span(e.best.estimate)}."
        is_wall: bool | None = e.wall.answer == "WALL"
        if e.why_stale:  # it speaks of other cases, evals or tries than there are now
            text, is_wall = f"no longer holds: {text}", None
        reasons.append(Reason(text=text, evidence=wall_name(e), is_for_tuning=is_wall))
    if e.untunable:
        reasons.append(Reason(text=e.untunable, evidence=OFFERS, is_for_tuning=False))
    if e.labels:
        reasons.append(Reason(text=e.labels, evidence=LABELS))
    rows = e.training_rows
    text = f"{count(rows, 'training row')} with a reference"
    if rows < FEW_ROWS:
        text += f", fewer than the {FEW_ROWS} with which small-model tuning tends to start"
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
                Reason(text=f"{what} ({one.name}): {span(one.estimate)}", evidence=run_name(one))
            )
    reasons += _scope_reasons(e)
    if e.misses is not None and e.misses.tagged:
        kinds = ", ".join(f"{kind} {n}" for kind, n in e.misses.kinds.items() if n)
        text = f"{e.misses.misses} misses of {e.misses.candidate}, tagged by people: {kinds}"
        can_help = e.misses.kinds.get("knowledge", 0) <= e.misses.tagged / 2
        reasons.append(Reason(text=text, evidence=misses_name(e.misses), is_for_tuning=can_help))
    if e.release is not None:
        shipped = e.release.answer == "SHIP"
        text = f"tuned, on sealed cases: {e.release.answer}."
        text += "" if e.release.reason in told else f" {e.release.reason}"
        reasons.append(Reason(text=text, evidence=release_name(e)[0], is_for_tuning=shipped))
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


def fact_reasons(facts: Mapping[str, object]) -> list[Reason]:
    """Return a reason for every fact that `[advise]` states."""
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


def provision_line(one: Provision) -> str:
    """Return a term of a provider, with its source and date."""
    seen = f"source {one.source}, read {one.checked}" if one.checked else f"unchecked; {one.source}"
    legal = " Not legal advice." if one.kind == "outputs" else ""
    return f"{one.text} ({seen}).{legal}"


READINESS = {
    "can_serve": "who can serve a tuned model, and on what",
    "owner": "who owns it once it runs",
    "monitoring": "how it is watched after release",
}


def gaps(e: Evidence) -> Sequence[str]:
    """Return what nobody has measured or stated yet."""
    open_ = []
    if e.wall is None:
        open_.append("whether prompting has hit a wall")
    if e.people is None:
        open_.append("how well people do it: score their replies with --candidate replay:FILE")
    if not e.classical:
        open_.append("a baseline without a language model: constant:TEXT, or [advise] classical")
    if not e.labels:
        open_.append("whether the labels are right: no audit is on record")
    if e.misses is None or not e.misses.tagged:
        open_.append(f"what misses lack: tag cases {', '.join(MISS_KINDS)}")
    if e.pilot is None and e.release is None:
        open_.append("whether more rows would help: no pilot is on record")
    if e.release is None:
        open_.append("a tuned candidate on sealed cases")
    open_ += e.costs.unknown
    open_ += [f"{what}: state {key}" for key, what in READINESS.items() if key not in e.facts]
    return open_

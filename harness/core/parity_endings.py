"""Does a server end its replies where the model does? Judged for each id that ends a turn.

Knows nothing of models. A server that does not know an id goes on after every reply which ends
with it, however sure the model was; one that knows it goes on only where the end was a near tie,
or where its weights are coarser. Those that know one of two ids look well in most replies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.parity_logits import ADVICE, TOLERANCE, WIDE, LogitProbe, margin_over, parting
from harness.records import ParityFinding

CERTAIN = 2 * WIDE
"""In nats: replies that go on must together speak so strongly against an end that the server knows
where its own choice is not shown. One at a margin that mild rounding can turn proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A reply that ends here and goes on there. `shift` is how far the end and what came instead
    moved against each other, at least; `is_written` where the server wrote the end and went on.
    """

    case_id: str
    shift: float
    is_written: bool
    instead: str


def check_endings(probes: Sequence[LogitProbe]) -> tuple[ParityFinding, ...]:
    """Return one finding for each id that ends a reply here and not there: a failure where the
    server does not know it, a warning where it ends other replies or the end was a near tie.
    """
    groups: dict[tuple[int, str], list[LogitProbe]] = {}
    for probe in probes:
        if probe.end is not None and parting(probe) is None and _is_comparable(probe):
            groups.setdefault((int(probe.end["id"]), str(probe.end["token"])), []).append(probe)
    found = []
    for (number, token), some in sorted(groups.items()):
        misses = [m for m in map(_miss, some) if m is not None]
        if misses:
            found.append(_finding(f"{token!r} (id {number})", misses, asked=len(some)))
    return tuple(found)


def unseen_ends(probes: Sequence[LogitProbe], taught: Sequence[tuple[int, str]]) -> str:
    """Return, in words, which of the ids that rows teach as an end no probe ended with; ""
    where each was seen, or nothing was asked.
    """
    seen = {int(p.end["id"]) for p in probes if p.end is not None and _is_comparable(p)}
    missing = [f"{token!r} (id {number})" for number, token in taught if number not in seen]
    if not probes or not missing:
        return ""
    return (
        f"no greedy reply ended with {', '.join(missing)} within the tokens that were asked: "
        "whether the server ends there was not seen"
    )


def _finding(end: str, misses: Sequence[Miss], *, asked: int) -> ParityFinding:
    first = max(misses, key=lambda m: (m.is_written, m.shift))
    are_written = sum(m.is_written for m in misses)
    held = asked - len(misses)
    total = sum(m.shift for m in misses)
    text = f"{len(misses)} of {asked} replies that end here with {end} go on there, word for word "
    text += "the same until then: "
    is_unknown = bool(are_written) or (not held and total > CERTAIN)
    if are_written:
        text += "the server writes it and goes on, so it does not know it for an end"
    elif is_unknown:
        text += (
            f"the model prefers the end by {first.shift:.1f} nat, more than rounding turns, so the "
            "server does not know it for an end"
        )
    elif held:
        text += f"it ends the others, so it knows that end. {ADVICE}"
    else:
        text += f"at a near tie ({first.shift:.2f} nat), which may only be rounding. {ADVICE}"
    if is_unknown:
        text += (
            ". Add the id to eos_token_id of the served model's generation_config.json, or send it "
            "as a `stop`"
        )
    elif first.instead:
        text += f" (there {first.instead!r} came)"
    return ParityFinding(
        severity="fail" if is_unknown else "warn",
        name="does-not-stop",
        case_id=first.case_id,
        detail=text,
    )


def _miss(probe: LogitProbe) -> Miss | None:
    """How a reply goes on that ended here; None where it ended there too."""
    assert probe.end is not None
    ours, at = probe.end, len(probe.ours)
    token, margin = str(ours["token"]), float(ours["margin"])
    step = probe.theirs[at] if len(probe.theirs) > at else None
    if not _goes_on(probe):
        return None
    if step is None:
        return Miss(case_id=probe.case_id, shift=margin, is_written=False, instead="")
    # an engine that hides control tokens writes nothing for them
    is_hidden = step["token"] == "" and margin > 2 * TOLERANCE
    is_written = step["token"] == token or is_hidden
    moved = margin if is_written else margin + max(margin_over(step, token), 0.0)
    return Miss(
        case_id=probe.case_id, shift=moved, is_written=is_written, instead=str(step["token"])
    )


def _goes_on(probe: LogitProbe) -> bool:
    if probe.their_finish == "length":
        return True
    # an end of its own some words later is no end here; the token that ended a reply may be shown
    if len(probe.theirs) > len(probe.ours) + 1:
        return True
    said = "".join(step["token"] for step in probe.ours)
    more = probe.their_text.lstrip()[len(said.lstrip()) :]
    return not probe.theirs and probe.their_finish is not None and bool(more.strip())


def _is_comparable(probe: LogitProbe) -> bool:
    """Whether it can be told that the replies are the same as far as ours goes."""
    return bool(probe.theirs) or "\ufffd" not in "".join(s["token"] for s in probe.ours)

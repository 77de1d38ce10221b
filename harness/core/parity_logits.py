"""What ids cannot show: do two engines, sent one prompt, expect the same next tokens?

Knows nothing of models. Both sides are greedy replies with each token's log probability and its
nearest rivals, in the shape of `Reply.logprobs`. Engines round differently, so that a near tie
flips now and then; another model, or a base without its adapter, parts ways by a wide margin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.records import ParityFinding

TOLERANCE = 0.3
"""In nats: two engines' log probabilities of one token may lie so far apart. Of one model in
transformers and in llama.cpp a near tie was seen that flipped, 0.1 apart on either side."""
WIDE = 2.0
"""In nats: rounding does not move two tokens so far against each other, nor does mild quantising
on most prompts."""
ADVICE = "Run the evals on the serving engine: its scores are what you ship"

Step = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitProbe:
    """One prompt's greedy replies. `theirs` is empty where the server shows no log probabilities;
    then `their_text` alone is compared. `end` is the token that ended our reply, with its `id` and
    the `margin` in nats by which it was preferred to going on; None where it did not end.
    `their_finish` tells why theirs ended.
    """

    case_id: str
    ours: tuple[Step, ...]
    theirs: tuple[Step, ...] = ()
    their_text: str = ""
    end: Step | None = None
    their_finish: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """Where two replies part: our token and theirs, and by how much each side prefers its own."""

    case_id: str
    at: int
    our_token: str
    their_token: str
    our_margin: float
    their_margin: float | None

    @property
    def shift(self) -> float:
        """How far the two tokens moved against each other; at least, where theirs is unknown."""
        return self.our_margin + (self.their_margin or 0.0)

    @property
    def is_wide(self) -> bool:
        """Whether no rounding explains it."""
        return self.shift > WIDE

    @property
    def is_near(self) -> bool:
        """Whether both sides were all but undecided."""
        return self.shift <= 2 * TOLERANCE


def check_logits(probes: Sequence[LogitProbe]) -> tuple[ParityFinding, ...]:
    """Return what differs: `another-model` must stop a release, the others are warnings."""
    partings = [p for p in (parting(one) for one in probes) if p is not None]
    wide = [p for p in partings if p.is_wide]
    found: list[ParityFinding] = []
    if len(wide) * 2 > len(probes):
        found.append(
            _finding(
                "another-model",
                wide[0],
                f"{len(wide)} of {len(probes)} prompts go another way by a wide margin: the server "
                "has another model, or the base without the adapter",
                severity="fail",
            )
        )
    else:
        near = [p for p in partings if p.is_near]
        rest = [p for p in partings if not p.is_near]
        if rest:
            text = f"{len(rest)} of {len(probes)} greedy replies part. {ADVICE}"
            found.append(_finding("logits-differ", rest[0], text))
        if near:
            text = f"{len(near)} of {len(probes)} greedy replies part at a near tie. {ADVICE}"
            found.append(_finding("near-tie", near[0], text))
        apart = max((widest(one) for one in probes), default=(0.0, "", ""))
        if apart[0] > TOLERANCE and not rest:
            found.append(
                ParityFinding(
                    severity="warn",
                    name="logits-differ",
                    case_id=apart[1],
                    detail=f"log probabilities differ by up to {apart[0]:.2f} nat (token "
                    f"{apart[2]!r}; tolerance {TOLERANCE}), as after quantisation. {ADVICE}",
                )
            )
    return tuple(found)


def parting(probe: LogitProbe) -> Parting | None:
    """Return where the two greedy replies part; None where they agree as far as both go."""
    if not probe.theirs:
        return _text_parting(probe)
    for at, (ours, theirs) in enumerate(zip(probe.ours, probe.theirs, strict=False)):
        if ours["token"] != theirs["token"]:
            return Parting(
                case_id=probe.case_id,
                at=at,
                our_token=ours["token"],
                their_token=theirs["token"],
                our_margin=margin_over(ours, theirs["token"]),
                their_margin=margin_over(theirs, ours["token"]),
            )
    return None


def widest(probe: LogitProbe) -> tuple[float, str, str]:
    """Return the largest difference between two log probabilities of one token, with case and
    token, over the steps before the replies part.
    """
    largest = (0.0, probe.case_id, "")
    for ours, theirs in zip(probe.ours, probe.theirs, strict=False):
        one, other = ours["logprob"], theirs["logprob"]
        if ours["token"] == theirs["token"]:
            largest = max(largest, (abs(one - other), probe.case_id, ours["token"]))
        else:
            break
    return largest


def _text_parting(probe: LogitProbe) -> Parting | None:
    seen = ""
    for at, step in enumerate(probe.ours):
        seen += step["token"]
        rest = probe.their_text[len(seen) - len(step["token"]) :]
        if probe.their_text.startswith(seen) or not rest or "\ufffd" in seen:
            # whole letters only, and no further than they went (a reply is often trimmed)
            if not rest or "\ufffd" in seen:
                return None
            continue
        if seen.strip() and probe.their_text.lstrip().startswith(seen.lstrip()):
            return None  # white space at the ends of a reply is the server's own affair
        return Parting(
            case_id=probe.case_id,
            at=at,
            our_token=step["token"],
            their_token=rest[:12],
            our_margin=margin_over(step, None),
            their_margin=None,
        )
    return None


def margin_over(step: Step, other: str | None) -> float:
    """By how much a side prefers its token to `other`, or to its best rival."""
    rivals = {t: p for t, p in step["top"] if t != step["token"]}
    floor = min(rivals.values(), default=step["logprob"])
    rival = max(rivals.values(), default=floor) if other is None else rivals.get(other, floor)
    return float(step["logprob"] - rival)


def _finding(name: str, where: Parting, text: str, *, severity: Any = "warn") -> ParityFinding:
    theirs = "" if where.their_margin is None else f" by {where.their_margin:.2f} nat"
    return ParityFinding(
        severity=severity,
        name=name,
        case_id=where.case_id,
        detail=f"{text}. First at token {where.at}: here {where.our_token!r} by "
        f"{where.our_margin:.2f} nat, there {where.their_token!r}{theirs}",
    )

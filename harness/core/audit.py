"""Are the labels right? Draws the cases that a person reads, and weighs what was said of them.

Knows no store, terminal or file. The sample is the same for the same cases and tries, so that an
audit can be left and taken up again, and nobody can draw until it pleases.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.core.bounds import mean_bounds
from harness.core.words import count, listed, percent
from harness.records import Estimate, digest

RANDOM = 30
HARD = 25
NAMED = 10

Label = Literal["right", "wrong", "unsure"]
LABELS: tuple[Label, ...] = ("right", "wrong", "unsure")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The cases to read. `random` stand for all; `hard` are others that every try fails, and
    `mixed_in` others that some try passes, so that who reads cannot tell which is which.
    """

    random: tuple[str, ...]
    hard: tuple[str, ...] = ()
    mixed_in: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[str, ...]:
        """All of them, in an order that tells nothing."""
        return tuple(sorted((*self.random, *self.hard, *self.mixed_in), key=_place("order")))


def draw_sample(
    case_ids: Sequence[str],
    failed_by_all: Collection[str],
    *,
    judged: Collection[str] = (),
    again: Collection[str] = (),
) -> Sample:
    """Return the sample: 30 random cases, up to 25 more that every try fails, and random passes,
    so that there are at least as many as of those.

    `judged` are the cases that a person has read already; of those beyond the 30 they come first.
    `again` are those that changed since they were read: they are always part of it.
    """
    ranked = sorted(case_ids, key=_place("sample"))
    random, rest = ranked[:RANDOM], ranked[RANDOM:]
    failed, known = set(failed_by_all), set(judged)
    rest = [c for c in rest if c in known] + [c for c in rest if c not in known]
    hard = [c for c in rest if c in failed][:HARD]
    passes = sum(c not in failed for c in random)
    mixed_in = [c for c in rest if c not in failed][: max(0, len(hard) - passes)]
    drawn = {*random, *hard, *mixed_in}
    mixed_in += [c for c in rest if c in set(again) and c not in drawn]
    return Sample(random=tuple(random), hard=tuple(hard), mixed_in=tuple(mixed_in))


def _place(what: str) -> Callable[[str], str]:
    return lambda case_id: digest([what, case_id])


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelAudit:
    """What an audit says. `ceiling` estimates the share of labels that are right, None while too
    little was read. `wrong` and `unsure` name cases; `needed` counts those still to be read.
    """

    judged: int
    needed: int
    ceiling: Estimate | None
    wrong: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()
    hard: int = 0
    hard_wrong: int = 0

    @property
    def is_complete(self) -> bool:
        """Every case of the sample was read."""
        return self.needed == 0 and self.judged > 0


def weigh(
    sample: Sample,
    said: Mapping[str, Label],
    *,
    clusters: Mapping[str, str],
    failed_by_all: Collection[str],
    target: float,
) -> LabelAudit:
    """Return what the labels `said` of the sample (and of other cases) mean for the ceiling.

    The bounds are Korn-Graubard over the clusters of the random cases; unsure counts as right
    where a ceiling would be claimed, as wrong in the lower bound. Besides, labels that were found
    wrong are lost for certain: no reply that is right scores on them, so the ceiling on these cases
    is at most 1 - wrong / cases. While the sample is not read whole, the certain part alone counts,
    and only where it puts the target out of reach.
    """
    wrong = tuple(c for c in clusters if said.get(c) == "wrong")
    unsure = tuple(c for c in clusters if said.get(c) == "unsure")
    needed = [c for c in sample.order if c not in said]
    most = 1 - len(wrong) / max(len(clusters), 1)
    read = [c for c in sample.random if c in said]
    ceiling = None
    if read and (not needed or most < target):
        groups = [clusters[c] for c in read]
        kind = mean_bounds([float(said[c] != "wrong") for c in read], groups)
        strict = mean_bounds([float(said[c] == "right") for c in read], groups)
        ceiling = Estimate(
            mean=min(kind.mean, most),
            lower=min(strict.lower, most),
            upper=min(kind.upper, most) if not needed else most,
            n=len(said),
            clusters=len({clusters[c] for c in said if c in clusters}),
        )
    hard = [c for c in said if c in set(failed_by_all)]
    return LabelAudit(
        judged=len(said),
        needed=len(needed),
        ceiling=ceiling,
        wrong=wrong,
        unsure=unsure,
        hard=len(hard),
        hard_wrong=sum(said[c] == "wrong" for c in hard),
    )


def audit_text(audit: LabelAudit) -> str:
    """Return what was found, in a sentence."""
    read = f"labels of {count(audit.judged, 'case')} read"
    if audit.ceiling is None:
        return f"{read}, {audit.needed} still to be read (--audit goes on)"
    parts = [f"{read}: right in {_span(audit.ceiling)}"]
    if audit.needed:
        parts[0] = f"{read}, {audit.needed} still to be read: {_at_most(audit.ceiling)} right"
    if audit.hard:
        parts.append(f"of {audit.hard} that every try fails, {audit.hard_wrong} wrong")
    if audit.wrong:
        parts.append(f"wrong: {named(audit.wrong)}")
    if audit.unsure:
        parts.append(f"unsure: {named(audit.unsure)}")
    return "; ".join(parts)


def _span(estimate: Estimate) -> str:
    mean, low, high = (percent(x) for x in (estimate.mean, estimate.lower, estimate.upper))
    return f"{mean} ({low} to {high})"


def _at_most(estimate: Estimate) -> str:
    return f"at most {percent(estimate.upper)} can be"


def named(cases: Sequence[str], *, most: int = NAMED) -> str:
    """Return the first names, and how many more there are."""
    if len(cases) <= most:
        return listed(cases)
    return f"{', '.join(cases[:most])} and {len(cases) - most} more"

"""Finds the shortest prompt that is not worse, for a candidate as it is. Knows no files.

Parts are removed one by one, that first whose removal alone did least harm, and each shorter
prompt is compared with the whole one on dev, paired. The error of 5 % is shared by all the
comparisons that could be made, so that looking often buys nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.anatomy import Part, removable, without
from harness.core.bounds import korn_graubard
from harness.core.words import count
from harness.engine.anatomy import TokenCounter, paired
from harness.engine.unrecorded import Measured, Variants
from harness.errors import NotEnoughEvidence, UsageError
from harness.records import Estimate, Prompt

ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One shorter prompt that was compared: without `part` too. `delta` is against the whole."""

    part: Part
    delta: Estimate
    is_kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Slim:
    """What came of it. `prompt` is the shortest one shown not worse by `margin`, None where no
    part could go; tokens are means a case, `counted` says how they were counted.
    """

    prompt: Prompt | None
    steps: tuple[Step, ...]
    left: tuple[Part, ...]
    delta: Estimate | None
    tokens_before: float
    tokens_after: float
    counted: str
    margin: float
    looks: int

    @property
    def alpha(self) -> float:
        """The error rate of each comparison."""
        return ALPHA / self.looks


def slim(variants: Variants, *, margin: float) -> Slim:
    """Return the shortest prompt that is not worse than the candidate's own by `margin`.

    Raises UsageError for a prompt without a removable part, and NotEnoughEvidence, before anything
    is asked, where not even the same replies could show it on these cases.
    """
    whole = variants.prompt
    parts = removable(whole)
    if not parts:
        raise UsageError(
            f"prompt {whole.name!r} has no part that can be removed: every paragraph is filled in "
            "from the case"
        )
    looks = len(parts)
    _enough(variants, margin=margin, looks=looks)
    singles = {p.number: s for p in parts if (s := without(whole, {p.number}, name=whole.name))}
    first, *others = variants.measure([whole, *singles.values()])
    alone = {
        number: paired(variants, one, first, alpha=ALPHA / looks)
        for number, one in zip(singles, others, strict=True)
    }
    counter = TokenCounter(variants)
    counter.calibrate(first)
    before = counter.tokens(whole)
    saved = {number: before - counter.tokens(shorter) for number, shorter in singles.items()}
    mine = [p for p in parts if p.number in singles and saved[p.number] > 0]
    order = sorted(mine, key=lambda p: (-alone[p.number].mean, -saved[p.number], p.number))
    best, delta, gone, steps = _removed(
        variants, first, order, alone=alone, margin=margin, looks=looks
    )
    tried = {s.part.number for s in steps}
    return Slim(
        prompt=best,
        steps=tuple(steps),
        left=tuple(p for p in parts if p.number not in tried | gone),
        delta=delta,
        tokens_before=before,
        tokens_after=before if best is None else counter.tokens(best),
        counted=counter.counted,
        margin=margin,
        looks=looks,
    )


def _removed(
    variants: Variants,
    whole: Measured,
    order: list[Part],
    *,
    alone: dict[int, Estimate],
    margin: float,
    looks: int,
) -> tuple[Prompt | None, Estimate | None, set[int], list[Step]]:
    gone: set[int] = set()
    best: Prompt | None = None
    delta: Estimate | None = None
    steps: list[Step] = []
    for part in order:
        if alone[part.number].mean < -margin:
            continue  # its removal alone costs more than may be lost: not worth asking
        shorter = without(whole.prompt, gone | {part.number}, name=whole.prompt.name)
        if shorter is None:
            continue
        found = paired(variants, variants.measure([shorter])[0], whole, alpha=ALPHA / looks)
        is_kept = found.lower > -margin
        steps.append(Step(part=part, delta=found, is_kept=is_kept))
        if is_kept:
            gone.add(part.number)
            best, delta = shorter, found
    return best, delta, gone, steps


def _enough(variants: Variants, *, margin: float, looks: int) -> None:
    """Raise NotEnoughEvidence where not even unchanged cases could exclude a loss of `margin`."""
    clusters = len({c.cluster or c.id for c in variants.task.split("dev")})
    least = _loss(clusters, alpha=ALPHA / looks)
    if least < margin:
        return
    need = clusters_for(margin, looks=looks)
    raise NotEnoughEvidence(
        f"{count(clusters, 'cluster')} of dev cases cannot exclude a loss of {100 * margin:g} "
        f"points over {count(looks, 'comparison')}, even if no case changed; at best they "
        f"exclude one of {100 * least:.1f} points. About {need} clusters could; or say how much "
        f"may be lost: --margin {min(least * 1.5, 0.99):.2f}. Nothing was asked."
    )


def clusters_for(margin: float, *, looks: int) -> int:
    """Return how many clusters could exclude a loss of `margin` where no case changed."""
    enough = 2
    while _loss(enough, alpha=ALPHA / looks) >= margin:
        enough *= 2
    few = enough // 2
    while enough - few > 1:
        middle = (enough + few) // 2
        if _loss(middle, alpha=ALPHA / looks) >= margin:
            few = middle
        else:
            enough = middle
    return enough


def _loss(clusters: int, *, alpha: float) -> float:
    _, upper = korn_graubard(0.0, 0.0, groups=clusters, alpha=alpha)
    return float(upper[0])

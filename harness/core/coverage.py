"""Were enough kinds of prompt tried? Knows families, waivers and profiles; no scores.

A wall speaks only of the families that were tried, so some must be. A waived family is excused,
with its reason printed; it does not count among the five.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.core.words import count, listed
from harness.errors import UsageError
from harness.records import FAMILIES

COVERAGE = "coverage"
LABELS = "labels"
"""The waiver that stands in for an audit of the labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How much a wall must rest on, and how far it speaks: `horizon` tries ahead."""

    name: str
    tries: int
    families: int
    tries_each: int

    def horizon(self, tries: int) -> int:
        """Return R. Rule of seven: K failed tries speak for the next K//7 at a joint 4.91 %."""
        return 1 if self.name == "quick" else max(1, tries // 7)


PROFILES = {
    "quick": Profile(name="quick", tries=7, families=5, tries_each=1),
    "standard": Profile(name="standard", tries=14, families=5, tries_each=2),
}


def profile_named(name: str) -> Profile:
    """Return a profile. Raises UsageError that names the known ones."""
    if name not in PROFILES:
        raise UsageError(f"profile {name!r} is not one of {', '.join(PROFILES)}")
    return PROFILES[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What was tried and what is owed. `owed` names families with the tries that each lacks.

    Where most tries (`echoes` of them) gave the very replies of another, `echoed` names the
    families that would have enough tries otherwise: one more prompt is not what they lack.
    """

    tried: Mapping[str, int]
    owed: tuple[str, ...]
    waived: Mapping[str, str]
    families_short: int
    tries_short: int
    text: str
    echoed: tuple[str, ...] = ()
    echoes: int = 0
    is_checked: bool = True

    @property
    def is_complete(self) -> bool:
        """Nothing is owed."""
        return not (self.owed or self.echoed) and self.families_short == 0 and self.tries_short == 0


def check_waivers(waivers: Mapping[str, str]) -> None:
    """Raise UsageError for a waiver of something unknown, or one without a reason."""
    known = (*FAMILIES, LABELS)
    for name, reason in waivers.items():
        if name not in known:
            raise UsageError(f"[waivers] {name!r} is not one of {', '.join(known)}")
        if not reason.strip():
            raise UsageError(f"[waivers] {name} needs a written reason: the verdict prints it")


def judge_coverage(
    families: Sequence[str],
    profile: Profile,
    *,
    waivers: Mapping[str, str] | None = None,
    needs_knowledge: bool = False,
    echoes: Sequence[str] = (),
) -> Coverage:
    """Return what the counted tries (one family each) cover, and what is still owed. `echoes` are
    the families of tries that gave another's replies.
    """
    waivers = waivers or {}
    check_waivers(waivers)
    tried = Counter(families)
    required = [("instructions",), ("few-shot", "dynamic-few-shot"), ("chain-of-thought",)]
    required += [("optimised",)] + ([("rag",)] if needs_knowledge else [])
    owed: list[str] = []
    echoed: list[str] = []
    waived = {}
    again = Counter(echoes)
    for group in required:
        made = sum(tried[family] for family in group)
        excuse = next((family for family in group if family in waivers), None)
        if made >= profile.tries_each:
            continue
        if excuse is not None:
            waived[excuse] = waivers[excuse]
            continue
        lacking = [count(profile.tries_each - made, "more try")] if made else []
        same = sum(again[family] for family in group)
        is_echoed = made + same >= profile.tries_each and len(echoes) >= len(families)
        if same and not is_echoed:
            lacking.append(f"{same} gave the very replies of another try")
        lack = " or ".join(group) + (f" ({', '.join(lacking)})" if lacking else "")
        (echoed if is_echoed else owed).append(lack)
    short = max(profile.families - sum(n >= profile.tries_each for n in tried.values()), 0)
    return Coverage(
        tried={f: tried[f] for f in FAMILIES if tried[f]},
        owed=tuple(owed),
        waived=waived,
        families_short=short,
        tries_short=max(profile.tries - len(families), 0),
        text=_sentence(tried, owed, waived, echoed=echoed, profile=profile, families_short=short),
        echoed=tuple(echoed),
        echoes=len(echoes),
    )


def without_families(coverage: Coverage, profile: Profile, *, tries: int) -> Coverage:
    """Return what is owed where nobody knows of which families the tries are: tries alone."""
    return replace(
        coverage,
        owed=(),
        echoed=(),
        families_short=0,
        is_checked=False,
        text=f"{count(tries, 'distinct try')} ({profile.tries} needed); families not checked: the "
        "scores do not name them",
    )


def owed_words(owed: Sequence[str]) -> str:
    """Return what is asked of families that lack tries; enough others do not stand in for them."""
    return f"still needed, or waived with a reason: {listed(owed)}"


def echoed_words(echoed: Sequence[str]) -> str:
    """Return what came of the families whose tries changed no reply."""
    return f"tried, with the very replies of another try: {listed(echoed)}"


def _sentence(
    tried: Mapping[str, int],
    owed: Sequence[str],
    waived: Mapping[str, str],
    *,
    echoed: Sequence[str],
    profile: Profile,
    families_short: int,
) -> str:
    each = "" if profile.tries_each == 1 else f", {profile.tries_each} tries each"
    made = listed([f"{family} {tried[family]}" for family in FAMILIES if tried[family]])
    parts = [
        f"{count(sum(tried.values()), 'distinct try')} ({profile.tries} needed)",
        f"families: {made or 'none'} ({profile.families} needed{each})",
    ]
    if families_short:
        parts.append(f"{families_short} more needed")
    if owed:
        parts.append(owed_words(owed))
    if echoed:
        parts.append(echoed_words(echoed))
    parts += [f"{name} waived: {reason}" for name, reason in waived.items()]
    return "; ".join(parts).replace(".; ", "; ")  # a reason that a person wrote is a sentence

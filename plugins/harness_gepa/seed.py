"""The prompt that an optimiser begins with, as it tells a model of it. Knows no library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness import BackendError, OptimiseJob, ScoredReply

SECTION = "system"
"""The section that is rewritten."""
MOST_RETURNED = 2
"""A wall of the profile `standard` wants two tries a family."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """The `text` that is rewritten, the `turn` that stays, the marks of the text that are `kept`
    as they are written, in words.
    """

    text: str
    turn: str
    kept: str


def seed_of(job: OptimiseJob) -> Seed:
    """Return the seed prompt of `job`."""
    text = job.sections.get(SECTION, "")
    return Seed(
        text=text,
        turn="\n\n".join(t for name, t in job.sections.items() if name != SECTION),
        kept=", ".join(mark for mark in job.marks if mark in text),
    )


def is_cut_short(found: Sequence[ScoredReply]) -> bool:
    """Tell whether calls or money ended before every reply was there."""
    return any(one.score is None and not one.is_asked for one in found)


def unscored(found: Sequence[ScoredReply], *, who: str) -> BackendError | None:
    """Return the error of `who` asked where no reply at all could be scored."""
    if any(one.score is not None for one in found):
        return None
    why = next((r for one in found for r in one.reasons), "no reason was told")
    return BackendError(f"{who}: none of {len(found)} replies could be scored: {why}")

"""Rules that look at data. Pure: they see rows, and know no file, model or clock.

`lints` makes one of each; `RULES` is what they can report, by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from harness.core.lints.answers import AnswerLint
from harness.core.lints.base import Finding, Lint, Place, Row, Rule
from harness.core.lints.chat import ChatLint
from harness.core.lints.classes import ClassLint
from harness.core.lints.lengths import LengthLint, Measure
from harness.core.lints.numbers import NumberLint
from harness.core.lints.preferences import PreferenceLint
from harness.core.lints.twins import TwinLint
from harness.core.lints.vocabulary import VocabularyLint
from harness.core.spool import Held, Spools
from harness.core.twins import NEAR

KINDS: tuple[type[Lint], ...] = (
    ChatLint,
    TwinLint,
    AnswerLint,
    LengthLint,
    ClassLint,
    NumberLint,
    PreferenceLint,
    VocabularyLint,
)


def lints(
    *,
    near: float = NEAR,
    also: Iterable[tuple[int, int]] = (),
    thresholds: Sequence[float] = (),
    measure: Measure | None = None,
    words: Collection[str] = (),
    pieces: Callable[[str], int] | None = None,
    needs_answers: bool = True,
    spools: Spools = Held,
) -> list[Lint]:
    """Return one of each rule, ready to see rows. `spools` lend room beside memory, `also` are
    pairs of rows to be compared.
    """
    return [
        ChatLint(needs_answers=needs_answers),
        TwinLint(near=near, spools=spools, also=also),
        AnswerLint(),
        LengthLint(measure=measure),
        ClassLint(),
        NumberLint(thresholds=thresholds),
        PreferenceLint(),
        VocabularyLint(words=words, pieces=pieces),
    ]


__all__ = ["KINDS", "Finding", "Lint", "Measure", "Place", "Row", "Rule", "lints"]

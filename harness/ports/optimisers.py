"""What a prompt optimiser must offer, and is given. Knows nothing of who implements it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.records import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredReply:
    """What came of asking one case under one prompt. `score` is the task's primary score in [0, 1],
    None where nothing was measured; `reasons` say why it is not 1. `is_asked` is false where no
    request was made: the budget is spent, or the prompt cannot be filled in (that scores 0).
    """

    case_id: str
    reply: str = ""
    score: float | None = None
    reasons: tuple[str, ...] = ()
    is_asked: bool = True


Sections = Mapping[str, str]
"""The texts of a prompt, by section: `system`, `user`, ...; a role's second one is `user-2`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiseJob:
    """What an optimiser is given: never a case of the test split, nor one with the same inputs.

    * `about` is the task in one sentence; `sections` are the texts of the seed prompt, Jinja
      templates. `marks` are what they fill in, as `{{ question }}`: a prompt must hold each of
      them, and no other. A `system` text may be given though the seed has none.
    * `train` may be shown to `reflect`, references too. `dev` is what prompts are judged by: show
      it to nobody, or the wall will read what the prompt was told.
    * `ask` fills in, asks and scores: pairs of sections and case, one ScoredReply each, in order,
      all at once and from the store where known. Each new pair is one call of the budget.
    * `reflect` asks the reflection model, and returns what it said. Raises BackendError.
    * `calls_left` tells how many calls remain, of `max_calls`; 0 too where the money is spent.
      What is asked for beyond is not asked.
    * `note` tells a person something. `seed` fixes every draw.
    """

    about: str
    sections: Sections
    marks: tuple[str, ...]
    train: tuple[Case, ...]
    dev: tuple[Case, ...]
    ask: Callable[[Sequence[tuple[Sections, Case]]], Sequence[ScoredReply]]
    reflect: Callable[[str], str]
    calls_left: Callable[[], int]
    note: Callable[[str], None]
    max_calls: int
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimisedPrompt:
    """A prompt that an optimiser made. `note` says how, in one line; it stands in the file."""

    sections: Sections
    note: str = ""


class Optimizer(Protocol):
    """Makes prompts out of a prompt. What it makes is run again, as any other try."""

    def optimise(self, job: OptimiseJob) -> Sequence[OptimisedPrompt]:
        """Return the prompts that are worth a try, the best first; none where none was found.

        Raises UsageError where the job cannot be done (too few cases, too small a budget).
        """
        ...


OptimizerFactory = Callable[[], Optimizer]

"""Which trial of which evaluation a pytest item is about. Knows nothing of replies or scores."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.engine.evaluate import Evaluation, TrialId
from harness.records import Case

ARGUMENT = "harness_trial"
"""The fixture that eval items are parametrised by, and all of ours rest on."""
OF_A_CASE = frozenset({"ask", "case", "reply"})
"""The fixtures that make one item a case; without them, one item is about all of a candidate."""


@dataclass(frozen=True, slots=True, eq=False)
class EvalTrial:
    """What one item is about: a trial of an evaluation, or (without a case) all of a candidate's.

    It is the parameter of the item, so that no fixture has to ask pytest where it is: `request`
    costs more than the rest of a cached item.
    """

    evaluation: Evaluation
    id: TrialId

    @property
    def case(self) -> Case:
        """The case as it was read, reference or not."""
        return self.evaluation.cases[self.id.case_id]

    @property
    def title(self) -> str:
        """What stands between the brackets of the item's name."""
        repeat = f"-{self.id.repeat}" if self.id.repeat else ""
        return (
            f"{self.id.candidate}-{self.id.case_id}{repeat}"
            if self.id.case_id
            else (self.id.candidate)
        )


def eval_trial_of(item: pytest.Item) -> EvalTrial | None:
    """Return what an eval item is about, or None for any other test."""
    trial = getattr(item, "trial", None)  # of an `EvalItem`
    if isinstance(trial, EvalTrial):
        return trial
    callspec = getattr(item, "callspec", None)
    found = callspec.params.get(ARGUMENT) if callspec is not None else None
    return found if isinstance(found, EvalTrial) else None  # pytest's NOTSET, of a task in error


def is_dialogue(item: pytest.Item) -> bool:
    """Tell whether an item asks by itself alone: nothing can be fetched for it before it runs."""
    names = getattr(item, "fixturenames", ())
    return "ask" in names and "reply" not in names

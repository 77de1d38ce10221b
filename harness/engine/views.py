"""What an eval function is given. Knows nothing of who runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from harness.errors import HarnessError
from harness.records import Case, Reply


class NoReference(HarnessError):
    """An eval read the reference of a case that has none: its score is None, not a fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialView:
    """A case and the reply to it, as an aggregate eval sees them."""

    case: Case
    reply: Reply
    repeat: int = 0


class _CaseWithoutReference:
    """A case whose `reference` cannot be read."""

    __slots__ = ("_case",)

    def __init__(self, case: Case) -> None:
        self._case = case

    @property
    def reference(self) -> Any:
        raise NoReference("no reference")

    @property
    def reference_text(self) -> Any:
        raise NoReference("no reference")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._case, name)

    def __repr__(self) -> str:
        return repr(self._case)


def eval_case(case: Case) -> Case:
    """Return `case` as an eval sees it: reading an absent reference leaves the score out."""
    return case if case.reference is not None else cast(Case, _CaseWithoutReference(case))

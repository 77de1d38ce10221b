"""Where a task's cases are thin: slices and classes with few of them, or none. Knows no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.core.shapes import shape_of
from harness.core.synth_origin import ORIGIN_TAGS
from harness.records import Case, Json

LEAST = 10
"""Fewer cases than this tell nothing of a slice."""
NO_SLICES = ORIGIN_TAGS | {"internal"}
"""Tags that say how a case came to be, or where it may go: no slice of what is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """A tag or a class with `have` cases where `want` are wanted."""

    kind: Literal["tag", "class"]
    name: str
    have: int
    want: int

    @property
    def text(self) -> str:
        """What is lacking, in words."""
        return f"{self.kind} {self.name}: {self.have} of {self.want}"


def classes_of(cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the classes that the references are drawn from; none where they are no classes."""
    some = [c for c in cases if c.reference is not None]
    shape = shape_of([c.reference for c in some], [c.cluster or c.id for c in some], is_train=True)
    if not shape.answer_key or not isinstance(shape.schema, dict):
        return ()
    return tuple(shape.schema["properties"][shape.answer_key].get("enum", ()))


def find_holes(
    cases: Sequence[Case], *, known: Sequence[Json] = (), least: int = LEAST
) -> list[Hole]:
    """Return the thin places of `cases`, the emptiest first. `known` are classes that a schema
    names, seen or not; tags of other splits count as known by the caller's adding of cases.
    """
    tags = Counter(t for c in cases for t in set(c.tags) if t not in NO_SLICES)
    answers = Counter(c.reference for c in cases if isinstance(c.reference, str))
    # a class is one that some schema names, or one of few answers that many cases share
    named = [k for k in known if isinstance(k, str)]
    classes = dict.fromkeys([*named, *classes_of(cases), *_shared(answers)])
    found = [
        Hole(kind="class", name=name, have=answers[name], want=least)
        for name in classes
        if answers[name] < least
    ]
    found += [Hole(kind="tag", name=t, have=n, want=least) for t, n in tags.items() if n < least]
    return sorted(found, key=lambda h: (h.have, h.kind, h.name))


def _shared(answers: Counter[str]) -> Collection[str]:
    """Return short answers, rare ones too, where most cases share theirs with others."""
    total = sum(answers.values())
    shared = sum(n for n in answers.values() if n >= 3)
    if not total or shared < 0.8 * total or len(answers) > max(2, total // 5):
        return ()
    return [a for a in answers if len(a) <= 60 and "\n" not in a]


def belongs(case: Case, hole: Hole) -> bool:
    """Tell whether a case is one of those that `hole` lacks."""
    return hole.name in case.tags if hole.kind == "tag" else case.reference == hole.name

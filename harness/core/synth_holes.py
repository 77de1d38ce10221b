"""Where a task's cases are thin: slices and classes with few of them, or none. Knows no model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.core.lints.classes import LEAST_ROWS, LONGEST
from harness.core.shapes import shape_of
from harness.core.synth_origin import ORIGIN_TAGS
from harness.records import Case, Json

LEAST = 10
"""Fewer cases than this tell nothing of a slice."""
NO_SLICES = ORIGIN_TAGS | {"internal"}
"""Tags that say how a case came to be, or where it may go: no slice of what is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """A tag or a class with `have` cases where `want` are wanted. `key` is where in an answer that
    is an object the class stands.
    """

    kind: Literal["tag", "class"]
    name: str
    have: int
    want: int
    key: str = ""

    @property
    def called(self) -> str:
        """Its kind and name, in words."""
        return f"{self.kind} {self.key}={self.name}" if self.key else f"{self.kind} {self.name}"

    @property
    def text(self) -> str:
        """What is lacking, in words."""
        return f"{self.called}: {self.have} of {self.want}"


Labels = Mapping[str, Sequence[str]]
"""Labels by where they stand: a key of answers that are objects, or "" for the answer itself."""


def labels_of(cases: Sequence[Case], *, shown: Collection[str]) -> Labels:
    """Return the labels of answers, as the lints tell them: short texts that come back four times
    on average. All cases say whether there are labels; named are those of the splits in `shown`.
    """
    counts: dict[str, Counter[str]] = {}
    named: dict[str, dict[str, None]] = {}
    for case in cases:
        for key, label in _texts_in(case.reference):
            counts.setdefault(key, Counter())[label] += 1
            if case.split in shown:
                named.setdefault(key, {})[label] = None
    return {
        key: tuple(sorted(named[key]))
        for key, found in counts.items()
        if key in named
        and found.total() >= LEAST_ROWS
        and 2 <= len(found) <= found.total() / 4
        and max(map(len, found)) <= LONGEST
    }


def _texts_in(reference: Json) -> Iterator[tuple[str, str]]:
    """Yield what may be a label in an answer, with the key of an object that it stands at."""
    inside = object_in(reference)
    if inside is not None:
        yield from ((k, v) for k, v in inside.items() if isinstance(v, str) and v.strip())
    elif isinstance(reference, str) and reference.strip():
        yield "", reference


def object_in(reference: Json) -> Mapping[str, Json] | None:
    """Return an answer that is an object, or text that holds one; None for any other."""
    if isinstance(reference, str) and reference.lstrip().startswith("{"):
        try:
            reference = json.loads(reference)
        except (ValueError, RecursionError):
            return None
    return reference if isinstance(reference, Mapping) else None


def classes_of(cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the classes that the references are drawn from; none where they are no classes."""
    some = [c for c in cases if c.reference is not None]
    shape = shape_of([c.reference for c in some], [c.cluster or c.id for c in some], is_train=True)
    if not shape.answer_key or not isinstance(shape.schema, dict):
        return ()
    return tuple(shape.schema["properties"][shape.answer_key].get("enum", ()))


_NO_LABELS: Labels = {}


def find_holes(
    cases: Sequence[Case],
    *,
    known: Sequence[Json] = (),
    labels: Labels = _NO_LABELS,
    least: int = LEAST,
) -> list[Hole]:
    """Return the thin places of `cases`, the emptiest first. `known` are classes that a schema
    names, `labels` those that the whole task's answers show, seen in these cases or not.
    """
    tags = Counter(t for c in cases for t in set(c.tags) if t not in NO_SLICES)
    answers = Counter(c.reference for c in cases if isinstance(c.reference, str))
    # a class is one that some schema names, or one of few answers that many cases share
    named = [k for k in known if isinstance(k, str)]
    classes = dict.fromkeys([*named, *labels.get("", ()), *classes_of(cases), *_shared(answers)])
    found = [
        Hole(kind="class", name=name, have=answers[name], want=least)
        for name in classes
        if answers[name] < least
    ]
    for key, names in labels.items():
        seen = Counter(label for c in cases for k, label in _texts_in(c.reference) if k == key)
        found += [
            Hole(kind="class", name=name, have=seen[name], want=least, key=key)
            for name in names
            if key and seen[name] < least
        ]
    found += [Hole(kind="tag", name=t, have=n, want=least) for t, n in tags.items() if n < least]
    return sorted(found, key=lambda h: (h.have, h.kind, h.key, h.name))


def _shared(answers: Counter[str]) -> Collection[str]:
    """Return short answers, rare ones too, where most cases share theirs with others."""
    total = sum(answers.values())
    shared = sum(n for n in answers.values() if n >= 3)
    if not total or shared < 0.8 * total or len(answers) > max(2, total // 5):
        return ()
    return [a for a in answers if len(a) <= 60 and "\n" not in a]


def belongs(case: Case, hole: Hole) -> bool:
    """Tell whether a case is one of those that `hole` lacks."""
    if hole.kind == "tag":
        return hole.name in case.tags
    if not hole.key:
        return bool(case.reference == hole.name)
    inside = object_in(case.reference)
    return inside is not None and bool(inside.get(hole.key) == hole.name)

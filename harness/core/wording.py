"""Which words of a row are its own, and which many rows share. Knows no file and no rule.

A question about a table stands beside the table's columns, one about a passage beside the
passage: by all their words such rows are nearly the same, and they ask different things. So inputs
whose values recur from row to row are context: two rows are nearly the same only where their
context is equal and the rest is near. System messages are no one's own words.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.core.examples import Example
from harness.core.near import plain_text
from harness.records import Json, canonical_json

_ONE_WORD = re.compile(r"\S*[/\\._@#=\d]\S*")
_SEEN = re.compile(r"[^\s\u00ad\u200b-\u200f\u2060\ufeff]")
LEAST_ROWS = 20
FIRST = 2000
"""Rows from which is told which inputs are context."""
RECURS = 0.5
"""An input is context where fewer than so many of its values (a share) are different ones."""


@dataclass(frozen=True, slots=True)
class Wording:
    """The inputs that are context, by name."""

    context: frozenset[str] = frozenset()

    def parts(self, example: Example) -> tuple[str, str]:
        """Return the row's own words, and its context."""
        inputs = sorted((k, v) for k, v in example.inputs.items() if k not in example.pictured)
        own = [
            _labelled(key, value, alone=len(inputs) == 1)
            for key, value in inputs
            if key not in self.context
        ]
        own += [m.content for m in example.messages if m.role != "system" and m.content]
        context = [_labelled(key, value) for key, value in inputs if key in self.context]
        if not own:  # nothing but what recurs: then that is what is asked
            own, context = context, []
        if not own:
            own = [m.content for m in example.messages]
        return "\n".join(own), "\n".join(context)


def _labelled(key: str, value: Json, *, alone: bool = False) -> str:
    text = plain_text(value)
    return text if alone else f"{key}: {text}"


def wording_of(examples: Iterable[Example]) -> Wording:
    """Return what recurs in these rows: the first few thousand of a set tell enough."""
    values: dict[str, set[int]] = defaultdict(set)
    counts: dict[str, int] = defaultdict(int)
    for example in examples:
        for key, value in example.inputs.items():
            if key in example.pictured:
                continue
            counts[key] += 1
            values[key].add(hash(value if isinstance(value, str) else canonical_json(value)))
    context = {
        key
        for key, count in counts.items()
        if count >= LEAST_ROWS and len(values[key]) < RECURS * count
    }
    return Wording(frozenset(context) if len(context) < len(counts) else frozenset())


def texts_of(example: Example) -> Iterator[str]:
    """Yield what people wrote: the texts of inputs and turns, without names of inputs, and without
    values that are one long word, as paths and digests are.
    """
    for value in example.inputs.values():
        yield from _texts(value)
    yield from (m.content for m in example.messages if m.role != "system")


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        if not _ONE_WORD.fullmatch(value):
            yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def says_something(value: Json) -> bool:
    """Whether a reader would see anything of a value: a zero, but no invisible sign."""
    if isinstance(value, str):
        return _SEEN.search(value) is not None
    if isinstance(value, dict):
        return any(says_something(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return any(says_something(inner) for inner in value)
    return value is not None


def answer_text(example: Example) -> str | None:
    """Return an answer as a reply would say it: text, compact JSON, calls; None for none."""
    parts = []
    if example.reference is not None:
        reference = example.reference
        parts.append(reference if isinstance(reference, str) else compact(reference))
    if example.calls:
        parts.append(compact(list(example.calls)))
    return "\n".join(parts) if parts else None


def rejected_text(example: Example) -> str | None:
    """Return the worse answer as a reply would say it; of messages, what they say."""
    rejected = example.rejected
    if rejected is None or isinstance(rejected, str):
        return rejected
    return compact(rejected)


def compact(value: Json) -> str:
    """Return a value as compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

"""Rows to read, and what all rows are like: gathered in one pass, in flat memory. Shows nothing.

Rows of the sealed test split are counted; unless they were asked for, none is shown, and none
enters what is said of the fields.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from harness.core.examples import Example
from harness.core.fields import CLASSES, Fields, Sample
from harness.records import SPLITS, Json

SEALED = "test"
MOST_CLUSTERS = 200_000
"""Clusters and inputs that are told apart in a file; beyond, their number is "at least"."""
Flags = Mapping[str, tuple[str, ...]]
"""What lints said of rows, by place (`file:line`)."""


@dataclass(slots=True)
class Part:
    """Counts of one split; "" is that of rows without one."""

    cases: int = 0
    references: int = 0
    clustered: int = 0
    clusters: set[int] = field(default_factory=set)
    inputs: set[int] = field(default_factory=set)
    same_inputs: int = 0
    asked: Sample = field(default_factory=Sample)
    answered: Sample = field(default_factory=Sample)
    tags: Counter[str] = field(default_factory=Counter)

    def see(self, example: Example) -> None:
        """Take one row."""
        self.cases += 1
        asked = asked_text(example)
        self.asked.see(_size(example))
        if example.cluster:
            self.clustered += 1
            if len(self.clusters) < MOST_CLUSTERS:
                self.clusters.add(hash(example.cluster))
        if len(self.inputs) < MOST_CLUSTERS:
            seen = hashlib.blake2b(asked.encode("utf-8", "surrogatepass"), digest_size=8)
            for image in (*example.images, *(i for m in example.messages for i in m.images)):
                seen.update(image.encode("utf-8", "surrogatepass"))
            code = int.from_bytes(seen.digest())
            self.same_inputs += code in self.inputs
            self.inputs.add(code)
        if example.reference is not None or example.calls:
            self.references += 1
            self.answered.see(len(_text(example.reference)))
        for tag in example.tags:
            if tag in self.tags or len(self.tags) < CLASSES:
                self.tags[tag] += 1

    def facts(self) -> dict[str, Json]:
        """Return the counts as plain data. A row without a cluster is one of its own."""
        return {
            "cases": self.cases,
            "clusters": len(self.clusters) + self.cases - self.clustered,
            "references": self.references,
            "input_characters": int(self.asked.quantile(0.5)) if self.asked.count else 0,
            "reference_characters": int(self.answered.quantile(0.5)) if self.answered.count else 0,
            "same_inputs": self.same_inputs,
            "tags": dict(self.tags.most_common(12)),
        }


@dataclass(slots=True, kw_only=True)
class Look:
    """What there is to see. `sealed` counts rows of the test split that stay closed."""

    rows: list[Example]
    parts: dict[str, Part]
    fields: Fields
    described: int
    sealed: int = 0


def asked_text(example: Example) -> str:
    """Return all that is asked as one text, the same for the same inputs."""
    inputs = json.dumps(dict(example.inputs), ensure_ascii=False, sort_keys=True)
    if not example.messages:
        return inputs
    turns = "\n".join(f"{m.role}: {m.content}" for m in example.messages)
    return f"{inputs}\n{turns}" if example.inputs else turns


def _size(example: Example) -> int:
    """Return the characters of what is asked: of values and turns, not of what holds them."""
    turns = sum(len(m.content) for m in example.messages)
    return turns + sum(len(_text(value)) for value in example.inputs.values())


def _text(value: Json) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def gather(
    examples: Iterable[Example],
    *,
    rows: int,
    seed: int = 0,
    split: str | None = None,
    splits: tuple[str, ...] = (),
    chosen: Flags | None = None,
    tick: Callable[[int], None] | None = None,
) -> Look:
    """Return `rows` rows, drawn at random by `seed`, and the facts about all of them.

    With `chosen`, rows of these places come first, as they stand there. `splits` are told of even
    where they have no row. `tick` is called now and then with how many rows were read.
    """
    draws = random.Random(seed)
    drawn: list[Example] = []
    first: dict[str, Example] = {}
    parts: dict[str, Part] = {name: Part() for name in splits}
    fields = Fields()
    described = sealed = 0
    for number, example in enumerate(examples, start=1):
        if tick is not None and number % 1000 == 0:
            tick(number)
        parts.setdefault(example.split, Part()).see(example)
        if split is not None and example.split != split:
            continue
        if split is None and example.split == SEALED:
            sealed += 1
            continue
        described += 1
        fields.see(example)
        if chosen is not None and example.place in chosen and len(first) < len(chosen):
            first.setdefault(example.place, example)
        elif len(drawn) < rows:
            drawn.append(example)
        elif rows and (place := draws.randrange(described)) < rows:
            drawn[place] = example
    draws.shuffle(drawn)
    ahead = [first[place] for place in chosen or () if place in first]
    known = [s for s in (*SPLITS, *sorted(parts)) if s in parts]
    return Look(
        rows=[*ahead, *drawn][:rows],
        parts={name: parts[name] for name in dict.fromkeys(known)},
        fields=fields,
        described=described,
        sealed=sealed,
    )

"""Answers that are one of few labels: how many of each, and which are never learned."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from harness.core.lints.base import Finding, Lint, Place, Row, Rule
from harness.core.near import normalised
from harness.core.words import count, percent
from harness.records import Json

MOST = 2000
"""Different answers beyond which they are no labels."""
COLUMNS = 200
"""Columns of answers that are looked at: an answer whose keys are data has no columns."""
LONGEST = 60
"""Characters of a label, at most."""
STRAY = 3
STRAY_SHARE = 0.02
"""Longer answers, and their share, that do not make the others free text."""
LEAST_ROWS = 20
RARE = 5
MAJORITY = 0.9


class ClassLint(Lint):
    """Finds labels that are rare, missing in train, or written in two ways."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="unseen-class",
            severity="warn",
            about="A label stands in dev or test and never in train: a tuned model cannot have "
            "learned it, and examples of prompts never show it.",
            fix="Collect rows of it for train, or split anew: harness data split --by answer.",
        ),
        Rule(
            name="class-spelling",
            severity="error",
            about="Two labels differ in case, spacing or closing punctuation alone.",
            fix="Write them one way.",
        ),
        Rule(
            name="class-balance",
            severity="warn",
            about="Nine answers in ten are one label: who always gives it scores 90 %.",
            fix="Report the constant baseline (constant:LABEL is a candidate), score by class, and "
            "collect more of the others.",
        ),
        Rule(
            name="rare-class",
            severity="note",
            about="A label has fewer than five rows: neither training nor a score by class can say "
            "much about it.",
            fix="Collect more, or join it with another.",
        ),
    )

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, Counter[str]]] = {}
        self._first: dict[str, dict[str, Place]] = defaultdict(dict)
        self._rows: Counter[str] = Counter()
        self._long: Counter[str] = Counter()
        self._over: set[str] = set()

    def see(self, row: Row) -> None:
        """Count the row's labels."""
        if row.example.rejected is not None:
            return
        for name, label in labels_in("reference", row.example.reference):
            if name in self._over or (name not in self._counts and len(self._counts) >= COLUMNS):
                continue
            splits = self._counts.setdefault(name, {})
            self._rows[name] += 1
            if len(label) > LONGEST:
                self._long[name] += 1
                continue
            counts = splits.setdefault(row.example.split, Counter())
            counts[label] += 1
            self._first[name].setdefault(label, row.place)
            if len(self._first[name]) > MOST:
                self._over.add(name)
                del self._counts[name], self._first[name]

    def findings(self) -> Iterable[Finding]:
        """Return what was found of each column of labels."""
        for name, splits in self._counts.items():
            # one text among labels is a fault of its row; many are the kind of the answers
            if self._long[name] > max(STRAY, STRAY_SHARE * self._rows[name]):
                continue
            total: Counter[str] = Counter()
            for counts in splits.values():
                total.update(counts)
            rows = sum(total.values())
            if rows < LEAST_ROWS or len(total) < 2 or len(total) > rows / 4:
                continue
            yield from self._of_column(name, splits, total)

    def _of_column(
        self, name: str, splits: Mapping[str, Counter[str]], total: Counter[str]
    ) -> Iterator[Finding]:
        first, rows = self._first[name], sum(total.values())
        if "train" in splits:
            held_out = {label for split in ("dev", "test") for label in splits.get(split, ())}
            unseen = sorted(held_out - splits["train"].keys())
            if unseen:
                yield self.found(
                    "unseen-class",
                    f"{name}: {len(unseen)} of {count(len(total), 'label')} never in train",
                    count=len(unseen),
                    rows=[first[label].told(label) for label in unseen],
                )
        spellings: dict[str, list[str]] = defaultdict(list)
        for label in total:
            spellings[normalised(label)].append(label)
        several = [sorted(found) for found in spellings.values() if len(found) > 1]
        if several:
            groups = [
                [first[label].told(f"{label!r}, {count(total[label], 'row')}") for label in one]
                for one in several
            ]
            yield self.found(
                "class-spelling",
                f"{name}: {count(len(several), 'label')} written in more than one way",
                rows=[p for g in groups for p in g],
                groups=groups,
            )
        label, most = total.most_common(1)[0]
        if most / rows >= MAJORITY:
            yield self.found(
                "class-balance",
                f"{name}: {percent(most / rows, digits=0)} of {rows} answers are {label!r}",
                count=most,
            )
        rare = sorted((label for label, n in total.items() if n < RARE), key=lambda x: total[x])
        if rare:
            yield self.found(
                "rare-class",
                f"{name}: {len(rare)} of {count(len(total), 'label')} with fewer than {RARE} rows",
                count=len(rare),
                rows=[first[x].told(f"{x}: {total[x]}") for x in rare],
            )


def labels_in(name: str, value: Json) -> Iterator[tuple[str, str]]:
    """Yield what may be labels in an answer, with the column they stand in."""
    if isinstance(value, str):
        if value.strip():
            yield name, value
    elif isinstance(value, bool):
        yield name, str(value).lower()
    elif isinstance(value, list | tuple):
        if all(isinstance(one, str) for one in value):
            for one in dict.fromkeys(value):
                yield f"{name}[]", one
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, str | bool):
                yield from labels_in(f"{name}.{key}", inner)

"""What a rule is, what it finds, and a row as rules see it. Knows no rule and no file.

A rule sees every row once, in order, keeps what it needs in flat memory, and tells what it found.
One that must see some rows again (their words, their names) asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.core.examples import Example
from harness.core.near import normalised
from harness.core.wording import Wording, answer_text

Severity = Literal["error", "warn", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warn", "note")
KEPT = 1000
"""Rows (or groups of them) that a finding names; it counts all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is looked for. `about` says what it is and when it is no fault, `fix` what to do."""

    name: str
    severity: Severity
    about: str
    fix: str


@dataclass(frozen=True, slots=True)
class Place:
    """A row, for people: its id (where it has one), its `file:line`, and what is wrong with it."""

    id: str
    place: str
    detail: str = ""

    def told(self, detail: str) -> Place:
        """The row, with what is wrong with it."""
        return Place(self.id, self.place, detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rule found. `count` rows are concerned; the first of them are in `rows`, or in
    `groups` where they belong together. A finding about the whole set names no row.
    """

    rule: str
    severity: Severity
    message: str
    fix: str
    count: int = 0
    rows: tuple[Place, ...] = ()
    groups: tuple[tuple[Place, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One example, numbered from 0, with the texts that several rules read.

    `asked` is all that is asked, without system messages; `content` the part of it that is not
    shared by many rows, normalised; `context` the rest. `answer` is the answer as a reply would
    say it, None where there is none.
    """

    number: int
    example: Example
    asked: str
    content: str
    context: str
    answer: str | None

    @property
    def place(self) -> Place:
        """The row, for people."""
        return Place(self.example.id, self.example.place)

    def told(self, detail: str) -> Place:
        """The row, with what is wrong with it."""
        return Place(self.example.id, self.example.place, detail)


def row_of(number: int, example: Example, wording: Wording) -> Row:
    """Return an example as rules see it."""
    content, context = wording.parts(example)
    return Row(
        number=number,
        example=example,
        asked=f"{context}\n{content}" if context else content,
        content=normalised(content),
        context=context,
        answer=answer_text(example),
    )


class Lint:
    """Base of the rules. `rules` are those that it can report."""

    rules: ClassVar[tuple[Rule, ...]] = ()

    def see(self, row: Row) -> None:
        """Look at a row, for the first time."""

    def wanted(self) -> Iterable[int]:
        """Return the numbers of the rows that must be seen again, after all were seen."""
        return ()

    def again(self, row: Row) -> None:
        """Look again at a row that was wanted; rows come in their order."""

    def findings(self) -> Iterable[Finding]:
        """Return what was found."""
        return ()

    def rule(self, name: str) -> Rule:
        """Return one of the own rules."""
        return next(r for r in self.rules if r.name == name)

    def found(
        self,
        name: str,
        message: str,
        *,
        count: int = 0,
        rows: Sequence[Place] = (),
        groups: Sequence[Sequence[Place]] = (),
        severity: Severity | None = None,
    ) -> Finding:
        """Return a finding of one's own rule."""
        rule = self.rule(name)
        return Finding(
            rule=name,
            severity=severity or rule.severity,
            message=message,
            fix=rule.fix,
            count=count or len(rows),
            rows=tuple(rows[:KEPT]),
            groups=tuple(tuple(g) for g in groups[:KEPT]),
        )


class Hits:
    """Rows that a rule found wrong: the first are kept, all are counted."""

    def __init__(self) -> None:
        self.count = 0
        self.rows: list[Place] = []

    def add(self, row: Row, detail: str = "") -> None:
        """Count one more."""
        self.count += 1
        if len(self.rows) < KEPT:
            self.rows.append(row.told(detail))

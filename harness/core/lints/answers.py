"""Answers that teach nothing: empty ones, and copies of the question."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

from harness.core.examples import Example
from harness.core.lints.base import Finding, Hits, Lint, Row, Rule
from harness.core.lints.chat import calling_turns
from harness.core.near import normalised
from harness.core.wording import rejected_text, says_something
from harness.core.words import count

_STAND_INS = """
    n/a n.a na none null nil nan undefined tbd tbc todo fixme xxx
    - -- --- – — #n/a #ref #value #name #num #null #div/0
"""
BLANK = frozenset(_STAND_INS.split())
"""What people and programs write where there is nothing, as `normalised` leaves it."""
_BRACKETED = BLANK | {"empty", "blank", "deleted", "removed"}
_TO_WRITE = re.compile(r"(?:todo|tbd|fixme): .{0,40}|lorem ipsum\b.*", re.DOTALL)
LEAST_COPY = 8
"""Characters from which an answer that repeats the question is a copy: short ones may be right."""


class AnswerLint(Lint):
    """Finds rows without a question or an answer, and answers that are the question."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="empty-input",
            severity="error",
            about="A row asks nothing: every input is empty.",
            fix="Fill the input, or remove the row.",
        ),
        Rule(
            name="empty-answer",
            severity="error",
            about="The answer is there and says nothing: blank, an empty object, or a stand-in as "
            "`n/a`, `TODO`, `#N/A`. It is a warning alone where such answers are a class of their "
            "own (one in twenty, or more), or empty lists and objects.",
            fix="Write the answer, or leave the reference out: a row without one is not trained.",
        ),
        Rule(
            name="no-answer",
            severity="note",
            about="Some rows of the set have an answer and others have none. Those are neither "
            "trained nor scored against a reference.",
            fix="Fill them, or keep them apart.",
        ),
        Rule(
            name="copied-answer",
            severity="warn",
            about="The answer is the question again, word for word, or holds all of it (of a "
            "question of 80 characters or more). Where the task is to correct a text, it may be "
            "right.",
            fix="Check how the set was exported: a column may stand twice.",
        ),
    )

    def __init__(self) -> None:
        self._empty, self._blank, self._copied, self._none = Hits(), Hits(), Hits(), Hits()
        self._answered = self._rows = 0
        self._is_text = False

    def see(self, row: Row) -> None:
        """Look at question and answer."""
        self._rows += 1
        example = row.example
        if not _asks(example):
            self._empty.add(row)
        if row.answer is None:
            self._none.add(row)
            return
        self._answered += 1
        answer = normalised(row.answer)
        is_blank = is_stand_in(answer) or row.answer in {"{}", "[]", '""'}
        if is_blank and len(example.messages) not in calling_turns(example):
            self._blank.add(row, repr(row.answer[:20]))
            self._is_text |= isinstance(example.reference, str)
        elif len(answer) >= LEAST_COPY and rejected_text(example) is None:
            if answer == row.content:
                self._copied.add(row, "the answer is the question")
            elif len(row.content) >= 80 and row.content in answer:
                self._copied.add(row, "the answer holds the whole question")

    def findings(self) -> Iterable[Finding]:
        """Return what was found."""
        if self._empty.count:
            text = f"{count(self._empty.count, 'row')} without a question"
            yield self.found("empty-input", text, count=self._empty.count, rows=self._empty.rows)
        if self._blank.count:
            share = self._blank.count / self._rows
            yield self.found(
                "empty-answer",
                f"{count(self._blank.count, 'answer')} without content",
                count=self._blank.count,
                rows=self._blank.rows,
                severity="warn"
                if not self._is_text or (share >= 0.05 and self._blank.count >= 10)
                else "error",
            )
        if self._none.count and self._answered:
            yield self.found(
                "no-answer",
                f"{self._none.count} of {self._rows} rows without an answer",
                count=self._none.count,
                rows=self._none.rows,
            )
        if self._copied.count:
            yield self.found(
                "copied-answer",
                f"{count(self._copied.count, 'answer')} equal to the question",
                count=self._copied.count,
                rows=self._copied.rows,
            )


def _asks(example: Example) -> bool:
    """Whether a row asks anything; a system message asks where it is all that there is."""
    if any(says_something(value) for value in example.inputs.values()):
        return True
    if example.images or any(m.images for m in example.messages):
        return True
    told = (m.content for m in example.messages if m.role != "system" or not example.inputs)
    return any(says_something(text) for text in told)


def is_stand_in(answer: str) -> bool:
    """Whether a normalised answer says nothing."""
    if answer in BLANK or not says_something(answer) or _TO_WRITE.fullmatch(answer):
        return True
    is_bracketed = answer[:1] + answer[-1:] in {"()", "[]", "<>"}
    return is_bracketed and answer[1:-1].strip() in _BRACKETED

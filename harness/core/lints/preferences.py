"""Traps of preference rows, as DPO falls into them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from harness.core.lints.base import KEPT, Finding, Hits, Lint, Place, Row, Rule
from harness.core.near import normalised
from harness.core.wording import rejected_text
from harness.core.words import count, percent

_TURN = re.compile(
    r"(?m:^)[ \t>*_#]*(?:user|human|customer)[*_ \t]*:|(?m:^)#+[ \t]*instruction[ \t]*:"
    r"|<\|(?:im_start|start_header_id)\|>user|<\|user\|>|<start_of_turn>user",
    re.IGNORECASE,
)
LEAST_PROMPT = 20
"""Characters of a prompt that begins two answers by no chance; a shorter one must stand there sign
for sign, and have three words: thanks are answered with thanks.
"""
LEAST_PAIRS = 20
SHOWN = 0.01
"""One set in a hundred without a bias may be called biased: many sets are linted."""


class PreferenceLint(Lint):
    """Finds what makes a preference teach something else than was meant."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="same-pair",
            severity="error",
            about="The better and the worse answer are the same: the loss is a constant.",
            fix="Remove the row.",
        ),
        Rule(
            name="length-bias",
            severity="warn",
            about="The better answer is the longer (or the shorter) one so often that length alone "
            "tells which it is: the 99 % interval of its share (exact binomial) leaves out a half, "
            "and the share is 60 % or more. DPO then learns length.",
            fix="Report a length-only baseline beside every result; balance the pairs, or train "
            "with a length penalty.",
        ),
        Rule(
            name="prompt-in-answer",
            severity="error",
            about="Both answers begin with the prompt. Trainers put the prompt before them: it "
            "would stand there twice.",
            fix="Keep prompt, chosen and rejected apart, explicitly.",
        ),
        Rule(
            name="user-in-rejected",
            severity="error",
            about="The worse answer holds a turn of the user, as a role (or, a warning, as text: "
            "`User:`, `<|im_start|>user`): the model learns to speak for the user, or not to.",
            fix="Cut the rejected answer at the end of the assistant's turn.",
        ),
    )

    def __init__(self) -> None:
        self._same, self._prompt, self._user = Hits(), Hits(), Hits()
        self._has_role = False
        self._longer = self._shorter = self._equal = 0

    def refuse(self, place: str, reason: str, *, count: int = 1) -> None:
        """Count a pair that could not be read, for its worse answer holds a turn of the user."""
        self._user.count += count
        self._has_role = True
        if place and len(self._user.rows) < KEPT:
            self._user.rows.append(Place("", place, reason.partition(": ")[2]))

    def see(self, row: Row) -> None:
        """Look at a pair."""
        worse = rejected_text(row.example)
        if worse is None or row.answer is None:
            return
        rejected = row.example.rejected
        better, other = normalised(row.answer), normalised(worse)
        if better == other:
            self._same.add(row)
            return
        self._longer += len(row.answer) > len(worse)
        self._shorter += len(row.answer) < len(worse)
        self._equal += len(row.answer) == len(worse)
        if _begin_with_prompt(row, worse):
            self._prompt.add(row)
        messages = rejected if isinstance(rejected, list | tuple) else ()
        has_role = any(isinstance(m, Mapping) and m.get("role") == "user" for m in messages)
        if has_role or (_TURN.search(worse) and not _TURN.search(row.answer)):
            self._has_role |= has_role
            self._user.add(
                row, "a message of the role user" if has_role else "a turn of the user in the text"
            )

    def findings(self) -> Iterable[Finding]:
        """Return what was found."""
        for name, hits, noun, text in (
            ("same-pair", self._same, "pair", "{} of twice the same answer"),
            ("prompt-in-answer", self._prompt, "pair", "{} with the prompt in both answers"),
            ("user-in-rejected", self._user, "worse answer", "{} with a turn of the user"),
        ):
            if hits.count:
                yield self.found(
                    name,
                    text.format(count(hits.count, noun)),
                    count=hits.count,
                    rows=hits.rows,
                    severity="warn" if hits is self._user and not self._has_role else None,
                )
        pairs = self._longer + self._shorter
        most = max(self._longer, self._shorter)
        if pairs < LEAST_PAIRS or most / pairs < 0.6:
            return
        from scipy.stats import binomtest

        interval = binomtest(most, pairs).proportion_ci(1 - SHOWN, method="exact")
        if interval.low > 0.5:
            which = "longer" if self._longer == most else "shorter"
            yield self.found(
                "length-bias",
                f"the better answer is the {which} one in {percent(most / pairs, digits=0)} of "
                f"{pairs} pairs (99 % interval {percent(interval.low, digits=0)} to "
                f"{percent(interval.high, digits=0)}): guessing by length "
                "gets as many right",
                count=pairs,
            )


def _begin_with_prompt(row: Row, worse: str) -> bool:
    """Whether both answers begin with what is asked."""
    better = row.answer or ""
    start = row.content[:200]
    if len(start) >= LEAST_PROMPT:
        return all(normalised(one).startswith(start) for one in (better, worse))
    asked = row.asked.strip()
    return asked.count(" ") >= 2 and all(one.lstrip().startswith(asked) for one in (better, worse))

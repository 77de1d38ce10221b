"""Rows that stand twice: duplicates, leaks between splits, two answers to one question."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from harness.core.examples import Example
from harness.core.groups import Groups
from harness.core.lints.base import KEPT, Finding, Lint, Place, Row, Rule, Severity
from harness.core.spool import Codes, Column, Held, Marks, Spools
from harness.core.twins import NEAR, Pair, Twins, code, repeated, value_code
from harness.core.wording import compact
from harness.core.words import count, percent

MANY = 20_000
"""Names that are held before those that no finding needs are forgotten."""
SHOWN = 100
"""Rows that are named of a group; all are counted."""

Bytes = npt.NDArray[np.uint8]
Group = npt.NDArray[np.int64]


class TwinLint(Lint):
    """Finds rows that stand twice. `near` is the similarity from which they nearly do, `also` are
    pairs of rows to be compared in any case.
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="leak",
            severity="error",
            about="What is asked stands in two splits, in the same words but for case, spacing "
            "and closing punctuation. A score on the held-out copy measures memory.",
            fix="Remove one of each group, or split anew by group: harness data split --all.",
        ),
        Rule(
            name="near-leak",
            severity="error",
            about="Two rows of different splits are nearly the same: at least 80 % of their "
            "three-word sequences are (true Jaccard similarity; inputs that recur from row to row, "
            "as a table's columns, must be equal and do not count).",
            fix="Remove one of each pair, or split anew by group: harness data split --all.",
        ),
        Rule(
            name="source-leak",
            severity="error",
            about="Rows of one source (the same `cluster`) stand in two splits.",
            fix="Keep a source in one split: harness data split --all.",
        ),
        Rule(
            name="label-conflict",
            severity="error",
            about="One question has two answers, or one pair of answers is preferred both ways. No "
            "model can learn both. Where most answers are numbers or free text, both may be right: "
            "then it is a warning.",
            fix="Decide which answer is right, or give what tells the two apart as an input.",
        ),
        Rule(
            name="duplicate",
            severity="warn",
            about="A row repeats another, question and answer, within a split. It counts twice in "
            "training, and is no second piece of evidence in a test.",
            fix="Keep the first of each group; other letters or spaces that `data synth` made are "
            "meant to stand beside their row.",
        ),
        Rule(
            name="near-duplicate",
            severity="note",
            about="Rows of one split ask nearly the same (true Jaccard similarity of their "
            "three-word sequences of at least 80 %). Paraphrases made on purpose are such rows.",
            fix="Give them one `cluster`, so that intervals and splits count them as one source.",
        ),
        Rule(
            name="duplicate-id",
            severity="error",
            about="Two rows have one id: whatever is recorded about one is taken for the other.",
            fix="Number the rows anew, or leave the ids out.",
        ),
    )

    def __init__(
        self, *, near: float = NEAR, spools: Spools = Held, also: Iterable[tuple[int, int]] = ()
    ) -> None:
        self._twins = Twins(near=near, spools=spools, also=also)
        self._splits: dict[str, int] = {"": 0}
        self._split = array("B")
        self._question, self._answer = Column(spools()), Column(spools())
        self._whole, self._source, self._id = Column(spools()), Column(spools()), Column(spools())
        self._kinds = [0, 0]  # answers that are labels; texts and numbers
        self._has_pairs = False
        self._groups: dict[str, list[list[int]]] = {}
        self._counts: Counter[str] = Counter()
        self._names: dict[int, Place] = {}
        self._many = MANY
        self._named: set[int] = set()

    def see(self, row: Row) -> None:
        """Keep some bytes of a row."""
        example = row.example
        asked = self._twins.add(example, content=row.content, context=row.context)
        number = self._splits.setdefault(example.split, len(self._splits))
        self._split.append(min(number, 255))
        # a leak is in the words; what is right depends on the tools that are offered too
        offered = code(str(asked), compact(list(example.tools))) if example.tools else asked
        question, answer = _judged(offered, example)
        self._question.append(question)
        self._answer.append(answer)
        self._whole.append(_whole(example, offered, answer))
        self._source.append(code(example.cluster) if example.cluster else 0)
        self._id.append(code(example.id) if example.id else 0)
        if row.answer is not None:
            is_number = isinstance(example.reference, int | float)
            self._kinds[is_number or len(row.answer) > 60 or row.answer.count(" ") > 5] += 1
        self._has_pairs |= example.rejected is not None

    def wanted(self) -> Iterable[int]:
        """Return the rows that must be named or compared."""
        splits = np.frombuffer(self._split, dtype=np.uint8)
        self._keep("leak", (g for g in repeated(self._twins.asked.all()) if _several(g, splits)))
        sources = repeated(self._source.all())
        self._keep("source-leak", (_one_a_split(g, splits) for g in sources if _several(g, splits)))
        answers = self._answer.all()
        self._keep("label-conflict", _conflicts(repeated(self._question.all()), answers))
        whole = self._whole.all()
        if self._has_pairs:  # a pair that nobody decided has no answer to be told apart by
            whole[answers == 0] = 0
        del answers
        doubles = (
            same
            for group in repeated(whole)
            for split in set(splits[group].tolist())
            if len(same := group[splits[group] == split]) > 1
        )
        self._keep("duplicate", doubles)
        del whole
        self._keep("duplicate-id", repeated(self._id.all()))
        marks = self._twins.settle()
        marks.mask[list(self._named)] = True
        return marks

    def again(self, row: Row) -> None:
        """Compare the row's words, and remember its name."""
        self._twins.again(row.number, row.content)
        self._names[row.number] = row.place
        if len(self._names) > self._many:
            near = self._twins.near_rows()
            for number in [n for n in self._names if n not in self._named and n not in near]:
                del self._names[number]
            self._many = 2 * max(len(self._names), MANY)

    def findings(self) -> Iterable[Finding]:
        """Return what stands twice."""
        yield from self._grouped("leak", "{rows} of different splits that ask the same")
        yield from self._near_leaks()
        yield from self._grouped(
            "source-leak", "{groups} with rows in different splits", one="source"
        )
        labels, others = self._kinds
        yield from self._grouped(
            "label-conflict",
            "{groups} with more than one answer",
            one="question",
            severity="warn" if others > labels else "error",
        )
        yield from self._grouped("duplicate", "{spare} too many: equal to another of the split")
        yield from self._near_duplicates()
        yield from self._grouped("duplicate-id", "{groups} at more than one row", one="id")

    def _keep(self, name: str, groups: Iterable[Group]) -> None:
        """Keep the groups that begin first; count all."""
        kept: list[list[int]] = []
        for group in groups:
            self._counts[name] += 1
            self._counts[f"{name} rows"] += len(group)
            kept.append(group[:SHOWN].tolist())
            if len(kept) >= 2 * KEPT:
                kept = sorted(kept)[:KEPT]
        self._groups[name] = sorted(kept)[:KEPT]
        for some in self._groups[name]:
            self._named.update(some)

    def _grouped(
        self, name: str, text: str, *, one: str = "group", severity: Severity | None = None
    ) -> Iterable[Finding]:
        groups = self._counts[name]
        if not groups:
            return
        rows = self._counts[f"{name} rows"]
        said = text.format(
            rows=count(rows, "row"), groups=count(groups, one), spare=count(rows - groups, "row")
        )
        said += "" if "{groups}" in text else f", in {count(groups, 'group')}"
        shown = [[self._name(n) for n in group] for group in self._groups[name]]
        yield self.found(
            name,
            said,
            count=rows,
            rows=[p for g in shown for p in g],
            groups=shown,
            severity=severity,
        )

    def _near_leaks(self) -> Iterable[Finding]:
        rows, pairs = Marks(len(self._split)), 0
        first: list[list[Place]] = []
        for pair in self._twins.found():
            splits = (self._split[pair.one], self._split[pair.other])
            if splits[0] == splits[1]:
                continue
            pairs += 1
            rows.mask[[pair.one, pair.other]] = True
            if len(first) < KEPT:
                first.append(self._pair(pair))
        if not pairs:
            return
        yield self.found(
            "near-leak",
            f"{count(len(rows), 'row')} nearly the same as one of another split, in "
            f"{count(pairs, 'pair')}" + self._uncompared(),
            count=len(rows),
            rows=[p for g in first for p in g],
            groups=first,
        )

    def _near_duplicates(self) -> Iterable[Finding]:
        joined = Groups()
        least: dict[int, float] = {}
        for pair in self._twins.found():
            if self._split[pair.one] == self._split[pair.other]:
                joined.join(pair.one, pair.other)
                least[pair.other] = min(pair.similarity, least.get(pair.other, 1.0))
        groups = joined.several()
        if not groups:
            return
        shown = [
            [
                self._name(n).told(f"{percent(least[n], digits=0)} the same" if n in least else "")
                for n in group[:SHOWN]
            ]
            for group in sorted(groups, key=lambda g: (-len(g), g))[:KEPT]
        ]
        rows = sum(len(g) for g in groups)
        yield self.found(
            "near-duplicate",
            f"{count(rows, 'row')} nearly the same as others, in {count(len(groups), 'group')}"
            + self._uncompared(),
            count=rows,
            rows=[p for g in shown for p in g],
            groups=shown,
        )

    def _uncompared(self) -> str:
        left = self._twins.uncompared
        return f" (up to {left} further candidate pairs were not compared)" if left else ""

    def _pair(self, pair: Pair) -> list[Place]:
        detail = f"{percent(pair.similarity, digits=0)} the same"
        names = {number: name for name, number in self._splits.items()}
        return [
            self._name(n).told(f"{names.get(self._split[n], '')}, {detail}")
            for n in (pair.one, pair.other)
        ]

    def _name(self, number: int) -> Place:
        return self._names.get(number) or Place("", f"row {number + 1}")


def _judged(asked: int, example: Example) -> tuple[int, int]:
    """Return what is decided about, and how: an answer, a thumb, or the better of two answers."""
    answer = value_code(example.reference) if example.reference is not None else 0
    if example.calls:
        answer = code(str(answer), compact(list(example.calls)))
    if example.is_good is not None:
        return code(str(asked), str(answer)), 2 + example.is_good
    if example.rejected is not None and answer:
        worse = value_code(example.rejected)
        low, high = sorted((answer, worse))
        return code(str(asked), str(low), str(high)), answer if low != high else 0
    return asked, answer


def _whole(example: Example, offered: int, answer: int) -> int:
    """Identify a row: its question and all of its answers."""
    if example.calls or example.rejected is not None or example.is_good is not None:
        parts = [example.reference, list(example.calls), example.rejected, example.is_good]
        return code(str(offered), *(str(value_code(part)) for part in parts))
    # two codes into one: a bijection of each, and quicker than hashing again
    return ((offered * _ODD) & _MASK) ^ answer or 1


_ODD, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def _conflicts(groups: Iterable[Group], answers: Codes) -> Iterator[Group]:
    """Yield the first row of each answer where one question has several."""
    for group in groups:
        answered = group[answers[group] != 0]
        different, firsts = np.unique(answers[answered], return_index=True)
        if len(different) > 1:
            yield answered[np.sort(firsts)]


def _several(group: Group, splits: Bytes) -> bool:
    return len(set(splits[group])) > 1


def _one_a_split(group: Group, splits: Bytes) -> Group:
    """Return the first row of each split: a source may have thousands."""
    firsts = np.unique(splits[group], return_index=True)[1]
    return group[np.sort(firsts)]

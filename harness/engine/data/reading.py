"""Reads a file or a task as `Example`s, one after the other. Knows no lint and no verdict.

Memory stays flat: rows are read as they are asked for, and of rejected ones the first are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from harness.core.examples import Example
from harness.engine.data.containers import Container, container_of
from harness.engine.data.forms import registry
from harness.engine.data.forms.base import Form, Object, Plan, kind_of
from harness.engine.data.forms.cases import of_case
from harness.engine.data.lines import Refusal
from harness.engine.tasks import Task
from harness.errors import TaskError, UsageError

SAMPLE = 64
"""Rows from which the form is told."""

KEPT = 100
"""Rejected rows that are kept to be shown; the others are counted."""

KINDS = 20
"""Kinds of reasons whose first row is kept, however many rows come before it."""


class BadRow(NamedTuple):
    """A row that could not be read. `place` is `file:line`."""

    place: str
    reason: str


class Reading:
    """The rows of one file, to be iterated once.

    `form` names their form, `confidence` (0..1) and `why` say how sure that is, `notes` what a
    person should know of it. Rejected rows are in `bad` (the first ones) and `bad_count`, which
    `bad_kinds` tells apart by the names that reasons begin with;
    `skipped` counts rows that hold no data by their nature. `read` counts what was yielded.
    """

    def __init__(
        self, path: Path, *, form: str | None = None, columns: Mapping[str, str] | None = None
    ) -> None:
        """Raises TaskError where the file cannot be read, UsageError for an unknown form."""
        self.path = path
        self.container: Container = container_of(path)
        self.sample: list[Object] = []
        self.bad: list[BadRow] = []
        self.bad_count = self.skipped = self.read = 0
        self.bad_kinds: Counter[str] = Counter()
        chosen = registry.find(form) if form else None
        mapping = dict(columns or {})
        first = list(islice(self._objects(chosen), SAMPLE))
        self.sample = [row for _, row in first if not isinstance(row, Refusal)]
        if not first:
            raise TaskError(f"{self.container.shown}:1: no rows in it")
        self._known(mapping)
        self.form, self._plan = registry.plan_of(
            chosen, self.sample, mapping, container=self.container.kind
        )
        self.confidence, self.why = self._plan.confidence, self._plan.why
        self.notes: tuple[str, ...] = (*self.container.notes, *self._plan.notes)
        self._is_begun = False

    def _known(self, mapping: Mapping[str, str]) -> None:
        """Refuse a name that none of the first rows has."""
        for column in mapping:
            head = column.split(".")[0]
            if self.sample and not any(column in row or head in row for row in self.sample):
                raise UsageError(
                    f"{self.container.shown} has no column {column!r}. Its columns: "
                    f"{', '.join(map(repr, self.names[:20]))}"
                )

    @property
    def plan(self) -> Plan:
        """How rows are read."""
        return self._plan

    @property
    def left(self) -> Mapping[str, int]:
        """What the file holds beside rows, in words, as far as it was read."""
        beside = registry.BESIDE.get(self.form, "")
        return {**self.container.left, **({beside: 1} if beside else {})}

    @property
    def bytes_read(self) -> int:
        """How far into the file on disk the reader is."""
        return self.container.bytes_read

    @property
    def bytes_total(self) -> int:
        """The size of the file on disk."""
        return self.container.bytes_total

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of the first rows."""
        return tuple(dict.fromkeys(key for row in self.sample for key in row))

    def __iter__(self) -> Iterator[Example]:
        if self._is_begun:
            raise RuntimeError("a Reading is iterated once: open the file again")
        self._is_begun = True
        return self._examples()

    def _examples(self) -> Iterator[Example]:
        parse = self._plan.parse
        form = registry.find(self.form)
        for place, row in self._objects(form):
            if isinstance(row, Refusal):
                self._reject(place, row.reason)
                continue
            try:
                example = parse(row, place)
            except ValueError as exc:
                self._reject(place, str(exc))
                continue
            if example is None:
                self.skipped += 1
                continue
            self.read += 1
            yield example

    def _objects(self, form: Form | None) -> Iterator[tuple[str, Object | Refusal]]:
        before, nth = "", 1
        for number, value in self.container.rows():
            line = f"{self.container.shown}:{number}"  # a folder's files come in turn
            nth = nth + 1 if line == before else 1
            place = line if nth == 1 else f"{line}#{nth}"  # an array may stand on one line
            before = line
            if isinstance(value, Refusal):
                yield place, value
                continue
            if not isinstance(value, Mapping):
                reason = f"data_type: a row must be an object, not {kind_of(value)}"
                yield place, Refusal(reason)
                continue
            expand = form.expand if form else registry.expander_of(value)
            if expand is None:
                yield place, value
                continue
            try:
                for inner, row in expand(value):
                    yield f"{place}{inner}", row
            except ValueError as exc:
                yield place, Refusal(str(exc))

    def _reject(self, place: str, reason: str) -> None:
        self.bad_count += 1
        kind = kind_of_reason(reason)
        self.bad_kinds[kind] += 1
        is_new = self.bad_kinds[kind] == 1 and len(self.bad_kinds) <= KINDS
        if len(self.bad) < KEPT or is_new:
            self.bad.append(BadRow(place, reason))


def kind_of_reason(reason: str) -> str:
    """Return the name that a reason begins with, as `missing_content: ...`; "" for none."""
    name, sign, _ = reason.partition(":")
    return name if sign and name.replace("-", "_").isidentifier() else ""


_NONE: Mapping[str, str] = {}


def open_examples(
    path: Path, *, form: str | None = None, columns: Mapping[str, str] = _NONE
) -> Reading:
    """Open a file of rows. `columns` says what a column is: a field of Example, or an input.

    Raises TaskError (with file and line) where it cannot be read, UsageError for an unknown form.
    """
    return Reading(path, form=form, columns=columns)


def task_examples(task: Task) -> Iterator[Example]:
    """Yield the cases of a task: their ids, clusters, splits and tags are kept."""
    named = {case.cluster for case in task.cases if case.cluster != case.id}
    for case in task.cases:
        example = of_case(case, pictured=task.settings.images)
        # a case is its own source unless it says so; one that others name as theirs says it here
        is_named = case.cluster == case.id and case.id in named
        yield replace(example, cluster=case.id) if is_named else example

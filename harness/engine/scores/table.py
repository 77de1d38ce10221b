"""Rows of scores, collected into aligned columns. Knows no file format and no verdict.

Alignment is strict: a case that one candidate has and another lacks is missing there. Repeats of
a case are averaged; a second row that no repeat tells apart is an error, as is a case that says
two things about itself.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.core.bounds import Array, Codes
from harness.errors import Refused, UsageError
from harness.records import FAMILIES

LINE_BITS = 40  # a place is file number << 40 | line
MOST_CELLS = 10_000_000
SPARSEST = 20  # cells a row, above which a table is no table of aligned scores


class ScoreRow(NamedTuple):
    """One score. `score` None = missing (no answer, for infrastructure reasons, or left empty).

    `who` is the try or candidate. `content` identifies what the case asks and expects, where the
    file shows it; `reply` is the text that was scored; `prompt` identifies the prompt.
    """

    line: int
    case: str
    who: str
    metric: str
    score: float | None
    repeat: str = ""
    cluster: str = ""
    slice: str = ""
    family: str = ""
    model: str = ""
    order: float | None = None
    content: str = ""
    prompt: str = ""
    reply: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A try or candidate: its scores a metric, and what the file says of it.

    `has_row` tells a case whose score is missing from one that the metric does not speak of.
    """

    name: str
    scores: Mapping[str, Array]
    has_row: Mapping[str, npt.NDArray[np.bool_]]
    repeats: int
    family: str = ""
    model: str = ""
    order: float | None = None
    prompt_digest: str = ""
    replies_digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTable:
    """One task's scores, a row a case, aligned. Scores have shape N, missing as NaN.

    `cases`, `clusters`, `slices` and `contents` have N entries, empty where unknown.
    """

    task: str
    cases: tuple[str, ...]
    clusters: tuple[str, ...]
    slices: tuple[str, ...]
    contents: tuple[str, ...]
    columns: tuple[Column, ...]
    metrics: tuple[str, ...]
    default_metric: str | None
    rows: int

    @property
    def has_clusters(self) -> bool:
        """Some case names its source."""
        return any(self.clusters)

    def asked(self, metric: str) -> npt.NDArray[np.bool_]:
        """Return which cases the metric speaks of in some column. Shape: N."""
        found: npt.NDArray[np.bool_] = np.any([c.has_row[metric] for c in self.columns], axis=0)
        return found

    def missing(self, metric: str) -> int:
        """Return how many scores are missing, over the columns that have the metric."""
        asked, have = self.asked(metric), [c for c in self.columns if metric in c.scores]
        return sum(int((asked & np.isnan(c.scores[metric])).sum()) for c in have)

    def column(self, wanted: str, *, what: str = "candidate") -> Column:
        """Return a column by its name, or by how only one name begins. Raises UsageError."""
        exact = [c for c in self.columns if c.name == wanted]
        found = exact or [c for c in self.columns if wanted and c.name.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        names = ", ".join(repr(c.name) for c in self.columns)
        why = "is the beginning of several names" if found else "is not in the scores"
        raise UsageError(f"{what} {wanted!r} {why}. Known: {names}")

    def metric(self, wanted: str | None, *, option: str = "--primary") -> str:
        """Return the metric to judge. Raises UsageError naming those that the file has."""
        known = ", ".join(self.metrics)
        if wanted is not None:
            if wanted not in self.metrics:
                raise UsageError(f"metric {wanted!r} is not in the scores. Known: {known}")
            return wanted
        if len(self.metrics) == 1:
            return self.metrics[0]
        if self.default_metric in self.metrics:
            return str(self.default_metric)
        raise UsageError(f"the scores hold several metrics ({known}): choose one, {option} METRIC")


@dataclass(slots=True)
class _Case:
    number: int
    cluster: str = ""
    slice: str = ""
    content: str = ""


@dataclass(slots=True)
class _Who:
    number: int
    task: str
    name: str
    family: str = ""
    model: str = ""
    prompt: str = ""
    order: float | None = None
    replies: int = 0


@dataclass(slots=True)
class _Task:
    cases: dict[str, _Case] = field(default_factory=dict)
    whos: dict[str, _Who] = field(default_factory=dict)
    metrics: dict[str, int] = field(default_factory=dict)
    repeats: dict[str, int] = field(default_factory=dict)
    default_metric: str | None = None
    case: array[int] = field(default_factory=lambda: array("I"))
    who: array[int] = field(default_factory=lambda: array("I"))
    metric: array[int] = field(default_factory=lambda: array("I"))
    repeat: array[int] = field(default_factory=lambda: array("I"))
    place: array[int] = field(default_factory=lambda: array("Q"))
    score: array[float] = field(default_factory=lambda: array("d"))


class Collector:
    """Takes rows one at a time, in about 32 bytes each, and makes a table a task."""

    def __init__(self) -> None:
        self._files: list[str] = []
        self._tasks: dict[str, _Task] = {}

    def begin(self, shown: str) -> None:
        """Name the file, as people know it, that the next rows come from."""
        self._files.append(shown)

    def add(self, row: ScoreRow, *, task: str = "", default_metric: str | None = None) -> None:
        """Take one row. Raises UsageError or Refused naming file and line."""
        place = (len(self._files) - 1) << LINE_BITS | row.line
        mine = self._tasks.setdefault(task, _Task())
        mine.default_metric = mine.default_metric or default_metric
        case = mine.cases.get(row.case)
        if case is None:
            case = mine.cases[row.case] = _Case(len(mine.cases))
        who = mine.whos.get(row.who)
        if who is None:
            who = mine.whos[row.who] = _Who(len(mine.whos), task, row.who)
        if row.score is not None and not 0 <= row.score <= 1:
            raise UsageError(f"{self._at(place)}: {_out_of_range(row.score)}")
        self._describe(case, who, row, place)
        if row.reply is not None:
            seen = hashlib.sha256(
                f"{row.case}\0{row.repeat}\0{row.reply}".encode("utf-8", "replace")
            )
            who.replies = (who.replies + int.from_bytes(seen.digest(), "big")) % (1 << 256)
        mine.case.append(case.number)
        mine.who.append(who.number)
        mine.metric.append(mine.metrics.setdefault(row.metric, len(mine.metrics)))
        mine.repeat.append(mine.repeats.setdefault(row.repeat, len(mine.repeats)))
        mine.place.append(place)
        mine.score.append(float("nan") if row.score is None else row.score)

    def tables(self, *, left_out: Collection[str] = ()) -> tuple[ScoreTable, ...]:
        """Return a table a task, without the metrics `left_out`.

        Raises UsageError on rows that stand twice, or on no row.
        """
        found = tuple(self._table(name, task, left_out) for name, task in self._tasks.items())
        if not found:
            raise UsageError(f"{', '.join(self._files)}: no scores in it")
        return found

    def _at(self, place: int) -> str:
        line = place & ((1 << LINE_BITS) - 1)
        return f"{self._files[place >> LINE_BITS]}:{line}"

    def _describe(self, case: _Case, who: _Who, row: ScoreRow, place: int) -> None:
        for name in ("cluster", "slice"):
            said = getattr(row, name)
            if said and said != getattr(case, name):
                if getattr(case, name):
                    raise UsageError(
                        f"{self._at(place)}: case {row.case!r} has {name} {said!r} here and "
                        f"{getattr(case, name)!r} before: a case has one"
                    )
                setattr(case, name, said)
        if row.content and row.content != case.content:
            if case.content:
                raise Refused(
                    f"{self._at(place)}: case {row.case!r} is not what it was in an earlier file: "
                    "its question or its expected answer changed between the runs. Run both on "
                    "the same cases."
                )
            case.content = row.content
        if row.family and row.family not in FAMILIES:
            raise UsageError(
                f"{self._at(place)}: family {row.family!r} is not one of {', '.join(FAMILIES)}"
            )
        for name in ("family", "model", "prompt", "order"):
            said = getattr(row, name)
            if said not in ("", None) and said != getattr(who, name):
                if getattr(who, name) not in ("", None):
                    raise UsageError(
                        f"{self._at(place)}: {row.who!r} has {name} {said!r} here and "
                        f"{getattr(who, name)!r} before: it has one"
                    )
                setattr(who, name, said)

    def _table(self, name: str, task: _Task, left_out: Collection[str]) -> ScoreTable:
        n, width, depth = len(task.cases), len(task.metrics), len(task.repeats)
        case, who = (np.frombuffer(a, dtype=np.uint32) for a in (task.case, task.who))
        metric, repeat = (np.frombuffer(a, dtype=np.uint32) for a in (task.metric, task.repeat))
        score = np.frombuffer(task.score, dtype=np.float64)
        cell = (who.astype(np.int64) * width + metric) * n + case
        self._refuse_twice(task, cell * depth + repeat, np.frombuffer(task.place, dtype=np.uint64))
        cells = len(task.whos) * width * n
        if cells > MOST_CELLS and cells > SPARSEST * len(score):
            raise UsageError(
                f"{', '.join(self._files)}: {len(task.whos)} tries or candidates over {n} cases "
                f"share next to none of them in {len(score)} rows: is one of the columns another's?"
            )
        is_there = ~np.isnan(score)
        seen = np.bincount(cell[is_there], minlength=cells)
        total = np.bincount(cell[is_there], weights=score[is_there], minlength=cells)
        means = np.where(seen > 0, total / np.maximum(seen, 1), np.nan)
        rows = np.bincount(cell, minlength=cells)
        shape = (len(task.whos), width, n)
        means, rows = means.reshape(shape), rows.reshape(shape)
        metrics = tuple(m for m in task.metrics if m not in left_out)
        at = {m: task.metrics[m] for m in metrics}
        columns = [
            Column(
                name=w.name,
                scores={m: means[k, j] for m, j in at.items() if rows[k, j].any()},
                has_row={m: rows[k, j] > 0 for m, j in at.items()},
                repeats=int(rows[k].max()),
                family=w.family,
                model=w.model,
                order=w.order,
                prompt_digest=w.prompt,
                replies_digest=f"{w.replies:064x}" if w.replies else "",
            )
            for k, w in enumerate(task.whos.values())
        ]
        if all(c.order is not None for c in columns):
            columns.sort(key=lambda c: c.order or 0.0)
        known = list(task.cases.values())
        return ScoreTable(
            task=name,
            cases=tuple(task.cases),
            clusters=tuple(c.cluster for c in known),
            slices=tuple(c.slice for c in known),
            contents=tuple(c.content for c in known),
            columns=tuple(columns),
            metrics=metrics,
            default_metric=task.default_metric,
            rows=len(score),
        )

    def _refuse_twice(self, task: _Task, keys: Codes, places: npt.NDArray[np.uint64]) -> None:
        order = np.argsort(keys, kind="stable")
        again = np.flatnonzero(keys[order][1:] == keys[order][:-1])
        if not again.size:
            return
        # the row that comes first among those that repeat an earlier one
        at = again[np.argmin(order[again + 1])]
        first, second = int(order[at]), int(order[at + 1])
        cases, whos, metrics = list(task.cases), list(task.whos), list(task.metrics)
        raise UsageError(
            f"{self._at(int(places[second]))}: case {cases[task.case[second]]!r} of "
            f"{whos[task.who[second]]!r} ({metrics[task.metric[second]]}) stands already at "
            f"{self._at(int(places[first]))}: give each repeat its own `repeat`, or remove one"
        )


def _out_of_range(score: float) -> str:
    if 1 < score <= 100:
        return f"score {score:g} lies outside [0, 1]: where these are percent, divide them by 100"
    return f"score {score:g} lies outside [0, 1]: rescale the scores, where the reader can see how"

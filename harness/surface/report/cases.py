"""Turns cases into the rows of the page: who won, in which order, what fits. Knows no HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.surface.report import words
from harness.surface.report.cards import (
    Budget,
    Card,
    card_of,
    mean_worth,
    plain_card,
    status_of,
    weight,
)
from harness.surface.report.island import SHOWN, Island, Placed
from harness.surface.report.model import CaseView, ReplyView, ReportData
from harness.surface.report.summaries import as_text

REPLY_COST = 700
"""Characters of markup that one reply takes."""

STATUSES = {
    "regressed": "Regressed",
    "fault": "Fault",
    "missed": "Missed",
    "improved": "Improved",
    "passed": "Passed",
    "open": "Not scored",
}
FILTERS = {
    "regressed": "Regressed",
    "improved": "Improved",
    "different": "Different",
    "missed": "Missed",
    "fault": "Faults",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One square of a row's strip: a candidate's primary score on the case.

    `starts` is true where another kind of candidate begins.
    """

    status: str
    label: str
    is_asked: bool = True
    starts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One case, ready to be shown. `marks` are the filters that let it through."""

    index: int
    id: str
    split: str
    cluster: str
    tags: tuple[str, ...]
    line: str
    headline: str
    status: str
    status_label: str
    marks: tuple[str, ...]
    cells: tuple[Cell, ...]
    summary: str
    inputs: tuple[tuple[str, Placed], ...] = ()
    reference: Placed | None = None
    pair: tuple[Card, ...] = ()
    others: tuple[Card, ...] = ()
    is_lazy: bool = False


def pair_of(data: ReportData, split: str) -> tuple[str | None, str | None]:
    """Return which two candidates are set against each other on the cases of `split`."""
    known = ([data.release.comparison] if data.release is not None else []) + list(data.comparisons)
    for comparison in [c for c in known if c.split == split] + known:
        return comparison.baseline, comparison.candidate
    if data.wall is not None and data.wall.best is not None:
        return None, data.wall.best
    asked = [r for r in data.rungs if r.kind in {"tuned", "prompt"}]
    return None, asked[-1].result.candidate if asked else None


def columns(data: ReportData) -> tuple[str, ...]:
    """Return the candidates in the order of the ladder, and after it those that have replies."""
    names = [r.result.candidate for r in data.rungs]
    names += [r.candidate for c in data.cases for r in c.replies]
    return tuple(dict.fromkeys(names))


def rows(data: ReportData, island: Island) -> tuple[Row, ...]:
    """Return the cases, regressions first; long texts go to `island`."""
    order = {name: i for i, name in enumerate(STATUSES)}
    splits = {"test": 0, "dev": 1, "train": 2}
    names = columns(data)
    heads = [_head(view, i, data=data, names=names) for i, view in enumerate(data.cases)]
    ranked = sorted(
        zip(heads, data.cases, strict=True),
        key=lambda pair: (order[pair[0].status], splits.get(pair[0].split, 3), pair[0].index),
    )
    budget = Budget()
    place = {name: i for i, name in enumerate(names)}
    return tuple(
        _with_body(
            head,
            view,
            pair=pair_of(data, view.case.split),
            place=place,
            island=island,
            budget=budget,
        )
        for head, view in ranked
    )


def counts(found: Sequence[Row]) -> Mapping[str, int]:
    """Return how many rows each filter lets through."""
    return {name: sum(name in row.marks for row in found) for name in FILTERS}


# ---------------------------------------------------------------- one row


def _head(view: CaseView, index: int, *, data: ReportData, names: Sequence[str]) -> Row:
    case = view.case
    by_name: dict[str, list[ReplyView]] = {}
    for reply in view.replies:
        by_name.setdefault(reply.candidate, []).append(reply)
    baseline, candidate = pair_of(data, case.split)
    before = by_name.get(baseline, []) if baseline is not None else []
    after = by_name.get(candidate, []) if candidate is not None else []
    status, marks = _outcome(before, after, replies=view.replies)
    kinds = {r.result.candidate: r.kind for r in data.rungs}
    cells = tuple(
        _cell(
            name, by_name.get(name, []), starts=i > 0 and kinds.get(name) != kinds.get(names[i - 1])
        )
        for i, name in enumerate(names)
    )
    passed = sum(c.status == "pass" for c in cells)
    asked = sum(c.is_asked for c in cells)
    texts = [v for v in case.inputs.values() if isinstance(v, str)] or [as_text(dict(case.inputs))]
    return Row(
        index=index,
        id=case.id,
        split=case.split,
        cluster=case.cluster,
        tags=case.tags,
        line=case.line,
        headline=words.cut(texts[0], 150),
        status=status,
        status_label=STATUSES[status],
        marks=marks,
        cells=cells,
        summary=f"{passed} of {asked} candidates pass",
    )


def _outcome(
    before: Sequence[ReplyView], after: Sequence[ReplyView], *, replies: Sequence[ReplyView]
) -> tuple[str, tuple[str, ...]]:
    was, now = mean_worth(before), mean_worth(after)
    is_fault = any(r.trial.fault is not None for r in replies)
    fell = was is not None and now is not None and now < was
    rose = was is not None and now is not None and now > was
    differs = bool(before and after) and _texts(before) != _texts(after)
    missed = now is not None and now < 1
    marks = {
        "regressed": fell,
        "improved": rose,
        "different": differs,
        "missed": missed,
        "fault": is_fault,
    }
    if fell:
        status = "regressed"
    elif any(r.trial.fault is not None for r in after):
        status = "fault"
    elif missed:
        status = "missed"
    elif rose:
        status = "improved"
    else:
        status = "open" if now is None else "passed"
    return status, tuple(name for name, holds in marks.items() if holds)


def _texts(replies: Sequence[ReplyView]) -> list[str]:
    return sorted(r.reply.text if r.reply is not None else "" for r in replies)


def _cell(name: str, replies: Sequence[ReplyView], *, starts: bool) -> Cell:
    if not replies:
        return Cell(status="none", label=f"{name}: not asked", is_asked=False, starts=starts)
    if any(r.trial.fault is not None for r in replies):
        return Cell(status="fault", label=f"{name}: fault", starts=starts)
    mean = mean_worth(replies)
    return Cell(
        status=status_of(mean),
        label=f"{name}: {'not scored' if mean is None else words.percent(mean)}",
        starts=starts,
    )


# ---------------------------------------------------------------- its body


def _with_body(
    row: Row,
    view: CaseView,
    *,
    pair: tuple[str | None, str | None],
    place: Mapping[str, int],
    island: Island,
    budget: Budget,
) -> Row:
    case = view.case
    baseline, candidate = pair
    chosen = [r for r in view.replies if r.candidate == baseline]
    chosen += [r for r in view.replies if r.candidate == candidate]
    others = sorted(
        (r for r in view.replies if r.candidate not in {baseline, candidate}),
        key=lambda r: place[r.candidate],
    )
    reference = case.reference_text
    plain = {str(k): as_text(v) for k, v in case.inputs.items()}
    texts = [*plain.values(), reference or "", *(r.reply.text for r in view.replies if r.reply)]
    cost = REPLY_COST * len(view.replies) + sum(weight(t[:SHOWN]) for t in texts)
    is_lazy = cost > budget.body
    if not is_lazy:
        budget.body -= cost

    def card(reply: ReplyView, role: str) -> Card:
        prompts = budget if role and not is_lazy else Budget(sent=0)
        return card_of(reply, role, reference=reference, island=island, budget=prompts)

    names = {baseline: "baseline", candidate: "candidate"}
    first = tuple(card(r, names[r.candidate]) for r in chosen)
    rest = tuple(card(r, "") for r in others)
    if is_lazy:
        island.cases[str(row.index)] = {
            "inputs": [[k, island.keep(v)] for k, v in plain.items()],
            "reference": None if reference is None else island.keep(reference),
            "replies": [
                plain_card(c, r, island)
                for c, r in zip((*first, *rest), (*chosen, *others), strict=True)
            ],
        }
        return replace(row, is_lazy=True)
    return replace(
        row,
        inputs=tuple((k, island.place(v)) for k, v in plain.items()),
        reference=None if reference is None else island.place(reference),
        pair=first,
        others=rest,
    )

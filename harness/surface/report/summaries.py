"""Counts what a report shows of cases and replies. Knows nothing of HTML or of the store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from harness.records import SPLITS, Case, Json, Split
from harness.surface.report.model import (
    CaseView,
    CostRow,
    DataPage,
    LengthBin,
    ReplyView,
    SplitData,
)


def data_page(cases: Sequence[Case], *, findings: Sequence[str] = (), bins: int = 12) -> DataPage:
    """Return the numbers of the data page: by split, by tag, and by length of the inputs."""
    splits = []
    for split in SPLITS:
        here = [c for c in cases if c.split == split]
        if not here:
            continue
        lengths = sorted(chars(c.inputs) for c in here)
        splits.append(
            SplitData(
                split=split,
                cases=len(here),
                clusters=len({c.cluster or c.id for c in here}),
                labelled=sum(c.reference is not None for c in here),
                median_chars=lengths[len(lengths) // 2],
                longest_chars=lengths[-1],
            )
        )
    tags: dict[str, int] = {}
    for case in cases:
        for tag in case.tags:
            tags[tag] = tags.get(tag, 0) + 1
    return DataPage(
        splits=tuple(splits),
        tags=dict(sorted(tags.items(), key=lambda item: (-item[1], item[0]))),
        lengths=_bins([chars(c.inputs) for c in cases], most=bins),
        findings=tuple(findings),
    )


def chars(inputs: Mapping[str, Json]) -> int:
    """Return how many characters the inputs hold: text as it is, other values as JSON."""
    return sum(len(as_text(value)) for value in inputs.values())


def as_text(value: Json) -> str:
    """Return text as it is, any other value as compact JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _bins(lengths: Sequence[int], *, most: int) -> tuple[LengthBin, ...]:
    if not lengths:
        return ()
    low, high = min(lengths), max(lengths)
    step = next(
        s
        for power in range(12)
        for s in (10**power, 2 * 10**power, 5 * 10**power)
        if high // s - low // s < most
    )
    first, last = low // step, high // step
    return tuple(
        LengthBin(low=i * step, high=(i + 1) * step, cases=sum(n // step == i for n in lengths))
        for i in range(first, last + 1)
    )


def cost_rows(cases: Sequence[CaseView]) -> tuple[CostRow, ...]:
    """Return what each candidate cost on each split, in the order in which they appear."""
    groups: dict[tuple[str, Split], list[ReplyView]] = {}
    for view in cases:
        for reply in view.replies:
            if reply.reply is not None and reply.request is not None:
                groups.setdefault((reply.candidate, view.case.split), []).append(reply)
    rows = []
    for (candidate, split), views in groups.items():
        replies = [v.reply for v in views if v.reply is not None]
        spent = [r.cost_usd for r in replies if r.cost_usd is not None]
        waits = sorted(r.latency_s for r in replies if r.latency_s is not None)
        rows.append(
            CostRow(
                candidate=candidate,
                split=split,
                cases=len({v.trial.case_id for v in views}),
                input_tokens=_mean([r.input_tokens for r in replies]),
                output_tokens=_mean([r.output_tokens for r in replies]),
                p50_latency_s=_quantile(waits, 0.5),
                p95_latency_s=_quantile(waits, 0.95),
                cost_usd=sum(spent) if spent else None,
            )
        )
    return tuple(rows)


def _mean(values: Sequence[int | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that is not below `share` of them."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def to_the_minute(at: str) -> str:
    """Return a time (UTC, ISO 8601) as a person reads it; anything else as it is."""
    try:
        return f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return at

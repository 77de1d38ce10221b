"""Reads the samples that `lm_eval --log_samples` writes. Knows lm-eval's fields only.

A file `samples_TASK_DATE.jsonl` is one task and one model. A metric of a filter other than `none`
is called as in lm-eval's own table: `exact_match,strict`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.engine.scores.source import Source, Tasked, fraction, number_of
from harness.engine.scores.table import ScoreRow
from harness.engine.scores.texts import json_lines
from harness.errors import UsageError
from harness.records import digest

FILE = re.compile(r"samples_(?P<task>.+?)(?:_\d{4}-\d\d-\d\dT[\d.:-]+)?\.jsonl", re.DOTALL)


def is_sample(plain: Mapping[str, Any]) -> bool:
    """Tell whether a line is a sample of lm-eval."""
    return {"doc_id", "doc"} <= plain.keys() and {"resps", "filtered_resps"} & plain.keys() != set()


def read(source: Source) -> Iterator[Tasked]:
    """Yield the rows of a samples file: one candidate. Raises UsageError with file:line."""
    named = FILE.fullmatch(source.path.name)
    task = named["task"] if named else source.path.stem
    order = number_of(source.path.name)
    folder = source.path.absolute().parent
    model = folder.name if any(folder.glob("results_*.json")) else ""
    for number, plain in json_lines(source.path):
        if not is_sample(plain):
            raise UsageError(f"{source.shown}:{number}: not a sample of lm-eval (doc_id, doc)")
        doc = plain["doc"] if isinstance(plain["doc"], dict) else {}
        hashes = [plain.get("doc_hash"), plain.get("target_hash")]
        label = plain.get("filter")
        values = _metrics(plain)
        if not values:
            raise UsageError(f"{source.shown}:{number}: a sample without a metric")
        reply: str | None = digest(plain.get("resps"))
        for name, value in values.items():
            called = name if label in (None, "none") else f"{name},{label}"
            score = fraction(value, called, source=source)
            row = ScoreRow(
                line=number,
                case=str(plain["doc_id"]),
                who=source.name,
                metric=called,
                score=score,
                cluster=str(doc.get("cluster") or ""),
                slice=str(doc.get("slice") or ""),
                model=model,
                order=order,
                content=digest(hashes) if all(hashes) else "",
                reply=reply,
            )
            reply = None
            yield task, row


def _metrics(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a sample; older files do not list their metrics."""
    listed = plain.get("metrics")
    if isinstance(listed, list):
        return {str(name): plain.get(str(name)) for name in listed}
    known = {"doc_id", "doc", "target", "filter"}
    return {
        name: value
        for name, value in plain.items()
        if name not in known and isinstance(value, (bool, int, float))
    }

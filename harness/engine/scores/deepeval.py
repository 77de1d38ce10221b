"""Reads DeepEval's results. Knows DeepEval's fields only.

They are a results folder's `test_run_*.json`, `.deepeval/.latest_test_run.json`, or what
`evaluate(...).model_dump_json()` gives. Metric `pass` is the test's success, the others each
metric's score. A metric that ended in an error makes both missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from harness.engine.scores.source import Source, Tasked, fraction, short_name
from harness.engine.scores.table import ScoreRow
from harness.engine.scores.texts import json_object
from harness.errors import UsageError
from harness.records import digest

PASS = "pass"  # noqa: S105 - a metric's name


def cases_of(plain: Mapping[str, Any]) -> list[Any] | None:
    """Return the list of results, or None where the object is none of DeepEval's."""
    run = plain.get("testRunData", plain)
    if isinstance(run, Mapping):
        lists = [run.get("test_results"), run.get("testCases"), run.get("conversationalTestCases")]
        if any(isinstance(one, list) for one in lists):
            return [case for one in lists if isinstance(one, list) for case in one]
    return None


def read(source: Source) -> Iterator[Tasked]:
    """Yield the rows of a results file: one try. Raises UsageError."""
    cases = cases_of(json_object(source.path))
    if cases is None:
        raise UsageError(f"{source.shown}: neither test_results nor testCases: not DeepEval's")
    source.default_metric = PASS
    asked: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for number, case in enumerate(cases, start=1):
        metrics = case.get("metrics_data", case.get("metricsData")) if isinstance(case, dict) else 0
        if not isinstance(case, dict) or not isinstance(metrics, list):
            raise UsageError(f"{source.shown}:{number}: a test case without metrics")
        question = digest([case.get("input"), case.get("turns")])
        expected = case.get("expected_output", case.get("expectedOutput"))
        name = str(case.get("name") or short_name(str(case.get("input") or f"case {number}")))
        if asked.setdefault(name, question) != question:
            name = f"{name} ~{question[:6]}"
        metadata = case.get("metadata") or case.get("additionalMetadata") or {}
        failed = [m for m in metrics if m.get("error")]
        row = ScoreRow(
            line=number,
            case=name,
            who=source.name,
            metric=PASS,
            score=None if failed else float(bool(case.get("success"))),
            repeat=str(seen[name]),
            cluster=str(metadata.get("cluster") or ""),
            slice=str(metadata.get("slice") or ""),
            content="" if expected is None else digest(expected),
            reply=digest(case.get("actual_output", case.get("actualOutput"))),
        )
        seen[name] += 1
        yield "", row
        for metric in metrics:
            called = str(metric.get("name"))
            value = None if metric.get("error") else metric.get("score")
            score = fraction(value, called, source=source)
            yield "", row._replace(metric=called, score=score, reply=None)

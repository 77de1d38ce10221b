"""Spans of an application's trace: their time, their errors, how many there are."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from harness import Miss, Reply, UsageError, checks
from harness.checks.base import Unmeasured

Reason = Callable[..., str]
START = 1_700_000_000_000_000_000


def otlp(name: str, milliseconds: float | None, **more: Any) -> dict[str, Any]:
    """A span as OTLP's JSON has it."""
    end = {} if milliseconds is None else {"endTimeUnixNano": str(START + int(milliseconds * 1e6))}
    return {"name": name, "startTimeUnixNano": str(START), **end, **more}


def of(*spans: Any) -> Reply:
    return Reply(text="", spans=spans)


def attribute(key: str, **value: Any) -> dict[str, Any]:
    return {
        "attributes": [{"key": "other", "value": {"intValue": "1"}}, {"key": key, "value": value}]
    }


# the trace that promptfoo's own tests of `trace-span-duration` have
THEIRS = of(
    otlp("llm.completion", 500),
    otlp("llm.chat", 1200),
    otlp("database.query", 50),
    otlp("api.request", 2000),
    otlp("llm.unfinished", None),
)


def test_a_span_is_bounded_in_time() -> None:
    assert checks.span_duration(THEIRS, 2.0)
    assert checks.span_duration(THEIRS, 1.2, name="llm.*")
    assert checks.span_duration(THEIRS, 0.1, name="DATABASE.QUER?")
    assert checks.span_duration(THEIRS, 0.1, name="nothing.of.the.kind")
    assert checks.span_duration(THEIRS, 0.1, name="llm.unfinished")


def test_the_slowest_are_named_first(reason: Reason) -> None:
    told = reason(checks.span_duration, THEIRS, 1.0)
    assert told == (
        "span_duration: the slowest of 4 spans called '*' took 2.000 s, over 1 s\n"
        "  api.request: 2.000 s\n  llm.chat: 1.200 s"
    )


@pytest.mark.parametrize(("percentile", "seconds"), [(25, 0.05), (50, 0.5), (75, 1.2), (95, 2.0)])
def test_a_percentile_is_that_of_the_nearest_rank(percentile: float, seconds: float) -> None:
    assert checks.span_duration(THEIRS, seconds, percentile=percentile)
    assert checks.no.span_duration(THEIRS, seconds - 0.001, percentile=percentile)


def test_a_rank_that_is_whole_is_not_rounded_up() -> None:
    """7 / 100 * 100 is a little more than 7."""
    hundred = of(*({"name": "a", "duration_s": n} for n in range(1, 101)))
    assert checks.span_duration(hundred, 7, percentile=7)


@pytest.mark.parametrize(
    "span",
    [
        # OTLP, by number and by name; and what the SDK of Python writes
        {"status": {"code": 2, "message": "no route"}},
        {"status": {"code": "STATUS_CODE_ERROR"}},
        {"status": {"status_code": "ERROR", "description": "ValueError: x"}},
        {"status": {"status_code": "UNSET", "description": "request aborted"}},
        {"error": "timed out"},
        {"error": True},
        attribute("error", boolValue=True),
        attribute("failed", stringValue="true"),
        attribute("http.status_code", intValue="500"),
        attribute("http.response.status_code", stringValue="404"),
        attribute("error.type", stringValue="TimeoutError"),
        {"attributes": {"exception": {"type": "ValueError"}}},
        {"attributes": {"otel.status_code": "ERROR"}},
        {"attributes": {"http.status_code": 503}},
    ],
)
def test_an_error_is_told_however_a_span_says_it(span: dict[str, Any], reason: Reason) -> None:
    told = reason(checks.span_errors, of({"name": "a"}, {"name": "step", **span}))
    assert "1 of 2 spans called '*' ended in an error, expected at most 0\n  step: " in told


@pytest.mark.parametrize(
    "span",
    [
        {"status": {}},
        {"status": {"code": 1}},
        {"status": {"status_code": "OK"}},
        {"status": None, "attributes": None},
        {"error": None},
        attribute("error", boolValue=False),
        attribute("http.status_code", intValue="200"),
        {"attributes": {"http.status_code": 302, "failure": "false"}},
        {"attributes": [1, {"key": "x"}, {"value": 1}]},
    ],
)
def test_what_went_well_is_no_error(span: dict[str, Any]) -> None:
    assert checks.span_errors(of({"name": "step", **span})).value == 1


def test_errors_are_bounded_by_count_by_share_and_by_name() -> None:
    some = of({"name": "api.a", "error": "x"}, {"name": "api.b"}, {"name": "db"}, {"name": "db"})
    assert checks.span_errors(some, at_most=1).value == 0.75
    assert checks.span_errors(some, at_most_share=0.25)
    assert checks.span_errors(some, name="db")
    assert checks.span_errors(some, name="nothing")
    assert checks.no.span_errors(some, at_most_share=0.2)
    assert checks.no.span_errors(some, name="*API*", at_most_share=0.4)
    assert checks.no.span_errors(some, at_most=1, at_most_share=0.1)
    with pytest.raises(Miss) as caught:
        checks.span_errors(some)
    assert caught.value.value == 0.75


def test_spans_are_counted_by_name(reason: Reason) -> None:
    some = of(*({"name": f"retrieve_document_{n}"} for n in range(3)), {"name": "rag"})
    assert checks.span_count(some, "retrieve_document_*", at_least=3, at_most=3)
    assert checks.no.span_count(some, "retrieve_document_?", at_most=2)
    assert "0 spans called 'r.g'; expected at least 1" in reason(
        checks.span_count, some, "r.g", at_least=1
    )


def test_a_name_is_no_pattern_but_for_its_stars() -> None:
    some = of({"name": "tool[0].run\n"}, {"name": "tool0xrun"})
    assert checks.span_count(some, "TOOL[0].run?", at_least=1, at_most=1)
    assert checks.span_count(some, "tool*run*", at_least=2)
    long = of({"name": "a" * 1_000_000})
    start = time.perf_counter()
    assert checks.span_count(long, "*a*a*a*a*b", at_most=0)
    assert time.perf_counter() - start < 1


def test_a_span_of_the_sdk_has_its_times_as_text() -> None:
    span = {
        "name": "step",
        "start_time": "2026-01-02T03:04:05.000000Z",
        "end_time": "2026-01-02T03:04:06.500000Z",
        "status": {"status_code": "UNSET"},
        "attributes": {},
    }
    assert checks.span_duration(of(span), 1.5)
    assert checks.no.span_duration(of(span), 1.49)


def test_a_reply_without_spans_is_unmeasured_and_no_miss() -> None:
    for check, given in (
        (checks.span_errors, {}),
        (checks.span_duration, {"at_most_s": 1}),
        (checks.span_count, {"at_least": 1}),
        (checks.no.span_errors, {}),
    ):
        with pytest.raises(Unmeasured, match="reported no spans"):
            check(Reply(text="x"), **given)


@pytest.mark.parametrize(
    ("spans", "told"),
    [
        (({"title": "x"},), "span 0 has no name"),
        (({"name": "a"}, 7), "span 1 has no name: 7"),
        (({"name": "a", "duration_s": "soon"},), "span 0, 'a': could not convert"),
        (({"name": "a", "duration_s": -1},), "span 0, 'a': it took -1 s"),
        (({"name": "a", "start_time": 1, "end_time": 2},), "span 0, 'a': "),
    ],
)
def test_what_is_no_span_is_told_with_its_place(spans: tuple[Any, ...], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        checks.span_duration(of(*spans), 1)
    assert told in str(caught.value)


def test_what_is_asked_wrongly_is_refused() -> None:
    for call in (
        lambda: checks.span_duration(THEIRS, 1, percentile=0),
        lambda: checks.span_errors(THEIRS, at_most_share=5),
        lambda: checks.span_count(THEIRS, "a"),
        lambda: checks.span_count(THEIRS, "", at_least=1),
        lambda: checks.span_errors("text"),
    ):
        with pytest.raises(UsageError):
            call()

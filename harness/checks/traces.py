"""Tells what an application did on the way to its reply, by the spans of its trace.

Knows no tracer. A `python:` or `http:` candidate hands them on as `Reply.spans`, each in one of
three shapes: OTLP's JSON (`startTimeUnixNano`, `status.code`), what `span.to_json()` of
OpenTelemetry's SDK writes, read as JSON (`start_time`, `status.status_code`), or plainly
`{"name": "search", "duration_s": 0.2, "error": "timed out"}`. A reply without spans is no
measurement: its score is unknown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import translate
from typing import Any

from harness.checks.base import (
    CheckResult,
    Unmeasured,
    held,
    lines,
    miss,
    printable,
    shorten,
    show,
)
from harness.errors import UsageError
from harness.records import Json, Reply

_BAD_STATUS = {"2", "ERROR", "STATUS_CODE_ERROR", "STATUSCODE.ERROR"}
_FLAGS = ("error", "exception", "failed", "failure")
_STATUSES = ("otel.status_code", "status.code")
_HTTP = ("http.response.status_code", "http.status_code")
_WORDS = re.compile(r"error|failed|failure|exception|timeout|abort", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span. `took_s` is None where it has no end, `problem` empty where it went well."""

    name: str
    took_s: float | None = None
    problem: str = ""

    @property
    def title(self) -> str:
        """The name, fit for a reason: an application wrote it."""
        return printable(shorten(self.name, 60))


def span_duration(
    reply: Reply, at_most_s: float, *, name: str = "*", percentile: float | None = None
) -> CheckResult:
    """Hold where every span called `name` (`*` and `?` stand for any characters, case does not
    matter) took at most `at_most_s` seconds, or their `percentile` (nearest rank) did. Spans
    without an end are left out; where there is none of that name, it holds.
    """
    if percentile is not None and not 0 < percentile <= 100:
        raise UsageError(f"span_duration: percentile is above 0, at most 100, not {percentile!r}")
    some = _called(reply, name, check="span_duration")
    timed = sorted(
        ((span.took_s, span) for span in some if span.took_s is not None),
        key=lambda pair: -pair[0],
    )
    if not timed:
        return held("span_duration", f"no span called {show(name)} has an end")
    rank = 0 if percentile is None else len(timed) - math.ceil(percentile * len(timed) / 100)
    value = timed[rank][0]
    whose = "the slowest" if percentile is None else f"percentile {percentile:g}"
    reason = f"{whose} of {_many(len(timed))} called {show(name)} took {value:.3f} s"
    if value > at_most_s:
        slow = [f"{span.title}: {took:.3f} s" for took, span in timed if took > at_most_s]
        raise miss("span_duration", f"{reason}, over {at_most_s:g} s\n  {lines(slow)}")
    return held("span_duration", f"{reason}, within {at_most_s:g} s")


def span_errors(
    reply: Reply,
    *,
    at_most: int | None = None,
    at_most_share: float | None = None,
    name: str = "*",
) -> CheckResult:
    """Hold where at most so many spans called `name`, or such a share of them, ended in an error
    (none, unless said). The score is the share that did not.

    An error is told by the span's status, an HTTP status of 400 or more, an attribute `error`,
    `exception`, `failed`, `failure` or `error.type`, or the words of its status.
    """
    if at_most_share is not None and not 0 <= at_most_share <= 1:
        raise UsageError(f"span_errors: at_most_share is between 0 and 1, not {at_most_share!r}")
    some = _called(reply, name, check="span_errors")
    bad = [span for span in some if span.problem]
    limit = 0 if at_most is None and at_most_share is None else at_most
    share = len(bad) / len(some) if some else 0.0
    reason = f"{len(bad)} of {_many(len(some))} called {show(name)} ended in an error"
    over = limit is not None and len(bad) > limit
    over |= at_most_share is not None and share > at_most_share + 1e-9
    if over:
        bounds = [f"{limit}"] if limit is not None else []
        bounds += [f"a share of {at_most_share:g}"] if at_most_share is not None else []
        told = lines([f"{span.title}: {printable(shorten(span.problem, 100))}" for span in bad])
        raise miss(
            "span_errors",
            f"{reason}, expected at most {' and '.join(bounds)}\n  {told}",
            value=min(1.0 - share, 0.999),
        )
    return held("span_errors", reason, value=1.0 - share)


def span_count(
    reply: Reply, name: str = "*", *, at_least: int = 0, at_most: int | None = None
) -> CheckResult:
    """Hold where so many spans are called `name` (`*` and `?` stand for any characters)."""
    if not at_least and at_most is None:
        raise UsageError("span_count: give at_least, at_most, or both")
    some = _called(reply, name, check="span_count")
    names = sorted({span.title for span in some})
    reason = f"{_many(len(some))} called {show(name)}"
    reason += f": {', '.join(names[:8])}" if names else ""
    if len(some) < at_least or (at_most is not None and len(some) > at_most):
        wanted = f"at least {at_least}" if at_most is None else f"{at_least} to {at_most}"
        raise miss("span_count", f"{reason}; expected {wanted}")
    return held("span_count", reason)


def _many(spans: int) -> str:
    return f"{spans} span{'s' if spans != 1 else ''}"


def _called(reply: Reply, name: str, *, check: str) -> list[Span]:
    """Return the spans whose name fits. Raises Unmeasured where the reply carries none at all."""
    if not isinstance(reply, Reply):
        raise UsageError(f"{check}: takes a Reply, not {type(reply).__name__}")
    if not isinstance(name, str) or not name:
        raise UsageError(f"{check}: name is the name of spans, `*` for any, not {name!r}")
    if not reply.spans:
        raise Unmeasured(f"{check}: the backend reported no spans, so this check cannot be asked")
    # brackets are no classes; a long name is read once, however many stars there are
    fits = re.compile(translate(name.replace("[", "[[]")), re.IGNORECASE).match
    every = [_span(plain, n, check=check) for n, plain in enumerate(reply.spans)]
    return [span for span in every if fits(span.name)]


def _span(plain: Json, number: int, *, check: str) -> Span:
    if not isinstance(plain, Mapping) or not isinstance(plain.get("name"), str):
        raise UsageError(f"{check}: span {number} has no name: {show(plain)}")
    try:
        took_s = _took_s(plain)
    except (TypeError, ValueError) as exc:
        raise UsageError(f"{check}: span {number}, {show(plain['name'])}: {exc}") from exc
    return Span(name=plain["name"], took_s=took_s, problem=_problem(plain))


def _took_s(plain: Mapping[str, Any]) -> float | None:
    """Return the seconds of a span. Raises ValueError for times that cannot be read."""
    if plain.get("duration_s") is not None:
        took = float(plain["duration_s"])
    elif plain.get("startTimeUnixNano") and plain.get("endTimeUnixNano"):
        took = (int(plain["endTimeUnixNano"]) - int(plain["startTimeUnixNano"])) / 1e9
    elif plain.get("start_time") and plain.get("end_time"):
        start, end = (datetime.fromisoformat(plain[key]) for key in ("start_time", "end_time"))
        took = (end - start).total_seconds()
    else:
        return None
    if not 0 <= took < math.inf:
        raise ValueError(f"it took {took:g} s")
    return took


def _problem(plain: Mapping[str, Any]) -> str:
    """Return how a span says that it failed, or nothing."""
    status = plain.get("status")
    status = status if isinstance(status, Mapping) else {"code": status}
    code = status.get("status_code", status.get("code"))
    said = str(status.get("description") or status.get("message") or "")
    if str(code).upper() in _BAD_STATUS:
        return said or "status ERROR"
    facts = _attributes(plain.get("attributes"))
    if plain.get("error"):
        return str(plain["error"])
    for key in _FLAGS:
        value = facts.get(key)
        if value is True or value == "true" or isinstance(value, Mapping):
            return f"{key} is set"
    if facts.get("error.type"):
        return str(facts["error.type"])
    if any(str(facts.get(key)).upper() == "ERROR" for key in _STATUSES):
        return "status ERROR"
    for key in _HTTP:
        if re.fullmatch(r"[45]\d\d", str(facts.get(key, ""))):
            return f"HTTP {facts[key]}"
    return said if _WORDS.search(said) else ""


def _attributes(given: Any) -> Mapping[str, Any]:
    """Return attributes as an object: OTLP lists them as keys with typed values."""
    if isinstance(given, Mapping):
        return given
    rows = given if isinstance(given, Sequence) and not isinstance(given, str) else ()
    found = {}
    for row in rows:
        value = row.get("value") if isinstance(row, Mapping) else None
        if isinstance(value, Mapping) and len(value) == 1:
            found[str(row.get("key"))] = next(iter(value.values()))
    return found

"""Tells whether a reply is the query that this house means by the question.

Only `parses` wants the bare JSON that the query API takes; the others read the first JSON object
of the reply, so that a fence around a right query costs one score and not four.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from harness import Case, Miss, Reply, checks

Query = dict[str, Any]
SCHEMA = json.loads(Path(__file__).with_name("query.schema.json").read_text(encoding="utf-8"))


def test_parses(reply: Reply) -> None:
    checks.json(reply)


def test_valid(case: Case, reply: Reply) -> None:
    query = read(reply)
    unknown = sorted(set(columns_of(query)) - set(case.inputs["columns"]))
    if unknown:
        raise Miss(f"columns that this team does not have: {', '.join(unknown)}")
    calculations = {(c["op"], c.get("column")) for c in query["calculations"]}
    for order in query.get("orders", ()):
        key = (order.get("op"), order.get("column"))
        if key not in calculations and not (key[0] is None and key[1] in breakdowns(query)):
            raise Miss(f"ordered by {order}, which is neither calculated nor broken down by")
    for having in query.get("havings", ()):
        if (having["calculate_op"], having.get("column")) not in calculations:
            raise Miss(f"having {having}, which is not calculated")


def test_same_query(case: Case, reply: Reply) -> None:
    checks.json_equal(
        normal(checks.json(reply, within=True)),
        normal(case.reference),
        unordered=["calculations", "filters", "filters[*].value", "breakdowns", "havings"],
    )


def test_house_rules(case: Case, reply: Reply) -> None:
    query = read(reply)
    broken = [r.says for r in rules_for(case.inputs["question"]) if not r.is_kept(query)]
    if broken:
        raise Miss("house rules broken: " + "; ".join(broken))


# ---------------------------------------------------------------- reading a query


def read(reply: Reply) -> Query:
    """Return the query in the reply, where the schema accepts it."""
    query: Query = checks.json_schema(reply, SCHEMA, within=True)
    return query


def normal(query: Any) -> Any:
    """Return the query without what changes nothing: empty lists, and the default AND."""
    if not isinstance(query, dict):
        return query
    kept = {k: v for k, v in query.items() if v not in ([], None)}
    filters = kept.get("filters")
    is_alone = not isinstance(filters, list) or len(filters) < 2
    if is_alone or kept.get("filter_combination") == "AND":
        kept.pop("filter_combination", None)
    return kept


def columns_of(query: Query) -> Iterator[str]:
    """Name every column that the query uses."""
    yield from query.get("breakdowns", ())
    for part in ("calculations", "filters", "orders", "havings"):
        yield from (entry["column"] for entry in query.get(part, ()) if "column" in entry)


def breakdowns(query: Query) -> list[str]:
    """Return the columns that the query groups by."""
    return list(query.get("breakdowns", ()))


def calculates(query: Query, op: str, column: str | None = None) -> bool:
    """Tell whether the query has this calculation."""
    return {"op": op} | ({"column": column} if column else {}) in query["calculations"]


def filters(query: Query, column: str, op: str, value: Any = None) -> bool:
    """Tell whether the query has this filter."""
    entry = {"column": column, "op": op} | ({} if value is None else {"value": value})
    return entry in query.get("filters", ())


# ---------------------------------------------------------------- the house rules


class Rule(NamedTuple):
    """A house rule: the words that call for it, the test of a query, and how a miss says it."""

    name: str
    words: re.Pattern[str]
    is_kept: Callable[[Query], bool]
    says: str


def rule(name: str, words: str, is_kept: Callable[[Query], bool], says: str) -> Rule:
    """Return a rule; `words` is a regular expression over the lower-case question."""
    return Rule(name, re.compile(words), is_kept, says)


SLOW = "slow|slowest|sluggish|crawling"
TIME = "last|past|today|this week|right now|just now"
RULES = (
    rule(
        "default-range",
        rf"^(?!.*\b({TIME})\b)",
        lambda q: q["time_range"] == 7200,
        "no time named means time_range 7200",
    ),
    rule(
        "slow",
        rf"\b({SLOW})\b",
        lambda q: (
            calculates(q, "HEATMAP", "duration_ms")
            and calculates(q, "MAX", "duration_ms")
            and filters(q, "trace.parent_id", "does-not-exist")
        ),
        "slow means HEATMAP and MAX of duration_ms over root spans",
    ),
    rule(
        "latency",
        r"^(?!.*\btail\b).*\b(latency|response times?)\b",
        lambda q: calculates(q, "HEATMAP", "duration_ms"),
        "latency means HEATMAP of duration_ms",
    ),
    rule(
        "tail",
        r"\btail\b",
        lambda q: calculates(q, "P99", "duration_ms"),
        "the tail means P99 of duration_ms",
    ),
    rule(
        "customers",
        r"\b(customers?|users?|people)\b",
        lambda q: calculates(q, "COUNT_DISTINCT", "user.id"),
        "customers, users and people mean COUNT_DISTINCT of user.id",
    ),
    rule(
        "5xx",
        r"\b(5xx|server errors)\b",
        lambda q: filters(q, "http.response.status_code", ">=", 500),
        "5xx means http.response.status_code >= 500",
    ),
    rule(
        "errors",
        r"(?<!server )\b(errors|failures|failing)\b",
        lambda q: filters(q, "error", "=", True),
        "errors and failures mean error = true",
    ),
    rule(
        "requests",
        rf"^(?!.*\b({SLOW})\b).*\b(traffic|busy|requests?)\b(?! body)",
        lambda q: filters(q, "trace.parent_id", "does-not-exist"),
        "requests and traffic mean root spans: trace.parent_id does-not-exist",
    ),
    rule(
        "top",
        r"\btop\b",
        lambda q: {"op": "COUNT", "order": "descending"} in q.get("orders", ()) and "limit" in q,
        "top N means ordered by COUNT, descending, with that limit",
    ),
    rule(
        "worst",
        r"\bworst\b",
        lambda q: (
            {"op": "P95", "column": "duration_ms", "order": "descending"} in q.get("orders", ())
            and q.get("limit") == 5
        ),
        "worst means ordered by P95 of duration_ms, descending, limit 5",
    ),
    rule(
        "noisy",
        r"\b(noisy|chatty)\b",
        lambda q: {"calculate_op": "COUNT", "op": ">", "value": 1000} in q.get("havings", ()),
        "noisy means having COUNT > 1000",
    ),
)


def rules_for(question: str) -> list[Rule]:
    """Return the rules that the words of `question` call for."""
    return [rule for rule in RULES if rule.words.search(question.lower())]

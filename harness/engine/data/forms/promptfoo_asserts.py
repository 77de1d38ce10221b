"""promptfoo's asserts as checks of ours, and back, where they mean the same. Knows no rows.

promptfoo's score of a test is the mean of its asserts by `weight`, and it passes where that reaches
the test's `threshold`; without one every assert must hold, whatever its weight, but for one of
weight 0: that is measured, and cannot fail. Here it is the check `several`, whose mean counts an
assert that does not hold as 0, as promptfoo does for each of the types below.
Source: https://www.promptfoo.dev/docs/configuration/expected-outputs, and promptfoo 0.121's
`AssertionsResult`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.engine.data.forms.base import is_objects, is_texts
from harness.records import Json

SIMPLE: dict[str, tuple[str, str, dict[str, Json]]] = {
    "contains": ("contains", "text", {}),
    "icontains": ("contains", "text", {"normalise": ["case"]}),
    "starts-with": ("starts_with", "text", {}),
    "regex": ("regex", "pattern", {}),
    "contains-any": ("contains_any", "texts", {}),
    "contains-all": ("contains_all", "texts", {}),
    "icontains-any": ("contains_any", "texts", {"normalise": ["case"]}),
    "icontains-all": ("contains_all", "texts", {"normalise": ["case"]}),
    "webhook": ("webhook", "url", {}),
}
"""An assert's type, and the check, its argument and further arguments that mean the same."""
LISTS = {"contains-any", "contains-all", "icontains-any", "icontains-all"}
BOUNDED: dict[str, tuple[str, str, float]] = {
    "latency": ("latency", "at_most_s", 1000.0),
    "cost": ("cost", "at_most_usd", 1.0),
}
"""An assert's type whose `threshold` is all it says: the check, its argument, and how many of
theirs (milliseconds) are one of ours.
"""
SPANS: dict[str, tuple[str, dict[str, tuple[str, float]]]] = {
    "trace-error-spans": (
        "span_errors",
        {"max_count": ("at_most", 1), "max_percentage": ("at_most_share", 100.0)},
    ),
    "trace-span-count": ("span_count", {"min": ("at_least", 1), "max": ("at_most", 1)}),
    "trace-span-duration": (
        "span_duration",
        {"max": ("at_most_s", 1000.0), "percentile": ("percentile", 1)},
    ),
}
"""An assert's type; the check, and for each number of its `value` our argument and how many of
theirs are one of ours.
"""
CLASSIFIERS = re.compile(r"(?:huggingface|hf):text-classification:([\w.-]+(?:/[\w.-]+)?)")
"""A `provider` of `classifier`, with the name of its model on the hub: the same weights, asked
there of a service, here on this machine.
"""
NEAR = 5
"""promptfoo's threshold of `levenshtein` where none is given."""
BESIDE = frozenset({"weight", "metric"})
"""What an assert may carry that does not change whether it holds."""


def is_only_measured(one: Json) -> bool:
    """Whether an assert cannot fail: its weight is 0."""
    return isinstance(one, Mapping) and _is_number(one.get("weight")) and one["weight"] == 0


def check_of(one: Mapping[str, Json]) -> Json | None:
    """Return the check that holds where an assert does; None where there is none."""
    if str(one["type"]).removeprefix("not-") == "classifier":
        return _classifier(one)
    if one["type"] == "pi":
        return _pi(one)
    if one.keys() - {"type", "value", "threshold", *BESIDE}:
        return None
    kind, value = str(one["type"]), one.get("value")
    bound: Any = one.get("threshold")
    negated = "no." if kind.startswith("not-") else ""
    kind = kind.removeprefix("not-")
    if kind in SPANS:
        arguments = _of_spans(kind, value) if bound is None else None
        check = {"name": f"{negated}{SPANS[kind][0]}", "arguments": arguments}
        return None if arguments is None else check
    if _is_number(bound):
        if kind in BOUNDED and value is None:
            name, argument, unit = BOUNDED[kind]
            return {"name": negated + name, "arguments": {argument: bound / unit}}
        if kind != "levenshtein":
            return None
    elif bound is not None:
        return None
    if kind == "levenshtein" and isinstance(value, str):
        at_most = NEAR if bound is None else bound
        arguments = {"expected": value, "at_most": int(at_most)}
        return {"name": f"{negated}edit_distance", "arguments": arguments} if at_most >= 0 else None
    if kind == "is-json" and value is None:
        return {"name": f"{negated}json", "arguments": {}}
    if kind == "is-json" and isinstance(value, Mapping):
        return {"name": f"{negated}json_schema", "arguments": {"schema": value}}
    if kind == "contains-json" and value is None:
        return {"name": f"{negated}contains_json", "arguments": {}}
    if kind == "equals" and isinstance(value, str):
        arguments = {"expected": value, "normalise": []}
        return {"name": f"{negated}equals", "arguments": arguments}
    if kind not in SIMPLE or (is_texts(value) if kind not in LISTS else not is_texts(value)):
        return None
    if kind not in LISTS and not isinstance(value, str):
        return None
    name, argument, more = SIMPLE[kind]
    return {"name": f"{negated}{name}", "arguments": {argument: value, **more}}


def _classifier(one: Mapping[str, Json]) -> Json | None:
    label, provider, bound = one.get("value"), one.get("provider"), one.get("threshold")
    match = CLASSIFIERS.fullmatch(provider) if isinstance(provider, str) else None
    at_least: Any = 1.0 if bound is None else bound  # theirs where none is given
    is_plain = not one.keys() - {"type", "value", "threshold", "provider", *BESIDE}
    if match is None or not is_plain or not isinstance(label, str):
        return None
    if not _is_number(at_least) or not 0 <= at_least <= 1:
        return None
    name = "no.classifier" if str(one["type"]).startswith("not-") else "classifier"
    arguments = {"label": label, "model": match[1], "at_least": at_least}
    return {"name": name, "arguments": arguments}


def _pi(one: Mapping[str, Json]) -> Json | None:
    question, bound = one.get("value"), one.get("threshold")
    at_least: Any = 0.5 if bound is None else bound  # theirs where none is given
    is_plain = not one.keys() - {"type", "value", "threshold", *BESIDE}
    if not is_plain or not isinstance(question, str) or not question.strip():
        return None
    if not _is_number(at_least) or not 0 <= at_least <= 1:
        return None
    return {"name": "pi", "arguments": {"question": question, "at_least": at_least}}


def _of_spans(kind: str, value: Json) -> dict[str, Json] | None:
    """Return our arguments of an assert on spans; None where it says what ours do not."""
    if kind == "trace-error-spans" and (value is None or _is_number(value)):
        value = {} if value is None else {"max_count": value}
    numbers = SPANS[kind][1]
    if not isinstance(value, Mapping) or value.keys() - {"pattern", *numbers}:
        return None
    found: dict[str, Json] = {}
    if "pattern" in value:
        if not isinstance(value["pattern"], str) or not value["pattern"]:
            return None
        found["name"] = value["pattern"]
    for theirs, (ours, unit) in numbers.items():
        if value.get(theirs) is not None:
            if not _is_number(value[theirs]):
                return None
            found[ours] = value[theirs] if unit == 1 else value[theirs] / unit
    if kind == "trace-span-count":
        is_whole = "name" in found and ("at_most" in found or bool(found.get("at_least")))
    elif kind == "trace-span-duration":
        is_whole = "at_most_s" in found and 0 < found.get("percentile", 100) <= 100
    else:
        is_whole = 0 <= found.get("at_most_share", 0) <= 1
    return found if is_whole else None


def several_of(
    asserts: Sequence[Mapping[str, Json]],
    threshold: Json,
    *,
    known: Callable[[Mapping[str, Json]], Json | None],
) -> Json | None:
    """Return the check that holds where the asserts reach `threshold` together; None where one of
    them is no check of ours, for the mean of the others would be another one.
    """
    rows = []
    for one in asserts:
        weight = one.get("weight", 1)
        if is_only_measured(one):
            continue
        check = known(one)
        if check is None or not _is_number(weight) or weight < 0:
            return None
        rows.append(check | ({} if weight == 1 else {"weight": weight}))
    if not rows or not _is_number(threshold) or not 0 <= threshold <= 1:
        return None
    return {"name": "several", "arguments": {"checks": rows, "at_least": threshold}}


def assert_of(check: Json) -> Json | None:
    """Return the assert that means the same as a check; None where there is none."""
    given = check.get("arguments") or {}
    if not isinstance(given, Mapping):
        return None
    name, arguments = str(check.get("name")), dict(given)
    if name == "several":
        return _set_of(arguments)
    before = "not-" if name.startswith("no.") else ""
    name = name.removeprefix("no.")
    if name == "json" and not arguments:
        return {"type": f"{before}is-json"}
    if name == "contains_json" and not arguments:
        return {"type": f"{before}contains-json"}
    if name == "json_schema" and arguments.keys() == {"schema"}:
        return {"type": f"{before}is-json", "value": arguments["schema"]}
    if name == "edit_distance" and arguments.keys() == {"expected", "at_most"}:
        value, bound = arguments["expected"], arguments["at_most"]
        return {"type": f"{before}levenshtein", "value": value, "threshold": bound}
    if name == "equals" and before and arguments.get("normalise") == []:
        return {"type": "not-equals", "value": arguments["expected"]}
    if name == "classifier" and {"label", "model"} == arguments.keys() - {"at_least"}:
        return _classifier_of(before, arguments)
    if name == "pi" and arguments.keys() == {"question", "at_least"} and not before:
        told = {"type": "pi", "value": arguments["question"], "threshold": arguments["at_least"]}
        return told if _pi(told) is not None else None
    for kind, (ours, numbers) in SPANS.items():
        if name == ours:
            return _assert_of_spans(before + kind, arguments, numbers)
    for kind, (ours, argument, unit) in BOUNDED.items():
        if name == ours and arguments.keys() == {argument} and _is_number(arguments[argument]):
            return {"type": before + kind, "threshold": arguments[argument] * unit}
    for kind, (ours, argument, more) in SIMPLE.items():
        is_same = name == ours and arguments.keys() == {argument, *more}
        if is_same and all(arguments[k] == v for k, v in more.items()):
            return {"type": before + kind, "value": arguments[argument]}
    return None


def _classifier_of(before: str, arguments: Mapping[str, Any]) -> Json | None:
    told = {
        "type": f"{before}classifier",
        "provider": f"huggingface:text-classification:{arguments['model']}",
        "value": arguments["label"],
        "threshold": arguments.get("at_least", 0.5),
    }
    # a folder is no name of a hub, and several labels are none of promptfoo's
    return told if _classifier(told) is not None else None


def _assert_of_spans(
    kind: str, arguments: Mapping[str, Any], numbers: Mapping[str, tuple[str, float]]
) -> Json | None:
    value = {"pattern": arguments["name"]} if "name" in arguments else {}
    for theirs, (ours, unit) in numbers.items():
        if _is_number(arguments.get(ours)):
            value[theirs] = arguments[ours] if unit == 1 else arguments[ours] * unit
    told = {"type": kind, "value": value}
    # said again, it must be the same check: what promptfoo has no word for is none of its asserts
    return told if (check_of(told) or {}).get("arguments") == dict(arguments) else None


def _set_of(arguments: Mapping[str, Any]) -> Json | None:
    rows: Any = arguments.get("checks")
    inner: list[dict[str, Any]] = []
    if not is_objects(rows):
        return None
    for row in rows:
        plain: Mapping[str, Any] = row.get("arguments") or {}
        one = assert_of(row)
        is_equal = row.get("name") == "equals" and isinstance(plain, Mapping)
        if is_equal and plain.keys() == {"expected", "normalise"} and plain["normalise"] == []:
            one = {"type": "equals", "value": plain["expected"]}
        if one is None or one["type"] == "assert-set":
            return None
        inner.append(one | ({"weight": row["weight"]} if row.get("weight", 1) != 1 else {}))
    return {"type": "assert-set", "threshold": arguments.get("at_least", 1.0), "assert": inner}


def _is_number(value: Json) -> bool:
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and abs(value) < 1e300  # a larger whole number is no float

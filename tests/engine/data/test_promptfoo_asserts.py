"""Asserts of promptfoo as checks: what decides a test there decides the case here."""

from __future__ import annotations

from typing import Any

import pytest

from harness import Miss, Reply, checks
from harness.checks.registry import binding, names_in
from harness.engine.data.forms.promptfoo import parse, write, write_table
from harness.engine.data.forms.promptfoo_asserts import assert_of, check_of
from harness.records import Json

HELLO = {"type": "icontains", "value": "hello"}
BYE = {"type": "not-contains", "value": "bye", "weight": 3, "metric": "tone"}


def of(*asserts: Json, **more: Json) -> dict[str, Any]:
    """What a test with these asserts brings beside its inputs."""
    return dict(parse({"vars": {"q": "?"}, "assert": list(asserts), **more}, "x:1").other)


def holds(check: Json, text: str) -> bool:
    try:
        checks.run(
            check["name"], Reply(text=text, latency_s=0.2, cost_usd=0.01), check["arguments"]
        )
    except Miss:
        return False
    return True


def test_without_a_threshold_every_assert_must_hold_and_the_name_of_a_score_is_told() -> None:
    found = of(HELLO, BYE)
    assert [c["name"] for c in found["checks"]] == ["contains", "no.contains"]
    assert found["metric"] == ["tone"]
    assert "assert" not in found


def test_with_a_threshold_the_weights_decide() -> None:
    found = of(HELLO, BYE, threshold=0.7)
    assert found.keys() == {"checks", "metric"}
    [check] = found["checks"]
    assert [holds(check, t) for t in ("Hello", "nothing", "Hello, bye", "bye")] == [
        True,
        True,  # 3 of 4 by weight
        False,
        False,
    ]
    [told] = write(parse({"vars": {"q": "?"}, "assert": [HELLO, BYE], "threshold": 0.7}, "x"))[
        "assert"
    ]
    assert of(told)["checks"] == [check]  # written as a set, and read again


def test_what_weighs_nothing_cannot_fail_and_is_told_as_not_carried() -> None:
    idle = {**BYE, "weight": 0}
    found = of(HELLO, idle)
    assert [c["name"] for c in found["checks"]] == ["contains"]
    assert found["assert"] == [idle]
    assert found.keys() == {"checks", "assert"}
    only = of({"type": "equals", "value": "x", "weight": 0})
    assert "checks" not in only
    within = {"type": "assert-set", "assert": [HELLO, idle]}
    for whole in (of(within), of(within | {"threshold": 1}), of(HELLO, idle, threshold=0.5)):
        assert [name for one in whole["checks"] for name in names_in(one)][-1] == "contains"
        assert whole["assert"] == [idle]
    inside = {"type": "assert-set", "assert": [idle]}
    assert of(inside) == {"assert": [idle]}


def test_a_threshold_over_an_assert_that_is_no_check_of_ours_is_left_whole() -> None:
    rubric = {"type": "llm-rubric", "value": "is polite"}
    found = of(HELLO, rubric, threshold=0.5)
    assert found == {"threshold": 0.5, "assert": [HELLO, rubric]}  # a miss of ours is no miss there
    scored = of(HELLO, BYE, threshold=1, assertScoringFunction="file://score.js")
    assert scored["assert"] == [HELLO, BYE]
    every = of(HELLO, rubric, threshold=1)
    assert ([c["name"] for c in every["checks"]], every["assert"]) == (["contains"], [rubric])
    idle = {**rubric, "weight": 0}
    beside = of(HELLO, idle, threshold=0.5)
    assert ([c["name"] for c in beside["checks"]], beside["assert"]) == (["several"], [idle])


def test_a_set_of_asserts_is_one_check_or_all_of_its_own() -> None:
    inner = [HELLO, {**BYE, "metric": "x"}]
    assert [c["name"] for c in of({"type": "assert-set", "assert": inner})["checks"]] == [
        "contains",
        "no.contains",
    ]
    [check] = of({"type": "assert-set", "assert": inner, "threshold": 0.75})["checks"]
    assert holds(check, "nothing")
    assert not holds(check, "Hello, bye")
    kept = of({"type": "assert-set", "assert": [HELLO, {"type": "javascript", "value": "1"}]})
    assert [one["type"] for one in kept["assert"]] == ["assert-set"]


@pytest.mark.parametrize(
    ("one", "right", "wrong"),
    [
        ({"type": "levenshtein", "value": "kitten"}, "sitting", "a hippopotamus"),
        ({"type": "levenshtein", "value": "kitten", "threshold": 2}, "mitten", "sitting"),
        ({"type": "not-levenshtein", "value": "kitten", "threshold": 2}, "sitting", "mitten"),
        ({"type": "not-equals", "value": "no"}, "yes", "no"),
    ],
)
def test_thresholds_of_single_asserts_are_arguments(one: Json, right: str, wrong: str) -> None:
    check = check_of(one)
    assert holds(check, right)
    assert not holds(check, wrong)
    told = assert_of(check)
    assert told is not None
    assert check_of(told) == check


def test_milliseconds_and_dollars() -> None:
    assert holds(check_of({"type": "latency", "threshold": 250}), "")
    assert not holds(check_of({"type": "latency", "threshold": 150}), "")
    assert not holds(check_of({"type": "cost", "threshold": 0.001}), "")
    assert assert_of(check_of({"type": "latency", "threshold": 250})) == {
        "type": "latency",
        "threshold": 250,
    }


HUGGING = "huggingface:text-classification:org/tone-1.5"
TONE = {"type": "classifier", "provider": HUGGING, "value": "positive", "threshold": 0.8}


def test_a_classifier_is_asked_with_the_same_weights_and_written_back() -> None:
    check = check_of({**TONE, "weight": 2, "metric": "tone"})
    arguments = {"label": "positive", "model": "org/tone-1.5", "at_least": 0.8}
    assert check == {"name": "classifier", "arguments": arguments}
    assert binding(check["name"], check["arguments"])
    assert assert_of(check) == TONE
    bare = {"type": "not-classifier", "provider": "hf:text-classification:tone", "value": "rude"}
    check = check_of(bare)
    assert check["name"] == "no.classifier"
    assert check["arguments"]["at_least"] == 1  # theirs where none is given
    told = {**bare, "provider": "huggingface:text-classification:tone", "threshold": 1}
    assert assert_of(check) == told
    ours = {"name": "classifier", "arguments": {"label": "rude", "model": "org/tone"}}
    assert assert_of(ours)["threshold"] == 0.5


def test_a_classifier_of_the_case_is_filled_in_from_its_vars() -> None:
    row = {"vars": {"q": "?", "mood": "calm"}, "assert": [{**TONE, "value": "{{ mood }}"}]}
    [check] = parse(row, "x:1").other["checks"]
    assert check["arguments"]["label"] == "calm"


@pytest.mark.parametrize(
    "change",
    [
        {"value": None},
        {"provider": None},
        {"provider": {"id": HUGGING}},
        {"provider": "huggingface:token-classification:org/pii"},
        {"provider": "huggingface:text-classification:{{ model }}"},
        {"threshold": 1.5},
        {"threshold": "0.5"},
        {"transform": "output.trim()"},
    ],
)
def test_a_classifier_that_is_asked_otherwise_is_no_check(change: Json) -> None:
    assert check_of({**TONE, **change}) is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"label": ["rude", "mean"], "model": "org/tone"},
        {"label": "rude", "model": "./models/tone"},
        {"label": "rude", "model": "/models/tone"},
        {"label": "rude"},
    ],
)
def test_a_classifier_that_promptfoo_cannot_ask_is_not_written(arguments: Json) -> None:
    assert assert_of({"name": "classifier", "arguments": arguments}) is None


@pytest.mark.parametrize(
    "one",
    [
        {"type": "latency"},
        {"type": "similar", "value": "x", "threshold": 0.8},
        {"type": "contains", "value": "x", "threshold": 0.8},
        {"type": "contains", "value": "x", "transform": "output.trim()"},
        {"type": "levenshtein", "value": "x", "threshold": -1},
    ],
)
def test_what_means_something_else_is_no_check(one: Json) -> None:
    assert check_of(one) is None


# as promptfoo's page on deterministic assertions writes them
SPANS = [
    ({"type": "trace-error-spans", "value": 0}, {"at_most": 0}),
    ({"type": "trace-error-spans"}, {}),
    ({"type": "trace-error-spans", "value": {"max_count": 2}}, {"at_most": 2}),
    ({"type": "trace-error-spans", "value": {"max_percentage": 5}}, {"at_most_share": 0.05}),
    (
        {"type": "trace-error-spans", "value": {"pattern": "*api*", "max_count": 0}},
        {"name": "*api*", "at_most": 0},
    ),
    (
        {"type": "trace-span-count", "value": {"pattern": "retrieve_*", "min": 3, "max": 3}},
        {"name": "retrieve_*", "at_least": 3, "at_most": 3},
    ),
    ({"type": "trace-span-duration", "value": {"max": 5000}}, {"at_most_s": 5.0}),
    (
        {"type": "trace-span-duration", "value": {"pattern": "*q*", "max": 100, "percentile": 95}},
        {"name": "*q*", "at_most_s": 0.1, "percentile": 95},
    ),
]


@pytest.mark.parametrize(("one", "arguments"), SPANS)
@pytest.mark.parametrize("before", ["", "not-"])
def test_asserts_on_spans_are_checks_and_written_back(
    before: str, one: dict[str, Any], arguments: Json
) -> None:
    check = check_of({**one, "type": before + one["type"]})
    assert check["arguments"] == arguments
    assert check["name"].startswith("no.span_" if before else "span_")
    assert binding(check["name"], arguments)
    told = assert_of(check)
    assert told["type"] == before + one["type"]
    assert check_of(told) == check


def test_a_cell_of_csv_holds_no_assert_on_spans() -> None:
    """It would be read back as a text, and be another assert."""
    row = {"vars": {"q": "?"}, "assert": [HELLO, {"type": "is-json", "value": {"type": "array"}}]}
    told = write_table(parse(row, "x"))
    assert list(told) == ["q", "__expected", "__expected2"]
    spans = [one for one, _ in SPANS]
    assert write_table(parse({**row, "assert": [*row["assert"], *spans]}, "x")) == told


def test_a_scorer_behind_http_is_asked_at_the_same_address() -> None:
    hook = {"type": "webhook", "value": "https://scorer.example.com/validate"}
    check = check_of(hook)
    assert check == {"name": "webhook", "arguments": {"url": hook["value"]}}
    assert binding(check["name"], check["arguments"])
    assert assert_of(check) == hook
    assert check_of({**hook, "type": "not-webhook"})["name"] == "no.webhook"
    pi = {"type": "pi", "value": "Is it polite?"}
    check = check_of(pi)
    assert check == {"name": "pi", "arguments": {"question": "Is it polite?", "at_least": 0.5}}
    assert binding(check["name"], check["arguments"])
    assert assert_of(check) == {**pi, "threshold": 0.5}
    assert assert_of({"name": "pi", "arguments": {"question": ["a", "b"], "at_least": 0.5}}) is None
    timed = {"url": hook["value"], "timeout_s": 60}
    assert assert_of({"name": "webhook", "arguments": timed}) is None


@pytest.mark.parametrize(
    "one",
    [
        {"type": "trace-error-spans", "value": {"max_percentage": 500}},
        {"type": "trace-error-spans", "value": {"max_count": "2"}},
        {"type": "trace-error-spans", "value": 0, "threshold": 1},
        {"type": "trace-span-count", "value": {"pattern": "a"}},
        {"type": "trace-span-count", "value": {"pattern": "a", "min": 0}},
        {"type": "trace-span-count", "value": {"min": 1}},
        {"type": "trace-span-duration", "value": {"pattern": "a"}},
        {"type": "trace-span-duration", "value": 100},
        {"type": "trace-span-duration", "value": {"max": 1, "percentile": 0}},
        {"type": "not-pi", "value": "Is it polite?"},
        {"type": "pi", "value": ""},
        {"type": "pi", "value": "Is it polite?", "threshold": 5},
        {"type": "webhook", "value": {"url": "http://localhost/"}},
        {"type": "webhook", "value": "http://localhost/", "threshold": 0.5},
    ],
)
def test_what_says_more_or_nothing_is_no_check(one: Json) -> None:
    assert check_of(one) is None
